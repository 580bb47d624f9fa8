# `make demo` and `make test` are the two to know; each installs all it needs on a machine that has Rust, Python 3.11, Node 20, gcc, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STORE ?= $(CURDIR)/target/demo/.runtree
SERVE ?= 1
# The built UI is compiled in: without it here, `make e2e` would test the UI of before.
RUST_SOURCES := $(shell find crates python -name '*.rs' -o -name Cargo.toml | grep -v '/target/') Cargo.lock $(shell find web/dist -type f)
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print)

.PHONY: help demo test setup fmt lint tools sim py rust web web-fresh api e2e bench crowd chaos gc-scale torture power-cuts fuzz docs clean-store

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 14

# ---- installing ------------------------------------------------------------------------------------------------------------
$(VENV)/.made:
	$(PYTHON) -m venv $(VENV) 2>/dev/null || python3 -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check 'maturin>=1.16,<2'
	touch $@

$(VENV)/.package: $(VENV)/.made $(RUST_SOURCES) python/pyproject.toml $(shell find python/runtree -name '*.py*' -not -path '*/__pycache__/*')
	PATH="$(BIN):$$PATH" $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation ./python
	touch $@

$(VENV)/.demo: $(VENV)/.made
	$(BIN)/pip install -q --disable-pip-version-check 'numpy>=2' 'scikit-learn>=1.5'
	touch $@

$(VENV)/.dev: $(VENV)/.made python/requirements-dev.txt python/tests/compat/truss_requirements.txt python/tests/integrations/art_requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check -r python/requirements-dev.txt
	$(BIN)/python python/tests/compat/real_truss.py  # the real truss_train and ART; where they are missing, the tests install them
	$(BIN)/python python/tests/integrations/real_art.py
	touch $@

web/node_modules/.made: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	touch $@

target/tools/bin/cargo-deny:
	CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --no-default-features --root target/tools cargo-deny@0.20.2
	rm -rf target/tools/build

