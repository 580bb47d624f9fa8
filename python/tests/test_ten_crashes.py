"""Ten times `kill -9` between two checkpoints, ten resumes that log the same steps again: one clean curve, ten ghost tails."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pluto.conftest import Api
from pluto.conftest import api as api

import runtree

TRAINER = Path(__file__).with_name("crashing_trainer.py")
CRASHES = 10
STEPS = 800
METRICS = ("grad/norm", "loss", "seldom", "spike")
SEED = int(os.environ.get("RUNTREE_SEED", random.randrange(1 << 30)))


def trainer(key: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(TRAINER), str(STEPS), key], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def train_until(key: str, at: int) -> tuple[int, int, int]:
    """Kills a trainer once it is durable at a step beyond its last save: where it began, its last checkpoint, its durable step."""
    process = trainer(key)
    assert process.stdout is not None
    began = saved = -1
    for line in process.stdout:
        what, *numbers = line.split()
        if what == "began":
            began = int(numbers[1])
        elif what == "saved":
            saved = int(numbers[0])
        elif int(numbers[0]) >= at and int(numbers[0]) > max(saved, began):
            durable = int(numbers[0])
            break
    else:
        pytest.fail(f"the trainer ended before step {at}: {process.wait()}")
    process.kill()
    # It ran on until the signal came: what it told until then happened, too.
    for line in process.stdout:
        what, number = line.split()
        saved, durable = (int(number), durable) if what == "saved" else (saved, int(number))
    process.wait()
    process.stdout.close()
    return began, saved, durable


def columns(run: runtree.StoredRun, metric: str) -> tuple[bytes, bytes]:
    series = run.history(metric)
    return series.steps.tobytes(), series.values.tobytes()


@pytest.mark.timeout(240)
def test_ten_crashes_leave_one_curve_and_ten_ghosts(api: Api) -> None:
    """The effective curve is bit-equal to that of a run that was never interrupted, NaN and infinities included."""
    print(f"RUNTREE_SEED={SEED}")
    rng = random.Random(SEED)
    whole = trainer("whole")
    whole.communicate(timeout=60)
    assert whole.returncode == 0
    tails: list[tuple[int, int]] = []
    target = 0
    for _ in range(CRASHES):
        # Anywhere at least two steps beyond a checkpoint; at times further than one checkpoint, at times within the same.
        target += rng.randrange(4, 65)
        began, saved, durable = train_until("crashed", target)
        # Where the next launch goes on.
        checkpoint = runtree.Store().run("crashed").checkpoint().step
        assert checkpoint >= max(saved, 0)
        tails.append((checkpoint, durable))
        target = max(durable, target)
        assert began <= durable < STEPS - 25
    last = trainer("crashed")
    last.communicate(timeout=60)
    assert last.returncode == 0

    store = runtree.Store()
    crashed, expected = store.run("crashed"), store.run("whole")
    for metric in METRICS:
        assert columns(crashed, metric) == columns(expected, metric), f"{metric}: RUNTREE_SEED={SEED}"
    assert len(crashed.history("loss")) == STEPS
    assert np.isnan(crashed.history("spike").values).sum() == STEPS // 50

    detail = api.get(f"/runs/{crashed.id}")
    attempts: list[dict[str, Any]] = detail["attempts"]
    assert [attempt["attempt"] for attempt in attempts] == list(range(1, CRASHES + 2))
    assert attempts[-1]["ghost_from"] is None
    assert attempts[-1]["base"]["step"] == tails[-1][0]
    curve = dict(zip(crashed.history("loss").steps.tolist(), crashed.history("loss").values.tolist(), strict=True))
    for attempt, (checkpoint, durable), heir in zip(attempts, tails, attempts[1:], strict=False):
        number = attempt["attempt"]
        assert heir["base"]["step"] == checkpoint, (
            f"launch {number + 1} goes on after the checkpoint: RUNTREE_SEED={SEED}"
        )
        assert attempt["ghost_from"] == checkpoint + 1, f"launch {number}: RUNTREE_SEED={SEED}"
        assert attempt["steps"]["last"] >= durable, "what was durable when it was killed is there"
        tail = api.chart(crashed.id, "loss", attempt=number, pixels=10_000, **{"from": attempt["ghost_from"]})
        # What the ghost says is what was logged there, to the bit: every step of it, each once.
        assert tail["x_first"] == list(range(checkpoint + 1, attempt["steps"]["last"] + 1))
        assert tail["last"] == [curve[step] for step in tail["x_first"]]
    drawn = api.chart(crashed.id, "loss", pixels=10_000)
    assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == curve
    assert sum(drawn["count"]) == STEPS
    assert [segment.attempt for segment in crashed.lineage()][-1] == CRASHES + 1

    report = crashed.resume_report()
    assert report is not None
    assert (report["attempt"], report["ghost_attempt"], report["diverged_at"]) == (CRASHES + 1, CRASHES, None)
    repeated = attempts[-2]["steps"]["last"] - tails[-1][0]
    assert (report["overlapping_steps"], report["bit_equal_steps"]) == (repeated, repeated)
    assert report["text"] == f"bit-equal for {repeated} steps"
    assert detail["resume_report"] == report
    saved = [checkpoint.step for checkpoint in crashed.checkpoints()]
    assert saved == list(range(0, STEPS, 25)), "and one checkpoint per step that was saved"
    weights = [crashed.load(775)["weights"], expected.load(775)["weights"]]
    assert weights[0].tobytes() == weights[1].tobytes()
