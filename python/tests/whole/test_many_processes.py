"""Many processes on one store: 8 writers of one run, and 20 processes that make 1,000 runs, the UI's server asked all the while."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import runtree

RUNTREE = [sys.executable, "-m", "runtree"]
WRITERS = 8
POINTS = 2_000
PROCESSES = 20
# `make crowd` makes them 1,000.
RUNS = int(os.environ.get("RUNTREE_CROWD_RUNS", "200"))
TROUBLE = re.compile("locked|busy|error|panick|traceback|warn", re.IGNORECASE)

WRITER = """
import os, sys, runtree
writer, points = int(sys.argv[1]), int(sys.argv[2])
run = runtree.init("crowd", run_id="one", console=False, system_metrics=False, **eval(sys.argv[3]))
for step in range(points):
    run.log({name: step * 100.0 + writer for name in eval(sys.argv[4])}, step=step)
    if step % 500 == 499:
        assert run.health().ok, run.health()
report = run.finish()
health = run.health()
assert health.ok and not health.warnings and not report.dropped_points, (health, report)
print(run.id, run.attempt)
"""

MAKER = """
import sys, runtree
process, runs = int(sys.argv[1]), int(sys.argv[2])
parent = None
for number in range(runs):
    # Every fifth forks the run before it, which has just been finished.
    fork = {} if number % 5 or parent is None else {"fork_run_id": parent, "fork_step": 9}
    with runtree.init("crowd", name=f"{process}/{number}", config={"process": process, "lr": 0.1 / (number + 1)},
                      console=False, system_metrics=False, **fork) as run:
        for step in range(run.next_step, run.next_step + 10):
            run.log({"loss": process * 1000.0 + number + step / 100, "step/itself": step}, step=step)
    health = run.health()
    assert health.ok and all("checkpoint" in each["message"] for each in health.warnings), health
    print(run.id, run.number, run.next_step)
    parent = run.id
