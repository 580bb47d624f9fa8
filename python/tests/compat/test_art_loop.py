"""Seed 004's training loop with something that is really trained: ``examples/reverse_text/art_loop.py``, killed and whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import runtree

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytestmark = pytest.mark.timeout(300)

LOOP = Path(__file__).parents[3] / "examples" / "reverse_text" / "art_loop.py"
STEPS = 50


def begin(store: str) -> subprocess.Popen[str]:
    environment = {"RUNTREE_STORE": str(Path(store).absolute()), "PYTHONWARNINGS": "error"}
    return subprocess.Popen(
        [sys.executable, str(LOOP), "--steps", str(STEPS)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def said(printed: str) -> dict[int, tuple[str, list[int]]]:
    """What each step printed: its reward, and the steps of the checkpoints that were left."""
    lines = re.findall(r"^step (\d+): reward (\S+), kept \[(.*)\]$", printed, re.MULTILINE)
    return {int(step): (reward, [int(each) for each in kept.split(", ")]) for step, reward, kept in lines}


def best_and_newest(rewards: dict[int, float], step: int) -> list[int]:
    """A tie goes to the later step."""
    best = max((rewards[each], each) for each in range(1, step + 1))[1]
    return sorted({best, step})


def adapter(run: runtree.StoredRun, step: int) -> dict[str, bytes]:
    directory = run.dir(step)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_loop_that_is_killed_ends_with_the_bytes_of_one_that_was_not() -> None:
    whole, first = begin("whole"), begin("split")
    assert first.stdout is not None
    printed = []
    for line in first.stdout:
        printed.append(line)
        if line.startswith("step 20:"):
            break
    first.kill()
    before = said("".join(printed) + first.communicate()[0])
    assert list(before) == list(range(1, len(before) + 1))
    again = begin("split")
    after = said(again.communicate(timeout=200)[0])
    assert again.returncode == 0
    # The step of the kill is made again, unless its checkpoint was there already.
    assert min(after) in (len(before) + 1, len(before) + 2)
    assert list(after) == list(range(min(after), STEPS + 1))
    everything = said(whole.communicate(timeout=200)[0])
    assert whole.returncode == 0
    assert list(everything) == list(range(1, STEPS + 1))
    assert {**before, **after} == {step: everything[step] for step in (*before, *after)}

    one, other = runtree.Store("whole").run("agent-001"), runtree.Store("split").run("agent-001")
    assert (one.attempt, other.attempt) == (1, 2)
    rewards = dict(
        zip(
            *(each.tolist() for each in (one.history("train/reward").steps, one.history("train/reward").values)),
            strict=True,
        )
    )
    for step, (_, kept) in everything.items():
        assert kept == best_and_newest(rewards, step)
    # Had it always been the newest that is best, nothing would be shown.
    assert {len(kept) for _, kept in everything.values()} == {1, 2}
    for metric in ("train/reward", "train/loss", "train/reward_std_dev"):
        series = [run.history(metric) for run in (one, other)]
        assert [each.steps.tolist() for each in series] == [list(range(1, STEPS + 1))] * 2
        assert series[0].values.tobytes() == series[1].values.tobytes(), metric
    kept = everything[STEPS][1]
    for run in (one, other):
        assert [each.step for each in run.checkpoints()] == kept
    for step in kept:
        files = adapter(one, step)
        assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"}
        assert files == adapter(other, step)
    assert adapter(one, kept[0]) != adapter(one, kept[-1])
