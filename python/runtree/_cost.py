"""What a run's checkpoints will cost: one line, at the second save, while there is time to change something about it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from runtree.errors import Error

if TYPE_CHECKING:
    from runtree.checkpoint import PendingSave
    from runtree.run import Run

_TOTAL_STEPS = (
    "max_steps", "total_steps", "num_steps", "train_steps", "num_train_steps", "num_training_steps", "training_steps",
    "max_iters", "total_iters", "num_iters", "train_iters", "iterations", "steps",
)  # fmt: skip
"""How configs call the number of steps of a training, the clearest names first."""


_SECTIONS = ("train", "training", "trainer", "optim", "optimizer", "scheduler", "args")
"""Where else they stand. Steps of anything else (eval, warmup, sampler) are not the training's."""
_WORTH_A_LINE = 1_000_000
"""Checkpoints smaller than this fill no disk that anybody trains on."""


class Cost:
    """Watches the first two saves of a launch."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._first: PendingSave | None = None
        self._told = run.rank != 0

    def note(self, save: PendingSave) -> None:
        """A save was begun. At the second a thread of its own waits for both, looks at samples, and tells."""
        if self._told:
            return
        if self._first is None:
            self._first = save
            return
        self._told = True
        thread = threading.Thread(target=self._tell, args=(self._first, save), name="runtree-cost", daemon=True)
        self._first = None
        # Where no thread can be had there is no forecast.
        with contextlib.suppress(RuntimeError):
            thread.start()

    def _tell(self, first: PendingSave, second: PendingSave) -> None:
        # What went wrong is told by the saves themselves; a launch that ends before this is done needs no forecast.
        directory = self._run.store.directory
        if directory is None:
            return  # A bucket does not fill.
        with contextlib.suppress(Error, OSError):
            older, newer = first.result(), second.result()
            store = self._run.store
            estimate = store.native.estimate_cost(
                older._name,  # pyright: ignore[reportPrivateUsage]
                newer._name,  # pyright: ignore[reportPrivateUsage]
            )
            text = line(estimate, self._run.config, shutil.disk_usage(directory).free)
            if text is not None and not self._run.finished:
                print(f"runtree: {self._run.display_id} {text}", file=sys.stderr, flush=True)


def line(estimate: Mapping[str, int], config: Mapping[str, Any], free_bytes: int) -> str | None:
    """The line, from an estimate of the engine (bytes, steps), the config, and the free bytes; None if there is nothing to tell."""
    apart = estimate["steps_apart"]
    each, raw = estimate["encoded_bytes"], estimate["bytes"]
    if apart <= 0 or raw < _WORTH_A_LINE or each <= 0:
        return None
    every = "every step" if apart == 1 else f"every {apart:,} steps"
    new = "" if estimate["new_bytes"] > 0.99 * raw else f", {_bytes(estimate['new_bytes'])} of it new"
    parts = [f"{_bytes(raw)} a checkpoint{new}, at least ~{_bytes(each)} once encoded"]
    total = _total_steps(config, estimate["step"])
    room = free_bytes // each
    if total is None:
        parts.append(f"{every} = ~{_bytes(each * 1000)} for 1,000 checkpoints")
        parts.append(f"{_bytes(free_bytes)} free: room for about {room:,}")
        return "; ".join(parts)
    count = (total - estimate["step"]) // apart
    if count == 0:
        return None
    # The two that stay as they were saved are there already.
    need = count * each
    parts.append(f"{every} to {total:,} = ~{_bytes(need)} more")
    free = f"{_bytes(free_bytes)} free"
    if need > free_bytes:
        full = estimate["step"] + room * apart
        # The newest stay as they were saved, one waits in the trash, one is being written.
        keep = 5 if free_bytes >= 8 * raw else 2
        free += f": full at about step {full:,}; retention={{'keep_last': {keep}}}?"
    parts.append(free)
    return "; ".join(parts)


def _total_steps(config: Mapping[str, Any], reached: int) -> int | None:
    """The last step that the config speaks of, if it is ahead."""
    sections = [
        config,
        *(cast("Mapping[str, Any]", config[name]) for name in _SECTIONS if isinstance(config.get(name), Mapping)),
    ]
    for section in sections:
        for name in _TOTAL_STEPS:
            value = section.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > reached:
                return value
    return None


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 99.5 or unit == "B" else f"{count:.2g} {unit}"
        count /= 1000
    return f"{count:,.0f} TB" if count >= 99.5 else f"{count:.2g} TB"
