"""What an Orbax manager writes, taken into a run: each finalised step directory, byte for byte, with its metrics."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from runtree import _warn
from runtree.checkpoint import PendingSave
from runtree.errors import Error
from runtree.run import Run

# "5", "000005", "step_5"; while it is written, Orbax has more behind it.
_STEP = re.compile(r"^(?:.*_)?(\d+)$")
# How long the step that Orbax speaks of may take to appear under its name: it is renamed next.
_APPEARS_SECONDS = 60.0


class StepIngest:
    """Takes each finalised step below an Orbax directory into a run, once. Reads what Orbax wrote, and changes none of it.

    It is what ``AsyncOptions(post_finalization_callback=StepIngest(run, directory))`` takes, and :meth:`take_in` may be called at
    any time. Steps that the run has, and those before the one it goes on from, are left. What a launch that was killed left
    finalised is taken in by the run's next; what a new run finds there is another's, and is left, too. A step's ``metrics`` (those
    of ``CheckpointManager.save``, if it ranks by them) are the checkpoint's. What goes wrong is a warning, and the run's ``finish``
    raises.

    Args:
        run: The live run.
        directory: The manager's.
        component: Whose part of the checkpoint it is.
        existing: Whether a new run takes in what it finds.
    """

    def __init__(
        self, run: Run, directory: str | os.PathLike[str], *, component: str = "trainer", existing: bool = False
    ) -> None:
        self.run = run
        self.directory = Path(directory).absolute()
        self._component = component
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        start = run.resumed_from
        self._after = None if start is None else start.step
        self._taken = {each.step for each in run.checkpoints(pending=True) if each.effective}
        if run.attempt <= 1 and not existing:
            self._taken |= {step for step, _ in self._finalised()}

    def __call__(self) -> None:
        """Orbax calls this before a step gets its name: what follows is waited for beside it."""
        if jax.process_index() == 0 and not self.run.disabled:
            thread = threading.Thread(target=self._when_named, name="runtree-orbax", daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]
            thread.start()

    def take_in(self) -> list[PendingSave]:
        """Takes in every finalised step that the run has not; returns when they may be removed there."""
        if jax.process_index() or self.run.disabled:
            return []
        with self._lock:
            try:
                pending = [self._take(step, place) for step, place in self._finalised()]
                for each in pending:
                    each.result()
            except (OSError, Error) as error:
                _warn.once(f"{self.run.id} orbax", f"{self.directory} was not taken in: {error}")
                return []
        return pending

    def wait(self, timeout: float | None = None) -> None:
        """Waits for what the callback has begun, at most ``timeout`` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        for thread in list(self._threads):
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def _finalised(self) -> list[tuple[int, Path]]:
        found: list[tuple[int, Path]] = []
        for place in self.directory.iterdir() if self.directory.is_dir() else ():
            name = _STEP.match(place.name)
            if name is None or not place.is_dir():
                continue
            step = int(name[1])
            is_new = step not in self._taken and (self._after is None or step > self._after)
            if is_new and ocp.utils.is_checkpoint_finalized(place):
                found.append((step, place))
        return sorted(found)

    def _take(self, step: int, place: Path) -> PendingSave:
        pending = self.run.save_dir(place, step=step, component=self._component, metrics=_metrics(place))
        self._taken.add(step)
        return pending

    def _when_named(self) -> None:
        end = time.monotonic() + _APPEARS_SECONDS
        try:
            while not (found := self._finalised()) and time.monotonic() < end:
                time.sleep(0.01)
            # The manager may remove a step before it was read: what is linked stays.
            with tempfile.TemporaryDirectory(prefix=".runtree-", dir=self.directory.parent) as folder:
                with self._lock:
                    linked = [(step, _link(place, Path(folder) / place.name)) for step, place in found]
                    pending = [self._take(step, place) for step, place in linked if step not in self._taken]
                for each in pending:
                    each.result()
        except (OSError, Error) as error:
            _warn.once(f"{self.run.id} orbax", f"{self.directory} was not taken in: {error}")


def _link(place: Path, target: Path) -> Path:
    """The same directory again, of the same files; a copy where files can not be linked."""
    try:
        shutil.copytree(place, target, copy_function=os.link, symlinks=True)
    except (OSError, shutil.Error):
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(place, target, symlinks=True)
    return target


def _metrics(place: Path) -> dict[str, float]:
    """What Orbax keeps of the metrics that a step was saved with: numbers, nested ones by their path."""
    try:
        found: Any = json.loads((place / "metrics" / "metrics").read_bytes())
    except (OSError, ValueError):
        return {}
    return numbers(found)


def numbers(tree: Any, path: str = "") -> dict[str, float]:
    """The numbers of nested metrics, by ``a/b``."""
    if isinstance(tree, dict):
        flat: dict[str, float] = {}
        for key, value in tree.items():
            flat.update(numbers(value, f"{path}/{key}" if path else str(key)))
        return flat
    if isinstance(tree, bool) or not hasattr(tree, "__float__"):
        return {}
    return {path: float(tree)} if path else {}


class CheckpointManager(ocp.CheckpointManager):
    """Orbax's manager; what it saves is in the run, too, before the manager removes anything.

    ``CheckpointManager(directory, run=run, options=…)`` takes what Orbax's takes. The metrics of a ``save`` are logged at its step.
    :attr:`ingest` is what takes in. :meth:`bring` puts a checkpoint of the run back among its steps.
    """

    def __init__(self, directory: Any, *args: Any, run: Run, **keywords: Any) -> None:
        self.ingest = StepIngest(run, directory)
        super().__init__(directory, *args, **keywords)

    def save(self, step: int, *args: Any, **keywords: Any) -> bool:
        """As Orbax saves; its metrics are logged."""
        saved = super().save(step, *args, **keywords)
        if saved:
            log(self.ingest.run, step, keywords.get("metrics"))
        return saved

    def _finalize_checkpoint(self, step: int) -> None:
        # After the step has its name, before older ones (or, ranked last, it itself) are removed.
        super()._finalize_checkpoint(step)
        self.ingest.take_in()

    def wait_until_finished(self) -> None:
        """Waits for what is being saved; it is in the run then."""
        super().wait_until_finished()
        if hasattr(self, "_finalize_thread"):
            self.ingest.take_in()

    def bring(self, ref: str | int = "latest") -> int:
        """Puts a checkpoint of the run among the steps, byte for byte, unless it is there; returns its step.

        So a launch on another machine, or a fork, goes on as any: ``manager.restore(manager.bring())``. What a launch that was killed
        left finalised here is taken in first, and is the newest then; what was logged after the one before it is a ghost tail.

        Raises:
            NotFound: There is no such checkpoint.
        """
        if ref == "latest":
            self.ingest.take_in()
        checkpoint = self.ingest.run._to_load(ref)
        place = Path(str(self.directory)) / self._step_name_format.build_name(checkpoint.step)
        if jax.process_index() == 0 and not place.exists():
            checkpoint.export(place)
        # What is exported came from there.
        self.ingest._taken.add(checkpoint.step)
        self.reload()
        return checkpoint.step


def log(run: Run, step: int, metrics: Any) -> None:
    """Logs the metrics of a save."""
    found = numbers(metrics)
    if found and run.rank == 0:
        run.log(found, step=step)
