"""Waiting for checkpoints of another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtree

TRAINER = """
import sys, time, numpy as np, runtree
with runtree.init("p", run_id="a1", store=sys.argv[1]) as run:
    for step in (10, 20, 30):
        time.sleep(0.2)
        run.save({"w": np.full(4, step)}, step=step).result()
"""


def test_each_checkpoint_of_another_process_comes_once_and_then_the_run_is_over(tmp_path: Path) -> None:
    store = runtree.Store(tmp_path / "s", create=True)
    with subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path / "s")]) as trainer:
        for _ in range(600):
            if store.runs():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                trainer.wait(0.1)
        after: int | None = None
        for expected in (10, 20, 30):
            checkpoint = store.wait("p/a1", after=after, interval=0.05, timeout=60)
            after = checkpoint.step
            assert (after, checkpoint.load()["w"].tolist()) == (expected, [expected] * 4)
        with pytest.raises(runtree.errors.NotFound, match="is completed, and has no checkpoint beyond step 30"):
            store.wait("p/a1", after=after, interval=0.05, timeout=60)


def test_waiting_has_an_end(tmp_path: Path) -> None:
    run = runtree.init("p", run_id="a1", store=tmp_path / "s")
    run.save({"w": np.zeros(2)}, step=5).result()
    store = runtree.Store(tmp_path / "s")
    assert store.wait("p/a1").step == 5
    with pytest.raises(runtree.errors.Unavailable, match="beyond step 5 in 0.1 s"):
        store.wait("p/a1", after=5, timeout=0.1, interval=0.02)
    run.finish()
