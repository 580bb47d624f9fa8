"""Checkpoints as plain directories beside the store, ``<output_dir>/checkpoints/step_<N>/<component>/``, and the way back from one.

A directory appears whole or not at all. It has a note of where it comes from, ``runtree.json``, which is how one goes on from it;
only directories with a note of the same run are ever replaced, or removed when retention has taken the checkpoint.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import atexit
import json
import os
import shutil
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runtree import _warn
from runtree.errors import Error, Invalid, NotFound

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint, PendingSave
    from runtree.run import Run

_NOTE = "runtree.json"
_FORMAT = "runtree.view"
# How long a program that ends waits for what is not whole yet.
_LAST_SECONDS = 10.0


class Marker(NamedTuple):
    """Where a directory comes from."""

    store: str
    run: str
    id: str

    @property
    def reference(self) -> str:
        """The REF of its checkpoint, its store included."""
        return f"{self.store}#{self.run}@{self.id}"

    def checkpoint(self) -> Checkpoint:
        """Its checkpoint, in the store that the note names."""
        from runtree.store import Store

        return Store(self.store).checkpoint(f"{self.run}@{self.id}")


def read_marker(directory: Path) -> Marker:
    """The note of a directory.

    Raises:
        NotFound: There is no such directory.
        Invalid: It has no note, or one that can not be read.
    """
    found = _read(directory)
    if found is not None:
        return found
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory}", hint="checkpoints/step_<N> below an output_dir")
    raise Invalid(
        f"{directory} has no {_NOTE} of a checkpoint's output_dir",
        hint="what prime-rl wrote comes in with `runtree import DIR --layout prime-rl --run PROJECT/NAME`",
    )


def _read(directory: Path) -> Marker | None:
    try:
        note = json.loads((directory / _NOTE).read_text(encoding="utf-8"))
        if note["format"] == _FORMAT:
            return Marker(str(note["store"]), str(note["run"]), str(note["checkpoint"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


class View:
    """The directories of one run's checkpoints."""

    def __init__(self, run: Run, output_dir: Path) -> None:
        self._run = run
        self._root = output_dir.absolute() / "checkpoints"
        self._lock = threading.Lock()
        self._threads: list[tuple[threading.Thread, PendingSave]] = []
        # What a launch before left undone.
        for left in self._root.glob(f".{run.id}-*"):
            shutil.rmtree(left, ignore_errors=True)
        me = weakref.ref(self)

        def at_exit() -> None:
            view = me()
            if view is not None:
                view.wait(_LAST_SECONDS)

        atexit.register(at_exit)

    def follow(self, pending: PendingSave) -> None:
        """Writes the directory once the checkpoint is whole, beside the program."""
        thread = threading.Thread(target=self._when_whole, args=(pending,), name="runtree-view", daemon=True)
        self._threads = [each for each in self._threads if each[0].is_alive()]
        self._threads.append((thread, pending))
        thread.start()

    def wait(self, timeout: float) -> None:
        """Waits for what is whole, and ``timeout`` seconds for what is not yet."""
        deadline = time.monotonic() + timeout
        for thread, pending in list(self._threads):
            while thread.is_alive() and (pending.done() or time.monotonic() < deadline):
                thread.join(0.05)

    def _when_whole(self, pending: PendingSave) -> None:
        try:
            pending.result()
        except Error:
            # What does not become a checkpoint is told by the run.
            return
        try:
            # Retention is applied beside the commit: what it takes is not to be written first.
            if self._run.retention is not None and not self._run.finished:
                self._run.prune()
            with self._lock:
                self._reconcile()
        except (OSError, Error) as error:
            _warn.once(f"{self._run.id} view", f"{self._root} does not have all checkpoints: {error}")

    def _reconcile(self) -> None:
        """Makes the directories those of the checkpoints there are."""
        whole = {each.step: each for each in self._run.checkpoints(inherited=False) if each.effective}
        for checkpoint in whole.values():
            self._write(checkpoint)
        for directory in self._root.glob("step_*"):
            note = _read(directory)
            if note is not None and note.run == self._run.id and note.id not in {each.id for each in whole.values()}:
                self._remove(directory)

    def _write(self, checkpoint: Checkpoint) -> None:
        target = self._root / f"step_{checkpoint.step}"
        note = _read(target)
        if note is not None and note.id == checkpoint.id:
            return
        if os.path.lexists(target) and (note is None or note.run != self._run.id):
            _warn.once(f"{self._run.id} {target}", f"{target} is not of this run: it is left as it is")
            return
        self._root.mkdir(parents=True, exist_ok=True)
        made = self._root / f".{self._run.id}-{checkpoint.step}"
        raw = self._root / f".{self._run.id}-{checkpoint.step}-parts"
        for each in (made, raw):
            shutil.rmtree(each, ignore_errors=True)
        checkpoint.export(raw)
        _arrange(checkpoint.parts, raw, made)
        self._note(checkpoint, made)
        self._remove(target)
        made.rename(target)
        _sync(self._root)

    def _note(self, checkpoint: Checkpoint, directory: Path) -> None:
        info: dict[str, Any] = {
            "format": _FORMAT, "version": 1, "store": self._run.store.location, "run": checkpoint._info["run"]["id"],
            "checkpoint": checkpoint.id, "step": checkpoint.step,
        }  # fmt: skip
        with (directory / _NOTE).open("w", encoding="utf-8") as file:
            file.write(json.dumps(info, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync(directory)

    def _remove(self, directory: Path) -> None:
        """Out of sight first: what is half removed is no checkpoint."""
        if directory.is_dir():
            gone = self._root / f".{self._run.id}-{directory.name}-gone"
            shutil.rmtree(gone, ignore_errors=True)
            directory.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _sync(directory: Path) -> None:
    """What export wrote is on the disk; so are the names."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _arrange(parts: list[dict[str, Any]], raw: Path, made: Path) -> None:
    """``trainer/`` of a component with one rank, ``trainer/rank_<r>/`` of one with several."""
    made.mkdir()
    if len(parts) == 1:
        raw.rename(made / parts[0]["component"])
        return
    ranks = {each["component"]: 0 for each in parts}
    for part in parts:
        ranks[part["component"]] += 1
    for part in parts:
        component, rank = part["component"], part["rank"]
        place = made / component if ranks[component] == 1 else made / component / f"rank_{rank}"
        place.parent.mkdir(exist_ok=True)
        (raw / f"{component}-{rank}").rename(place)
    raw.rmdir()
