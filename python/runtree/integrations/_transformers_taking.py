"""Directories on their way into a run: a thread copies each while training goes on, and nothing deletes it before that is done.

``Trainer`` deletes older ``checkpoint-N`` in the middle of the *next* save (``save_total_limit``), and rewrites one in place if it
saves the same step again. A hard link would not help: removing the other link changes the file's times, and a file that changes while
it is copied is refused. So whoever is about to delete or rewrite waits: the function of Transformers that deletes is wrapped once
(:func:`guard_rotation`), and the callback waits where else it happens. By the next save a copy has long been made, and nobody waits.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from runtree import _warn
from runtree.checkpoint import Checkpoint, PendingSave
from runtree.errors import Error, Unavailable

if TYPE_CHECKING:
    from runtree.run import Run

_uncopied: list[Taking] = []
"""Directories of this process that are still being read."""
watching: list[Callable[[Any], None]] = []
"""Whoever is told before checkpoints of a folder are deleted."""


class Worker:
    """A thread that does one thing after the other. It is there already when a save comes: to start one takes milliseconds where all
    processors are busy. A daemon: an interpreter that is dying waits for the runs, and has its own patience.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: int | None = None
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def begin(self) -> None:
        """Starts the thread, unless this process has it."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._queue = queue.SimpleQueue()
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def put(self, call: Callable[[], None]) -> None:
        """Has a call made."""
        self.begin()
        self._queue.put(call)

    def _work(self) -> None:
        calls = self._queue
        while True:
            # A warning that is made an error is one of the thread's own, and not its end.
            with contextlib.suppress(Exception):
                calls.get()()


_copier = Worker("runtree-take")
_marker = Worker("runtree-mark")


class Following:
    """What goes on beside the program until a save is durable: ``done``, ``result`` and ``exception`` as of a :class:`PendingSave`.

    The run's end waits for it, as long as it waits for saves.
    """

    def __init__(self, run: Run, step: int, then: Callable[[Checkpoint], None] | None) -> None:
        self._run = run
        self._step = step
        self._then = then
        self._pending: PendingSave | None = None
        self._error: Error | None = None
        self._finished = threading.Event()

    def start(self) -> None:
        """Begins."""
        run = self._run
        with run._lock:
            # As `run.save` does: what is on its way is waited for by `finish` and `load`.
            run._pending = [each for each in run._pending if not each.done()]
            run._pending.append(cast("PendingSave", self))
            run._saved = True
        _copier.put(self._follow)

    def _save(self) -> PendingSave | None:
        """The save; None if there is none, which was said."""
        raise NotImplementedError

    def _follow(self) -> None:
        try:
            self._pending = self._save()
        finally:
            if self._pending is None or self._then is None:
                self._finished.set()
            else:
                # On another thread: the next copy does not wait until this one is durable.
                _marker.put(self._mark)

    def _mark(self) -> None:
        assert self._pending is not None
        assert self._then is not None
        try:
            self._then(self._pending.result())
        except Error as error:
            # That it is not durable is told by the writer; that it is not marked, by this.
            if self._pending.exception() is None:
                _warn.once(f"{self._run.id} mark", f"the checkpoint of step {self._step} was not marked: {error}")
        finally:
            self._finished.set()

    def done(self) -> bool:
        """Whether :meth:`result` would return or raise at once."""
        return self._finished.is_set() and (self._pending is None or self._pending.done())

    def exception(self) -> Error | None:
        """What went wrong, once it is done."""
        return self._error if self._pending is None else self._pending.exception()

    def result(self, timeout: float | None = None) -> Checkpoint:
        """Waits until the checkpoint is durable, and marked if it is to be."""
        end = None if timeout is None else monotonic() + timeout
        self._finished.wait(timeout)
        if self._error is not None:
            raise self._error
        if self._pending is None:
            raise Unavailable(f"the checkpoint of step {self._step} is still being copied")
        return self._pending.result(None if end is None else max(0.0, end - monotonic()))


class Marking(Following):
    """A save that is to be marked once it is there."""

    def __init__(self, run: Run, step: int, pending: PendingSave, then: Callable[[Checkpoint], None]) -> None:
        super().__init__(run, step, then)
        self._saved = pending

    def _save(self) -> PendingSave:
        return self._saved


class Taking(Following):
    """A directory on its way."""

    def __init__(
        self, run: Run, path: Path, options: dict[str, Any], then: Callable[[Checkpoint], None] | None
    ) -> None:
        super().__init__(run, options["step"], then)
        self._path = path
        self._options = options
        self._copied = threading.Event()
        _uncopied.append(self)

    def _save(self) -> PendingSave | None:
        run, writer = self._run, self._run._writer
        try:
            assert writer is not None
            # Not `run.save_dir`: it takes the run's lock, which a finish that waits for this holds.
            native = writer.save_dir(self._path, self._options)
            return PendingSave(run._store, native, self._step, writer)
        except Error as error:
            self._error = error
        except Exception as error:  # A thread has nobody to raise to.
            self._error = Unavailable(f"{type(error).__name__}: {error}")
        finally:
            self._copied.set()
            _uncopied.remove(self)
        _warn.once(f"{run.id} take", f"{self._path} was not taken into {run.display_id}: {self._error}")
        return None

    def wait_copied(self, timeout: float | None = None) -> bool:
        """Waits until the directory may be changed or deleted."""
        return self._copied.wait(timeout)


def take(run: Run, path: Path, options: dict[str, Any], then: Callable[[Checkpoint], None] | None) -> Taking:
    """Takes a directory into a run, beside the program. ``options`` are those of :meth:`Run._save_options`."""
    taking = Taking(run, path, options, then)
    taking.start()
    run._cost.note(cast("PendingSave", taking))
    run._show_warnings()
    return taking


def begin() -> None:
    """Gets ready, where it is not waited for."""
    _copier.begin()
    _marker.begin()


def wait_copied() -> None:
    """Waits until every directory of this process is copied."""
    for taking in list(_uncopied):
        taking.wait_copied()


def guard_rotation() -> bool:
    """Makes the deletion of older checkpoints wait for the copy; False if this Transformers deletes them in another way.

    It replaces ``transformers.trainer.rotate_checkpoints``, for all trainers of the process: where nothing is being copied, or
    nothing is to be deleted, it is as ever.
    """
    trainer: Any = import_module("transformers.trainer")
    rotate: Any = getattr(trainer, "rotate_checkpoints", None)
    if rotate is None:
        return False
    if getattr(rotate, "_runtree", False):
        return True

    def rotate_copied(*args: Any, **keywords: Any) -> Any:
        if keywords.get("save_total_limit", args[1] if len(args) > 1 else None):
            for each in list(watching):
                each(keywords.get("output_dir", args[0] if args else None))
            wait_copied()
        return rotate(*args, **keywords)

    wrapped: Any = functools.wraps(rotate)(rotate_copied)
    wrapped._runtree = True
    trainer.rotate_checkpoints = wrapped
    return True
