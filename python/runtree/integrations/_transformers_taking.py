"""Directories on their way into a run: a thread copies each while training goes on, and nothing deletes it before that is done.

``Trainer`` deletes older ``checkpoint-N`` in the middle of the *next* save (``save_total_limit``), and rewrites one in place if it
saves the same step again. A hard link would not help: removing the other link changes the file's times, and a file that changes while
it is copied is refused. So whoever is about to delete or rewrite waits: the function of Transformers that deletes is wrapped once
(:func:`guard_rotation`), and the callback waits where else it happens. By the next save a copy has long been made, and nobody waits.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
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


class Taking:
    """A directory on its way: ``done``, ``result`` and ``exception`` as of a :class:`PendingSave`, which a run's end waits for."""

    def __init__(
        self, run: Run, path: Path, options: dict[str, Any], then: Callable[[Checkpoint], None] | None
    ) -> None:
        self._run = run
        self._path = path
        self._options = options
        self._then = then
        self._copied = threading.Event()
        self._pending: PendingSave | None = None
        self._error: Error | None = None
        # Not a daemon: the interpreter's exit waits for it, and only then the run finishes.
        self._thread = threading.Thread(target=self._take, name="runtree-take", daemon=False)

    def start(self) -> None:
        """Begins. Where no thread can be had it is done at once."""
        _uncopied.append(self)
        try:
            self._thread.start()
        except RuntimeError:
            self._take()

    def _take(self) -> None:
        run, writer = self._run, self._run._writer
        try:
            assert writer is not None
            # Not `run.save_dir`: it takes the run's lock, which a finish that waits for this holds.
            native = writer.save_dir(self._path, self._options)
            self._pending = PendingSave(run._store, native, self._options["step"], writer)
        except Error as error:
            self._fail(error)
            return
        except BaseException as error:  # A thread has nobody to raise to.
            self._fail(Unavailable(f"{type(error).__name__}: {error}"))
            return
        finally:
            self._copied.set()
            _uncopied.remove(self)
        if self._then is not None:
            try:
                self._then(self._pending.result())
            except Error as error:
                # That it is not durable is told by the writer; that it is not marked, by this.
                if self._pending.exception() is None:
                    _warn.once(f"{run.id} mark", f"checkpoint of step {self._options['step']} was not marked: {error}")

    def _fail(self, error: Error) -> None:
        self._error = error
        _warn.once(f"{self._run.id} take", f"{self._path} was not taken into {self._run.display_id}: {error}")

    def wait_copied(self, timeout: float | None = None) -> bool:
        """Waits until the directory may be changed or deleted."""
        return self._copied.wait(timeout)

    def done(self) -> bool:
        """Whether :meth:`result` would return or raise at once."""
        return not self._thread.is_alive() and (self._pending is None or self._pending.done())

    def exception(self) -> Error | None:
        """What went wrong, once it is done."""
        return self._error if self._pending is None else self._pending.exception()

    def result(self, timeout: float | None = None) -> Checkpoint:
        """Waits until the checkpoint is durable, and marked if it is to be."""
        end = None if timeout is None else monotonic() + timeout
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        if self._pending is None:
            raise Unavailable(f"{self._path} is still being copied")
        return self._pending.result(None if end is None else max(0.0, end - monotonic()))


def take(run: Run, path: Path, options: dict[str, Any], then: Callable[[Checkpoint], None] | None) -> Taking:
    """Takes a directory into a run, beside the program. ``options`` are those of :meth:`Run._save_options`."""
    taking = Taking(run, path, options, then)
    with run._lock:
        # As `run.save` does: what is on its way is waited for by `finish` and `load`.
        run._pending = [each for each in run._pending if not each.done()]
        run._pending.append(cast("PendingSave", taking))
        run._saved = True
    taking.start()
    run._cost.note(cast("PendingSave", taking))
    run._show_warnings()
    return taking


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
            wait_copied()
        return rotate(*args, **keywords)

    wrapped: Any = functools.wraps(rotate)(rotate_copied)
    wrapped._runtree = True
    trainer.rotate_checkpoints = wrapped
    return True