target/tools/.apt:
	@mkdir -p target/tools
	@need=(); for tool in chromium strace mkfs.xfs; do command -v $$tool >/dev/null || need+=($${tool/mkfs.xfs/xfsprogs}); done; \
	 if [ $${#need[@]} -gt 0 ]; then \
	   if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends "$${need[@]}" fonts-dejavu-core >/dev/null; \
	   else echo "make: to run the browser and power-cut tests: sudo apt-get install $${need[*]}" >&2; exit 1; fi; fi
	@touch $@

setup: $(VENV)/.package ## the release build of the package and its command, in .venv
	@$(BIN)/runtree version

# ---- the two commands ------------------------------------------------------------------------------------------------------
demo: $(VENV)/.package $(VENV)/.demo ## crash, exact resume, divergence, fork, recovery, on real data; then the UI (SERVE=0: without)
	@$(BIN)/python examples/demo/demo.py --store $(STORE)
ifneq ($(SERVE),0)
	@$(BIN)/runtree --store $(STORE) serve
endif

test: target/tools/.apt rust py web e2e power-cuts ## everything CI tests: Rust, Python, web, browser, torture in its short form

CARGO_TEST := cargo test --workspace --exclude runtree-python --all-features --quiet
rust: $(VENV)/.dev ## Rust tests and doctests: all on disk, and beside that store, engine and command line once more on a real S3 server
	$(CARGO_TEST) --no-run
	scripts/side-by-side '$(CARGO_TEST)' 'scripts/with-s3 $(CARGO_TEST) --test it -- --test-threads=4'

# `pytest`, not `python -m pytest`: that would put python/ first and test the sources without their native part.
py: $(VENV)/.package $(VENV)/.dev ## Python tests, then those about buckets with one
	cd python && $(BIN)/pytest -q --ignore=tests/torture
	cd python && ../scripts/with-s3 $(BIN)/pytest -q tests/test_stores.py tests/test_remote.py tests/buckets tests/compat -k 'stores or remote or buckets or samples or bucket'  # once more, with a bucket
	cd python && $(BIN)/pytest -q tests/torture  # a process of its own: it forks, which other tests' threads forbid

web: web/node_modules/.made ## unit tests of the UI
	cd web && npm test --silent

e2e: $(VENV)/.package $(VENV)/.demo web/node_modules/.made target/tools/.apt ## a real browser on the demo's store
	web/e2e/run.sh

# ---- keeping it good -------------------------------------------------------------------------------------------------------
fmt: $(VENV)/.dev web/node_modules/.made ## format everything
	cargo fmt
	$(BIN)/ruff format python examples bench
	$(BIN)/ruff check --fix-only -q python examples bench

# Downloads wait, and the release build computes: at once. After `web-fresh`, which writes what that compiles in.
tools:
	@$(MAKE) --no-print-directory -j4 $(VENV)/.package $(VENV)/.dev web/node_modules/.made target/tools/bin/cargo-deny target/tools/.apt

lint: web-fresh tools ## formats, clippy, import rules, docs, types, stubs, spelling
	cargo fmt --check
	cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings
	cargo clippy --package runtree-core --package runtree-metrics --no-default-features --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --quiet
	target/tools/bin/cargo-deny --log-level error check bans licenses sources
	./scripts/check-purity
	./scripts/check-test-files
	$(BIN)/typos
	$(BIN)/ruff format --check python examples bench
	$(BIN)/ruff check python examples bench
	cd python && $(BIN)/pyright --pythonpath $(BIN)/python
	cd python && $(BIN)/stubtest runtree._native
	cd web && npm run --silent lint

web-fresh: web/node_modules/.made ## proves that the committed bundle and client are what the sources build
	cd web && npm run --silent api && npm run --silent build
	@git diff --exit-code --stat -- web/dist web/src/api/schema.ts || { echo "web/dist or schema.ts is stale: commit what 'make web-fresh' built" >&2; exit 1; }
	@test -z "$$(git status --porcelain -- web/dist)" || { git status --short -- web/dist; echo "web/dist is stale: commit it" >&2; exit 1; }

api: ## rewrites the OpenAPI snapshot and the TypeScript client from the server
	UPDATE_OPENAPI=1 cargo test -p runtree-server --quiet openapi
	cd web && npm run --silent api

# ---- long ones -------------------------------------------------------------------------------------------------------------
torture: $(VENV)/.package $(VENV)/.dev target/tools/.apt ## kill -9 5,000 times, 50 power cuts on ext4 and on XFS
	cd python && RUNTREE_KILLS=5000 $(BIN)/pytest -q tests/torture
	RUNTREE_CUTS=50 scripts/power-cuts

power-cuts: $(VENV)/.package $(VENV)/.dev target/tools/.apt ## power cuts in their short form (root; says so where it can't)
	RUNTREE_CUTS=$${RUNTREE_CUTS:-50} scripts/power-cuts

crowd: $(VENV)/.package $(VENV)/.dev ## 1,000 runs by 20 processes on one store, 8 processes in one run, the UI's server asked all the while
	cd python && RUNTREE_CROWD_RUNS=1000 $(BIN)/pytest -q tests/whole/test_many_processes.py

chaos: $(VENV)/.package $(VENV)/.dev ## two hosts on one bucket that fails for 5 minutes, clocks 20 minutes apart, 50 kills
	cd python && RUNTREE_CHAOS_SECONDS=$${RUNTREE_CHAOS_SECONDS:-300} RUNTREE_CHAOS_KILLS=$${RUNTREE_CHAOS_KILLS:-50} \
	  ../scripts/with-s3 $(BIN)/pytest -q -rP tests/buckets/test_one_fault.py tests/buckets/test_two_hosts.py

sim: ## the protocol under 100,000 seeds of interleavings and crashes, and 100 collections that are killed
	RUNTREE_SIM_SEEDS=$${RUNTREE_SIM_SEEDS:-100000} RUNTREE_GC_KILLS=$${RUNTREE_GC_KILLS:-100} cargo test --quiet -p runtree-testkit

gc-scale: ## a million chunks, 100 collections killed at random moments, then one to its end: at most 512 MiB, nothing lost
	cargo run --release --quiet --package runtree-engine --example gc_scale -- $${RUNTREE_GC_CHUNKS:-1000000} 40 $(CURDIR)/target/gc-scale 100

bench: $(VENV)/.package $(VENV)/.dev ## against torch.save, safetensors, dcp, trackio, tensorboard, wandb, a plain S3 client; both sides in one run
	$(BIN)/pip install -q --disable-pip-version-check -r bench/requirements.txt
	scripts/with-s3 $(BIN)/python bench/bench.py

FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
fuzz: target/tools/bin/cargo-fuzz ## every parser of persisted bytes, of foreign files and of names, FUZZ_SECONDS each (`make test` runs them for a second)
	@cd fuzz && for target in $(FUZZ_TARGETS); do \
	  echo "fuzz $$target"; mkdir -p corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo fuzz run $$target corpus/$$target seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=1 2>&1 \
	    | tee corpus/$$target.log | grep -E 'number_of_executed_units|ERROR|panicked|SUMMARY|^error' || true; \
	  if ls artifacts/$$target/* >/dev/null 2>&1; then echo "found: fuzz/artifacts/$$target" >&2; exit 1; fi; \
	  grep -q number_of_executed_units corpus/$$target.log || { tail -20 corpus/$$target.log >&2; exit 1; }; \
	done

target/tools/bin/cargo-fuzz:
	CARGO_TARGET_DIR=target/tools/build cargo install --quiet --locked --root target/tools cargo-fuzz@0.13.2
	rm -rf target/tools/build

docs: ## the Rust API docs
	cargo doc --workspace --no-deps

clean-store: ## deletes the demo's store
	rm -rf $(STORE)
