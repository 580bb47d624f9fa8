"""Seed 004's arithmetic: what deleting all but the best and the newest leaves on disk, with default settings and no call of gc."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy

import runtree

STEPS = 50
# The seed speaks of 120 MB; the proportions are the same.
MEGABYTES = int(os.environ.get("RUNTREE_ADAPTER_MB", "12"))


def adapter(dice: numpy.random.Generator) -> dict[str, numpy.ndarray]:
    """LoRA-like: pairs of low-rank float32 matrices, 64 of them."""
    values = MEGABYTES * 1_000_000 // 4 // 64
    return {f"layers.{i}.lora_{'AB'[i % 2]}": dice.standard_normal(values, "f4") * 0.02 for i in range(64)}


def size_of(chunks: Path) -> int:
    total = 0
    for entry in os.scandir(chunks) if chunks.is_dir() else ():
        for file in os.scandir(entry.path) if entry.is_dir() else ():
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                pass  # Deleted while it was looked at.
    return total


class Watch:
    """The largest size that a directory ever had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.largest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.002):
            self.largest = max(self.largest, size_of(self.path))

    def close(self) -> None:
        self._end.set()
        self._thread.join()


def train(run: runtree.Run, delete: bool) -> int:
    """Returns the bytes of one checkpoint."""
    dice = numpy.random.default_rng(7)
    state = adapter(dice)
    for step in range(STEPS):
        for value in state.values():
            # A step at a small learning rate moves values by little.
            value += dice.standard_normal(len(value), "f4") * numpy.float32(1e-7)
        run.log({"val/reward": -abs(step - 20)}, step=step)
        run.save(state).result()
        if delete:
            run.delete_checkpoints(best_checkpoint_metric="val/reward")
    return sum(value.nbytes for value in state.values())


def test_best_and_latest_in_the_loop_bound_the_disk() -> None:
    run = runtree.init("art", system_metrics=False, environment=False)
    chunks = run.path / "chunks"
    watch = Watch(chunks)
    one = train(run, delete=True)
    watch.close()
    run.finish()
    end = size_of(chunks)
    kept = [each.step for each in run.checkpoints()]
    most, left = watch.largest / one, end / one
    print(f"\n{STEPS} steps of {one / 1e6:.0f} MB, best and latest: at most {most:.2f} checkpoints on disk")
    print(f"at the end: {left:.2f}")
    assert kept == [20, STEPS - 1]
    # Two that are kept, one in the trash, one being written.
    assert watch.largest <= 4.001 * one
    assert end <= (2 + 2) * one * 1.001

    whole = runtree.init("art", name="whole", store="whole", system_metrics=False, environment=False)
    train(whole, delete=False)
    whole.finish()
    whole.store.encode()
    encoded = size_of(whole.path / "chunks")
    print(f"without deleting any, encoded: {encoded / one:.2f} checkpoints for {STEPS}")
    assert len(whole.checkpoints()) == STEPS
    assert encoded < STEPS * one