"""


@contextmanager
def looked_at(env: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A server with the UI's eyes on it: lists, charts, runs and the event stream; ends with what they saw."""
    server = subprocess.Popen(
        [*RUNTREE, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert server.stdout is not None
    address = server.stdout.readline().strip().rstrip("/") + "/api/v1"
    seen: dict[str, Any] = {"url": address, "polls": 0, "told": set(), "trouble": []}
    stop = threading.Event()

    def ask(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {body}: {error.code} {error.read().decode()}") from None

    def poll() -> None:
        known = 0
        while not stop.is_set():
            try:
                page = ask("/runs?project=crowd&limit=100")
                assert page["total"] >= known, "runs do not go away"
                known = page["total"]
                runs = [run["id"] for run in page["runs"][:10]]
                series = [{"run": run, "metric": "loss", "attempt": None} for run in runs]
                asked = {"series": series, "x": "step", "pixels": 500, "inherited": True, "from": None, "to": None}
                assert len(ask("/series", asked)["series"]) == len(runs)
                for run in runs[:2]:
                    ask(f"/runs/{run}")
                seen["polls"] += 1
            except BaseException as error:
                seen["trouble"].append(repr(error))
            time.sleep(0.05)

    def listen() -> None:
        try:
            with urllib.request.urlopen(address + "/events", timeout=120) as stream:
                for line in stream:
                    if stop.is_set():
                        return
                    if line.startswith(b"data:"):
                        seen["told"].update(json.loads(line[5:])["runs"])
        except OSError as error:
            if not stop.is_set():
                seen["trouble"].append(repr(error))

    threads = [threading.Thread(target=poll), threading.Thread(target=listen, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        # The stream tells what the last poll of the store found.
        time.sleep(2)
        stop.set()
        threads[0].join(60)
        server.terminate()
        told = server.communicate(timeout=30)[1]
        if TROUBLE.search(told):
            seen["trouble"].append(told)


def environment(tmp_path: Path) -> dict[str, str]:
    env = os.environ | {"RUNTREE_STORE": str(tmp_path / "store"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # A warning is an error that a trainer survives: here it is not to survive it. What one fork says of checkpoints is no trouble.
    env["PYTHONWARNINGS"] = "error,ignore:run"
    return env


def finish(processes: list[subprocess.Popen[str]], seconds: float) -> list[str]:
    """Waits for processes; each must end well, and say nothing but where it writes."""
    end = time.monotonic() + seconds
    told: list[str] = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=max(1.0, end - time.monotonic()))
            assert process.returncode == 0, err
            assert not TROUBLE.search(err), err
            told.append(out)
    finally:
        for process in processes:
            process.kill()
    return told


def write_together(tmp_path: Path, keywords: list[str], names: list[str], ranks: bool) -> dict[str, Any]:
    env = environment(tmp_path)
    runtree.Store(env["RUNTREE_STORE"], create=True)
    with looked_at(env) as seen:
        processes = []
        for writer in range(WRITERS):
            own = env | ({"RANK": str(writer), "WORLD_SIZE": str(WRITERS), "RUNTREE_RUN_ID": "one"} if ranks else {})
            # One launch, as a launcher tells it.
            own |= {"RUNTREE_ATTEMPT": "crowd"}
            words = [str(writer), str(POINTS), keywords[writer], names[writer]]
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", WRITER, *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=own,
                )
            )
        told = finish(processes, 80)
    assert len(set(told)) == 1, f"one run, one launch: {told}"
    assert seen["trouble"] == []
    assert seen["polls"] > 0
    assert seen["told"] == {told[0].split()[0]}
    return seen


@pytest.mark.timeout(180)
def test_eight_ranks_log_the_same_metric_of_one_run(tmp_path: Path) -> None:
    """``log_ranks="all"``: a series per rank, every point of each."""
    keywords = ["{'log_ranks': 'all', 'resume': 'allow'}"] * WRITERS
    write_together(tmp_path, keywords, ["['loss', 'acc']"] * WRITERS, ranks=True)
    run = runtree.Store(str(tmp_path / "store")).run("one")
    assert run.attempt == 1
    names = [f"{name}[rank {rank}]" for name in ("acc", "loss") for rank in range(WRITERS)]
    assert sorted(run.metrics) == sorted(names)
    for name in names:
        rank = int(name[-2])
        series = run.history(name)
        assert series.steps.tolist() == list(range(POINTS)), name
        assert series.values.tolist() == [step * 100.0 + rank for step in range(POINTS)], name


@pytest.mark.timeout(180)
def test_eight_processes_of_one_key_log_metrics_of_their_own(tmp_path: Path) -> None:
    """A trainer, a loader, an evaluator, …: one run by its key and launch, each with its own metrics."""
    names = [f"['own/{writer}', 'other/{writer}']" for writer in range(WRITERS)]
    write_together(tmp_path, ["{'resume': 'allow'}"] * WRITERS, names, ranks=False)
    run = runtree.Store(str(tmp_path / "store")).run("one")
    assert run.attempt == 1
    assert sorted(run.metrics) == sorted(f"{kind}/{writer}" for kind in ("own", "other") for writer in range(WRITERS))
    for name in run.metrics:
        series = run.history(name)
        assert series.steps.tolist() == list(range(POINTS)), name
        assert series.values.tolist() == [step * 100.0 + int(name[-1]) for step in range(POINTS)], name


@pytest.mark.timeout(120 + RUNS)
def test_twenty_processes_make_a_thousand_runs_while_the_ui_is_open(tmp_path: Path) -> None:
    """No point lost, no number twice, no lock error in anything that anybody said."""
    env = environment(tmp_path)
    runtree.Store(env["RUNTREE_STORE"], create=True)
    each = RUNS // PROCESSES
    began = time.monotonic()
    with looked_at(env) as seen:
        words = [[str(process), str(each)] for process in range(PROCESSES)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
        processes = [subprocess.Popen([sys.executable, "-c", MAKER, *some], **pipes) for some in words]
        told = finish(processes, 100 + RUNS)
        print(f"{RUNS} runs in {time.monotonic() - began:.1f} s, {seen['polls']} polls")
        rows = [line.split() for out in told for line in out.splitlines()]
        # A server looks through a large store less often: it may say so later, but it must.
        deadline = time.monotonic() + 30
        while not seen["told"] >= {run for run, _, _ in rows} and time.monotonic() < deadline:
            time.sleep(0.1)
        print(f"all told {time.monotonic() - deadline + 30:.1f} s after the last")
    assert len(rows) == each * PROCESSES
    assert sorted(int(number) for _, number, _ in rows) == list(range(1, len(rows) + 1)), "numbers: each once, no gap"
    assert seen["trouble"] == []
    assert seen["polls"] > 0
    assert seen["told"] == {run for run, _, _ in rows}, "the event stream named every run"
    store = runtree.Store(env["RUNTREE_STORE"])
    runs = {run.id: run for run in store.runs(project="crowd")}
    assert runs.keys() == {run for run, _, _ in rows}
    assert {run.status for run in store.runs("status = completed", project="crowd", limit=3)} == {"completed"}
    assert len(store.runs("status = completed", project="crowd")) == len(rows)
    for run, _, next_step in rows:
        check_run(runs[run], int(next_step))


def check_run(run: runtree.StoredRun, next_step: int) -> None:
    process, number = map(int, run.name.split("/"))
    loss = run.history("loss", inherited=False)
    first = next_step - 10
    assert loss.steps.tolist() == list(range(first, next_step)), run.name
    assert loss.values.tolist() == [process * 1000.0 + number + step / 100 for step in range(first, next_step)]
    assert run.history("step/itself").values.tolist() == list(map(float, range(next_step)))
    assert run.config == {"process": process, "lr": 0.1 / (number + 1)}
