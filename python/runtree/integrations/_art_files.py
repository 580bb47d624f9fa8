"""A model's directory that ART writes to and reads from: what of it is in the run, and what of the run is in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from runtree.checkpoint import Checkpoint, PendingSave
from runtree.compat.art import adapters
from runtree.compat.art.layout import ArtModel
from runtree.errors import Error
from runtree.run import Run
from runtree.stored import StoredRun


class Directories:
    """``{model_dir}/checkpoints/NNNN`` of one model."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._checkpoints = root / "checkpoints"
        # Steps whose directory is in the store, byte for byte.
        self._taken: dict[int, PendingSave | None] = {}
        self._logged: dict[int, dict[str, float]] = {}
        # The run that this is about: what was logged to it, and the checkpoint that its launch goes on from.
        self._run: str | None = None
        self._after: int | None = None

    def newest(self) -> int | None:
        """The newest whole step. Asked for with every rollout: what was found whole once is not looked into again."""
        found = (step for step in reversed(self._steps()) if step in self._taken or self._problem(step) is None)
        return next(found, None)

    def take_in(self, model: ArtModel, stored: StoredRun | None, launch: Callable[[], Run]) -> list[PendingSave]:
        """Saves what the run of a model has not, and logs what was added to the history. A launch begins if there is any."""
        steps = [step for step in model.steps if step not in self._taken and self._problem(step) is None]
        there = {} if stored is None else {each.step: each for each in stored.checkpoints()}
        if self._run is None or stored is None or stored.id != self._run:
            self._run, self._logged = None if stored is None else stored.id, {}
            # A launch that saved something older than it goes on from would take the run back to there.
            self._after = max(there, default=None)
        wanted: list[int] = []
        for step in steps:
            if step in there and _is_same(self._place(step), there[step]):
                self._taken[step] = None
            elif self._after is None or step > self._after:
                wanted.append(step)
        points, is_new = self._rows(model, stored)
        if not wanted and not is_new:
            return []
        run = launch()
        self._run = run.id
        for step, values, time in points:
            run.log(values, step=step, timestamp=time)
            self._logged[step] = values
        saved = [run.save_dir(self._place(step), step=step) for step in wanted]
        self._taken.update(zip(wanted, saved, strict=True))
        return saved

    def _rows(
        self, model: ArtModel, stored: StoredRun | None
    ) -> tuple[list[tuple[int, dict[str, float], float | None]], bool]:
        """Points to log, and whether any is new: those of the last step may be, as rows are added to it."""
        found = model.history()
        last = None if self._logged or stored is None else stored.last_step
        first = None if stored is None else stored.fork_step
        points = [
            (step, values, found.times.get(step))
            for step, values in found.points.items()
            if self._logged.get(step) != values and (last is None or step >= last) and (first is None or step >= first)
        ]
        return points, any(last is None or step > last for step, _, _ in points)

    def wait(self) -> None:
        """Waits until all that was taken in is durable; raises what went wrong."""
        for pending in self._taken.values():
            if pending is not None:
                pending.result()

    def remove(self, steps: set[int]) -> None:
        """Removes directories that are in the store for certain; others stay."""
        for step in sorted(steps & self._taken.keys()):
            pending = self._taken[step]
            try:
                if pending is not None:
                    pending.result()
            except Error:
                continue
            shutil.rmtree(self._place(step), ignore_errors=True)
            self._taken.pop(step)

    def put(self, checkpoint: Checkpoint) -> None:
        """Makes a checkpoint the last directory, unless ART has something as new or newer."""
        place = self._place(checkpoint.step)
        if place.exists() or any(step > checkpoint.step for step in self._steps()):
            return
        self._checkpoints.mkdir(parents=True, exist_ok=True)
        # Under another name first: what is half written must not be the last one.
        made = self._root / f".{place.name}-{os.getpid()}"
        shutil.rmtree(made, ignore_errors=True)
        checkpoint.export(made)
        made.rename(place)
        self._taken[checkpoint.step] = None

    def set_torn_aside(self) -> None:
        """Moves what a crash left half written to ``torn/``: ART would take it for the last checkpoint."""
        for step in self._steps():
            place = self._place(step)
            # A checkpoint of Tinker's is a note of where it is.
            if place.is_dir() and not (place / "info.yaml").exists() and self._problem(step) is not None:
                self._move(place, "torn")

    def set_aside(self, keep: Checkpoint) -> None:
        """Moves all but one checkpoint to ``replaced/``: they are another run's."""
        for step in self._steps():
            place = self._place(step)
            if step != keep.step or not _is_same(place, keep):
                self._move(place, "replaced")
        self._taken.clear()

    def _move(self, place: Path, below: str) -> None:
        number = 1
        while (target := self._root / below / f"{place.name}-{number}").exists():
            number += 1
        target.parent.mkdir(exist_ok=True)
        place.rename(target)

    def _steps(self) -> list[int]:
        names = [path.name for path in self._checkpoints.iterdir()] if self._checkpoints.is_dir() else []
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and f"{int(name):04d}" == name)

    def _problem(self, step: int) -> str | None:
        return adapters.find_problem(self._place(step))

    def _place(self, step: int) -> Path:
        return self._checkpoints / f"{step:04d}"


def _is_same(place: Path, checkpoint: Checkpoint) -> bool:
    return adapters.digest(place) == adapters.digest(checkpoint.dir())
