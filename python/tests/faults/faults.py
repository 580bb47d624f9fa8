"""Disks that are full, broken, read-only or over quota, and processes that are killed, for real ones to be put before a trainer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from faults.trainer import state_of
from runtree.store import _open

TESTS = Path(__file__).parents[1]


class Trainer:
    """A training process that does what it is told."""

    def __init__(self, store: Path, under: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "faults.trainer"],
            cwd=TESTS,
            env={**os.environ, "RUNTREE_STORE": str(store), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            self.next_step = self.answer()["next_step"]
        except EOFError:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        """The answer to the last command; ``EOFError`` if the process died of it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError("the trainer died")
        return json.loads(line)

    def tell(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def train(self, *steps: int) -> dict[int, str]:
        """Logs and saves these steps; what ``result()`` said to each."""
        answer = self.tell("train " + " ".join(map(str, steps)))
        assert answer["blocked"] < 20, "log and save kept training waiting"
        return {int(step): what for step, what in answer["outcomes"].items()}

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        # Closes the pipes, too; what was not read yet is of no interest.
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()


def check_store(
    store: Path, saved: set[int], *, not_saved: set[int] = frozenset(), logged: set[int] = frozenset()
) -> None:
    """Everything acknowledged is there and whole, nothing failed claims to be, nothing is damaged; ``logged`` steps have points."""
    _open.clear()
    run = runtree.Store(str(store)).run("faults/trainer")
    listed = {checkpoint.step: checkpoint for checkpoint in run.checkpoints()}
    assert listed.keys() >= saved, f"acknowledged and gone: {sorted(saved - listed.keys())}"
    assert not listed.keys() & not_saved, f"failed and listed: {sorted(listed.keys() & not_saved)}"
    for step, checkpoint in listed.items():
        loaded, expected = checkpoint.load(), state_of(step)
        assert loaded.keys() == expected.keys()
        for name, value in expected.items():
            if name.startswith("w"):
                assert np.array_equal(loaded[name], value), f"{name} of step {step}"
    if logged:
        history = run.history("twice")
        points = dict(zip(history.steps.tolist(), history.values.tolist(), strict=True))
        assert {step: points.get(step) for step in logged} == {step: step * 2.0 for step in logged}
    command = Path(sys.executable).parent / "runtree"
    verified = subprocess.run([command, "--store", str(store), "verify"], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


def run_or_skip(*command: str) -> None:
    """Runs a command that a container may forbid."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"not possible here: {' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[Path]:
    require_root()
    place.mkdir()
    run_or_skip("mount", *arguments, str(place))
    try:
        yield place
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{place} stays busy")


def trace(*injections: str) -> list[str]:
    """A strace that injects, as the beginning of a command."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = ",".join(sorted({call for each in injections for call in each.split(":")[0].split(",")}))
    faults = [word for each in injections for word in ("-e", f"inject={each}")]
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", "signal=none", *faults]


@contextlib.contextmanager
def injected(process: subprocess.Popen[bytes], *injections: str) -> Iterator[None]:
    """System calls of a running process fail as long as this lasts: ``"write,pwrite64:error=ENOSPC"``."""
    tracer = subprocess.Popen([*trace(*injections), "-p", str(process.pid)], stderr=subprocess.PIPE)
    tasks = Path(f"/proc/{process.pid}/task")

    def traced() -> bool:
        return all(f"TracerPid:\t{tracer.pid}\n" in (task / "status").read_text() for task in tasks.iterdir())

    deadline = time.monotonic() + 20
    while not traced():
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            pytest.skip(f"strace can not attach here: {tracer.stderr.read().decode()}")
        assert time.monotonic() < deadline, "strace does not attach"
        time.sleep(0.01)
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=20)
        assert tracer.stderr is not None
        tracer.stderr.close()
