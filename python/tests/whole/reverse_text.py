"""The example ``examples/reverse_text`` as processes: its scripts, its inference server, and what two of its runs have in common."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import runtree

EXAMPLE = Path(__file__).parents[3] / "examples" / "reverse_text"
SAMPLE = Path(__file__).parent / "samples" / "checkpointing.md"
# Long for a machine that is busy with other things; nothing takes as long as that when all is well.
SECONDS = 100


_begun: list[subprocess.Popen[str]] = []


def document() -> list[tuple[str, list[str]]]:
    """The document's command lines: the program, and its arguments without the dots that stand for what is one's own."""
    lines = re.findall(r"```bash\nuv run (\w+) (.*?)```", SAMPLE.read_text(), re.DOTALL)
    return [
        (program, [each for each in shlex.split(rest.replace("\\\n", " ")) if each != "..."]) for program, rest in lines
    ]


def begin(script: str, *argv: str, store: str = "store", **environment: str) -> subprocess.Popen[str]:
    """Starts a script of the example; what it says on stderr is its stdout's, too."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / f"{script}.py"), *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "RUNTREE_STORE": str(Path(store).absolute()), "PYTHONWARNINGS": "error", **environment},
        start_new_session=True,
    )  # fmt: skip
    _begun.append(process)
    return process


def end_all() -> None:
    """What a test that has failed left behind, with what that has started."""
    while _begun:
        process = _begun.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def end(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a script printed, once it has ended as it should."""
    printed = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == code, printed
    return printed


class Inference:
    """The example's inference server, at a port of its own."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        """Starts it, at the port that it had."""
        self.process = begin("inference", "--port", str(self.port))
        # It outlives the test that starts it.
        _begun.remove(self.process)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "inference at 127.0.0.1:" in line, line
        self.port = int(line.rpartition(":")[2])

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def write_files(self, directory: Path) -> None:
        """``train.toml`` and ``orch.toml`` of the example, which is told where the server is."""
        directory.mkdir(parents=True)
        (directory / "train.toml").write_text((EXAMPLE / "train.toml").read_text())
        where = f'inference = "127.0.0.1:{self.port}"\n'
        (directory / "orch.toml").write_text((EXAMPLE / "orch.toml").read_text() + where)


def run_of(store: str) -> runtree.StoredRun:
    """The only run of a store."""
    [run] = runtree.Store(store).runs()
    return run


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a state by path; tensors as dtype, shape and bytes, so that equal means equal in every bit."""
    if hasattr(tree, "state_dict"):
        tree = tree.state_dict()
    if isinstance(tree, Mapping):
        return {name: leaf for key, each in tree.items() for name, leaf in flat(each, f"{path}.{key}").items()}
    if isinstance(tree, (list, tuple)):
        return {name: leaf for key, each in enumerate(tree) for name, leaf in flat(each, f"{path}.{key}").items()}
    if hasattr(tree, "numpy"):
        value = tree.numpy()
        return {path: (str(value.dtype), value.shape, value.tobytes())}
    return {path: tree}


def states(run: runtree.StoredRun, step: int, components: tuple[str, ...] = ("trainer",)) -> dict[str, Any]:
    """All that a checkpoint holds, part by part."""
    checkpoint = run.checkpoint(step)
    assert sorted(part["component"] for part in checkpoint.parts) == sorted(components)
    return {each: checkpoint.load(component=each) for each in components}


def assert_equal_runs(one: runtree.StoredRun, other: runtree.StoredRun, step: int, *components: str) -> None:
    """Two runs are the same: every bit of their checkpoints at a step, and all their metrics."""
    first, second = (flat(states(run, step, components or ("trainer",))) for run in (one, other))
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    for metric in ("loss", "lr", *(("reward",) if components else ())):
        series = [run.history(metric) for run in (one, other)]
        assert [each.steps.tolist() for each in series] == [list(range(1, step + 1))] * 2
        assert series[0].values.tobytes() == series[1].values.tobytes(), metric
