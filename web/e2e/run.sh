#!/bin/bash
# Browser tests on the demo's store behind the real server, in a directory of their own. BIN is where `runtree` and `python` are.
set -eu -o pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BIN:-$root/.venv/bin}
work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

"$bin/python" "$root/examples/demo/demo.py" --store "$work/.runtree" >"$work/demo.log" 2>&1 || { cat "$work/demo.log" >&2; exit 1; }
RUNTREE_STORE=$work/.runtree "$bin/python" "$root/web/e2e/media.py" >"$work/media.log" 2>&1 || { cat "$work/media.log" >&2; exit 1; }
XDG_CACHE_HOME=$work/cache "$bin/runtree" --store "$work/.runtree" serve --port 0 >"$work/url" 2>"$work/serve.log" &
server=$!
for _ in $(seq 100); do
  [ -s "$work/url" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$work/serve.log" >&2; exit 1; }
  sleep 0.1
done
cd "$root/web"
RUNTREE_URL=$(head -n 1 "$work/url") RUNTREE_PYTHON=$bin/python RUNTREE_E2E_STORE=$work/.runtree node e2e/run.mjs "$@"
