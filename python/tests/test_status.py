"""How runs end, with real processes: what they are called afterwards, and that nobody who lives is called dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import runtree

BEGIN = """
import os, sys, threading, time, signal
import runtree
run = runtree.init("status", console=False, system_metrics=False, environment=False)
run.log({"loss": 1.0})
run.flush()
print("ready", flush=True)
"""


class Program:
    """A trainer in a process of its own."""

    def __init__(self, store: Path, body: str, **environ: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTREE_STORE")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + body],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**clean, "RUNTREE_STORE": str(store), "RUNTREE_GRACE_SECONDS": "5", **environ},
        )  # fmt: skip
        self.store = store

    def ready(self) -> Program:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "ready\n", self.process.communicate()
        return self

    def end(self) -> tuple[int, str, str | None]:
        """Exit code, and what the run is called after it."""
        out, err = self.process.communicate(timeout=60)
        runs = runtree.Store(self.store).runs()
        assert runs, (out, err)
        return self.process.returncode, runs[0].status, runs[0].status_reason


@pytest.fixture
def program(tmp_path: Path) -> Any:
    started: list[Program] = []

    def start(body: str, **environ: str) -> Program:
        started.append(Program(tmp_path / "store", body, **environ))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            os.kill(each.process.pid, signal.SIGCONT)
            each.process.kill()
            each.process.communicate()


@pytest.mark.parametrize(
    ("body", "code", "status", "reason"),
    [
        ("", 0, "completed", None),
        ("run.finish()", 0, "completed", None),
        ("sys.exit()", 0, "completed", None),
        ("sys.exit(0)", 0, "completed", None),
        ("sys.exit(3)", 3, "failed", "SystemExit: 3"),
        ("sys.exit('no data')", 1, "failed", "SystemExit: no data"),
        ("exit(4)", 4, "failed", "SystemExit: 4"),
        ("import argparse; argparse.ArgumentParser().error('bad')", 2, "failed", "SystemExit: 2"),
        ("def f():\n  try: sys.exit(5)\n  except SystemExit: pass\nf()", 0, "completed", None),
        ("try: sys.exit(5)\nexcept SystemExit as e: kept = e", 0, "completed", None),
        ("def f():\n  try: sys.exit(5)\n  finally: run.log({'a': 1})\nf()", 5, "failed", "SystemExit: 5"),
        ("t = threading.Thread(target=sys.exit, args=(6,)); t.start(); t.join()", 0, "completed", None),
        ("raise ValueError('boom')", 1, "failed", "ValueError: boom"),
        ("raise KeyboardInterrupt", 130, "stopped", "KeyboardInterrupt"),
        ("with run: raise RuntimeError('inside')", 1, "failed", "RuntimeError: inside"),
        ("with run: raise SystemExit(7)", 7, "failed", "SystemExit: 7"),
        ("with run: sys.exit(0)", 0, "completed", None),
        ("run.finish('stopped', 'enough'); sys.exit(3)", 3, "stopped", "enough"),
    ],
)  # fmt: skip
def test_a_run_is_called_what_its_program_did(
    body: str, code: int, status: str, reason: str | None, program: Any
) -> None:
    returned, found, why = program(body).ready().end()
    assert (found, why or None) == (status, reason)
    assert returned == code or (code == 130 and returned == -signal.SIGINT)


def test_sigterm_stops_and_the_process_dies_of_it(program: Any) -> None:
    trainer = program("time.sleep(60)").ready()
    trainer.process.terminate()
    assert trainer.end() == (-signal.SIGTERM, "stopped", "SIGTERM")


def test_processes_that_say_no_goodbye_are_running_until_the_bound_and_lost_after_it(tmp_path: Path) -> None:
    ends = ["os._exit(0)", "os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"]
    trainers = [Program(tmp_path / f"store {at}", body) for at, body in enumerate(ends)]
    for trainer in trainers:
        assert trainer.ready().end()[1] == "running", "nobody can know yet"
    last = time.monotonic()
    runs = [runtree.Store(trainer.store).runs()[0] for trainer in trainers]
    time.sleep(45 - (time.monotonic() - last))
    assert [run.status for run in runs] == ["running"] * 4
    time.sleep(63 - (time.monotonic() - last))
    assert [run.status for run in runs] == ["lost"] * 4


def test_a_process_that_is_busy_without_the_interpreter_is_alive(program: Any) -> None:
    # A compiler that holds the GIL for longer than the beat of the heart: a thread of C keeps it.
    trainer = program("import ctypes; ctypes.PyDLL(None).sleep(13); print('done', flush=True)").ready()
    time.sleep(12)
    run = runtree.Store(trainer.store).runs()[0]
    before = run._summary()["last_activity"]
    assert run.status == "running"
    assert time.time() - before / 1e6 < 12, "it said that it lives while it could run no Python"
    assert trainer.end()[1] == "completed"


def test_a_process_that_was_stopped_for_a_while_goes_on(program: Any) -> None:
    trainer = program("time.sleep(4); run.log({'loss': 2.0})").ready()
    trainer.process.send_signal(signal.SIGSTOP)
    time.sleep(3)
    assert runtree.Store(trainer.store).runs()[0].status == "running"
    trainer.process.send_signal(signal.SIGCONT)
    assert trainer.end()[1] == "completed"


def test_one_failing_rank_fails_the_run_and_is_named(program: Any, tmp_path: Path) -> None:
    ranks = [
        program(
            "time.sleep(1)\nif os.environ['RANK'] == '2': raise ValueError('boom')\ntime.sleep(2)",
            RANK=str(rank), WORLD_SIZE="3", RUNTREE_RUN_ID="one", RUNTREE_RESUME="allow", RUNTREE_ATTEMPT="first",
        )
        for rank in range(3)
    ]  # fmt: skip
    for rank in ranks:
        rank.ready()
    assert [rank.end()[0] for rank in ranks] == [0, 0, 1]
    runs = runtree.Store(tmp_path / "store").runs()
    assert len(runs) == 1
    assert (runs[0].status, runs[0].status_reason) == ("failed", "rank 2: ValueError: boom")
    assert [process["rank"] for process in runs[0].processes()] == [0, 1, 2]
