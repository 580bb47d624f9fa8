"""Accelerate: ``accelerator.save_state()`` becomes a checkpoint of a run, ``load_state("MMP-42@500")`` brings one back.

    run = runtree.init("digits", run_id="mlp", resume="allow")
    accelerator = Accelerator()
    model, optimizer, loader, scheduler = accelerator.prepare(...)
    runtree.integrations.accelerate.register(accelerator, run)

Accelerate's pre-hooks are called before most files are written, so none of them can say that a directory is complete. What they are
told (where it is written, where it is read from) is taken from them; the directory is taken in behind ``save_state``, when all ranks
are through: every file of every rank is in one checkpoint, and the bytes are copied before ``save_state`` returns.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from runtree import _warn
from runtree.checkpoint import Checkpoint, PendingSave
from runtree.errors import Error, Invalid, NotFound, Unavailable
from runtree.integrations._names import checkpoint_name
from runtree.integrations._rates import Rates
from runtree.integrations._source import Source, checked_on_fork, on_first
from runtree.run import Run

__all__ = ["Registered", "RuntreeTracker", "autolog", "register", "undo"]

# "step_500", "step-500": any other number in a directory's name may count something else.
_STEP = re.compile(r"step[_=-]?(\d+)$")
# Where `register` leaves its handle.
_HANDLE = "_runtree"


class RuntreeTracker(GeneralTracker):
    """Writes what ``accelerator.log`` is given to a run: ``Accelerator(log_with=RuntreeTracker(run))``.

    ``run`` is the live run; without one, this process's only one, else ``runtree.init`` is called with the keywords when the first
    value comes. :func:`register` adds one by itself.
    """

    name = "runtree"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, run: Run | None = None, *, _source: Source | None = None, **init_keywords: Any) -> None:
        super().__init__()
        self._source = Source(run, init_keywords) if _source is None else _source

    @property
    def tracker(self) -> Run:
        """The run."""
        return self._source.get()

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Adds the configuration of ``init_trackers`` to the run's config."""
        run = self._source.get()
        if run.rank == 0:
            run.update_config(dict(values))

    def log(self, values: Mapping[str, Any], step: int | None = None, **keywords: Any) -> None:
        """Logs the values of a step. On other ranks than the first it does nothing, unless the run has ``log_ranks="all"``."""
        run = self._source.get()
        if run.rank == 0 or not run._quiet:
            run.log(values, step, **keywords)

    def finish(self) -> None:
        """Ends the run if the tracker began it; one that was given goes on."""
        run = self._source.known
        if run is not None and self._source.is_own:
            run.finish()


class Registered:
    """What :func:`register` returns: how an accelerator is connected with a run."""

    def __init__(self, accelerator: Accelerator, source: Source, on_fork: str) -> None:
        self.accelerator = accelerator
        #: What ``save_state`` saved last, on the main process.
        self.saved: PendingSave | None = None
        #: What ``load_state`` loaded last.
        self.loaded: Checkpoint | None = None
        self._source = source
        self._on_fork = on_fork
        self._directory: str | None = None
        self._save_state: Callable[..., Any] = accelerator.save_state
        self._load_state: Callable[..., Any] = accelerator.load_state
        self._tracker = RuntreeTracker(_source=source)
        self._hook = accelerator.register_save_state_pre_hook(self._note_directory)
        if not any(isinstance(each, RuntreeTracker) for each in (*accelerator.log_with, *accelerator.trackers)):
            accelerator.trackers.append(self._tracker)
        settings: Any = accelerator
        settings.save_state = self.save_state
        settings.load_state = self.load_state

    @property
    def run(self) -> Run:
        """The run."""
        return self._source.get()

    def remove(self) -> None:
        """Takes it back: the accelerator is as it was."""
        settings: Any = self.accelerator
        self._hook.remove()
        settings.trackers = [each for each in settings.trackers if each is not self._tracker]
        for name in ("save_state", "load_state", _HANDLE):
            vars(settings).pop(name, None)

    # ---- Saving.

    def _note_directory(self, models: list[Any], weights: list[Any], directory: str) -> None:
        self._directory = directory

    def save_state(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        safe_serialization: bool = True,
        *,
        step: int | None = None,
        name: str | None = None,
        metrics: Mapping[str, float] | None = None,
        pin: bool = False,
        **keywords: Any,
    ) -> Any:
        """Saves as accelerate does, and takes what was written in as one checkpoint. A call of all ranks.

        Without ``output_dir`` (and without automatic naming) the directory is a temporary one, gone when this returns. One that is
        given stays, and its name is the checkpoint's unless ``name`` says another. ``step`` is what the directory's name says
        (``step_500``), else the last logged. ``metrics`` and ``pin`` are those of ``run.save``.

        A disk that fails is a warning, as in ``run.save``; :attr:`saved` has the result.
        """
        accelerator, run = self.accelerator, self.run
        naming = accelerator.project_configuration.automatic_checkpoint_naming
        _refuse_limit(accelerator)
        is_temporary = output_dir is None and not naming
        step = on_first(lambda: self._step(step, None if is_temporary or naming else output_dir))
        if is_temporary:
            output_dir = on_first(
                lambda: tempfile.mkdtemp(prefix=".runtree-state-", dir=accelerator.project_dir or ".")
            )
        try:
            location = self._save_state(output_dir, safe_serialization, **keywords)
            accelerator.wait_for_everyone()
            directory = Path(self._directory or location)
            if name is None and not is_temporary:
                name = directory.name
            more = {"name": None if name is None else checkpoint_name(name), "metrics": metrics, "pin": pin}
            on_first(lambda: self._take_in(run, directory, step, more))
        finally:
            if is_temporary and accelerator.is_main_process and output_dir is not None:
                shutil.rmtree(output_dir, ignore_errors=True)
        return None if is_temporary else location

    def _step(self, step: int | None, directory: str | os.PathLike[str] | None) -> int:
        if step is not None:
            return step
        found = None if directory is None else _STEP.search(Path(directory).name)
        if found is not None:
            return int(found[1])
        if self.run.step is not None or self.run.disabled:
            return self.run.step or 0
        raise Invalid(
            "nothing says which step this is",
            hint='save_state(step=500), save_state("step_500"), or log something first',
        )

    def _take_in(self, run: Run, directory: Path, step: int, more: dict[str, Any]) -> None:
        """On the main process, when all ranks have written."""
        if run.disabled:
            return
        missing = [
            rank for rank in range(self.accelerator.num_processes)
            if not (directory / f"random_states_{rank}.pkl").exists()
        ]  # fmt: skip
        if missing:
            raise Invalid(
                f"{directory} has no files of rank {', '.join(map(str, missing[:8]))}: the nodes do not share it",
                hint="save_state to a directory that all nodes see; a checkpoint has the files of all ranks or is none",
            )
        try:
            self.saved = run.save_dir(directory, step=step, sharded=False, rank=0, world_size=1, **more)
        except Unavailable as error:
            _warn.once(f"{run.id} save_state", f"{directory} was not taken in: {error}")

    # ---- Loading.

    def load_state(
        self,
        input_dir: str | os.PathLike[str] | Checkpoint | None = None,
        load_kwargs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        """Loads as accelerate does: from a directory, or from a checkpoint by its REF (``"MMP-42@500"``, ``"best:loss"``).

        Without either it is the checkpoint that this launch starts from (``run.resumed_from``), the same on all ranks. One of
        another run keeps the learning rate of the script, unless ``on_fork="keep"``.

        Raises:
            NotFound: There is no such checkpoint.
        """
        checkpoint = self._find(input_dir)
        rates = None
        if checkpoint is not None:
            with self.accelerator.local_main_process_first():
                input_dir = checkpoint.dir()
            if self._on_fork == "use-args" and checkpoint._name[0] != self.run.id:
                rates = Rates(*_parts(self.accelerator))
        self._load_state(None if input_dir is None else os.fspath(input_dir), load_kwargs, **keywords)  # type: ignore[arg-type]
        self.loaded = checkpoint
        if rates is not None:
            rates.put_back()
        writer = self.run._writer
        if checkpoint is not None and writer is not None and not writer.inert:
            writer.note_loaded(*checkpoint._name, checkpoint.bytes)

    def _find(self, wanted: str | os.PathLike[str] | Checkpoint | None) -> Checkpoint | None:
        """The checkpoint that is meant; None if it is a directory of somebody else's."""
        run = self.run

        def look() -> tuple[str, str] | None:
            if isinstance(wanted, Checkpoint):
                return wanted._name
            if wanted is None:
                if self.accelerator.project_configuration.automatic_checkpoint_naming and run.resumed_from is None:
                    return None
                return run._to_load("latest")._name
            path = Path(os.path.expanduser(wanted))
            if path.is_dir():
                # A copy in the cache has the name of its checkpoint.
                return next((each._name for each in run.checkpoints() if each.id == path.name), None)
            try:
                return run._to_load(os.fspath(wanted))._name
            except Error as error:
                raise type(error)(
                    error.message, hint=f"{os.fspath(wanted)!r} is no directory, and {error.hint or 'no checkpoint'}"
                ) from None

        if run.disabled:
            if wanted is None:
                raise NotFound("runtree is disabled: there is no checkpoint", hint="pass load_state a directory")
            return None
        name = on_first(look)
        return None if name is None else Checkpoint(run.store, run.store.native.checkpoint_info(*name))


def register(
    accelerator: Accelerator, run: Run | None = None, *, on_fork: str = "use-args", **init_keywords: Any
) -> Registered:
    """Connects an accelerator with a run: its ``save_state``, ``load_state`` and ``log``. A second call changes nothing.

    Args:
        accelerator: The accelerator.
        run: The live run. Without one, this process's only one, else ``runtree.init`` is called with ``init_keywords`` when the
            accelerator first logs, saves or loads.
        on_fork: The learning rate after a checkpoint of another run was loaded: ``"use-args"``, that of the script, at the place
            where its schedule is; ``"keep"``, the checkpoint's. What a run saved itself is always restored as it was.
        init_keywords: See ``run``.

    Raises:
        Invalid: The accelerator has a ``total_limit``: it deletes before it saves.
    """
    found: Registered | None = vars(accelerator).get(_HANDLE)
    if found is not None:
        return found
    _refuse_limit(accelerator)
    handle = Registered(accelerator, Source(run, init_keywords, join=True), checked_on_fork(on_fork))
    setattr(accelerator, _HANDLE, handle)
    return handle


def _refuse_limit(accelerator: Accelerator) -> None:
    limit: Any = accelerator.project_configuration.total_limit
    if limit is not None:
        raise Invalid(
            f"total_limit={limit} deletes a checkpoint before the next one is saved",
            hint=f'take it off; runtree.init(retention={{"keep_last": {limit}}}) lets go of the old when the new is durable',
        )


def _parts(accelerator: Accelerator) -> tuple[list[Any], list[Any]]:
    """The optimizers and the schedulers, out of their wrappers."""
    optimizers = [getattr(each, "optimizer", each) for each in accelerator._optimizers]
    schedulers: list[Any] = [getattr(each, "scheduler", each) for each in accelerator._schedulers]
    return optimizers, [each for each in schedulers if hasattr(each, "optimizer")]


# ---- Every accelerator.

_original: Callable[..., None] | None = None


def autolog(*, on_fork: str = "use-args", **init_keywords: Any) -> None:
    """Registers every accelerator made from now on. A second call changes nothing; :func:`undo` takes it back.

    The run is the one that is live here, else ``runtree.init(**init_keywords)`` at the first log, save or load. An accelerator
    with a ``total_limit`` is left alone, with a warning.
    """
    global _original
    if _original is not None:
        return
    checked_on_fork(on_fork)
    original = _original = Accelerator.__init__

    @wraps(original)
    def made(self: Accelerator, *args: Any, **keywords: Any) -> None:
        original(self, *args, **keywords)
        try:
            register(self, on_fork=on_fork, **init_keywords)
        except Invalid as error:
            _warn.once("accelerate total_limit", f"this accelerator is not registered: {error}")

    Accelerator.__init__ = made


def undo() -> None:
    """Ends :func:`autolog`. Accelerators that are registered stay so; see :meth:`Registered.remove`."""
    global _original
    if _original is not None:
        Accelerator.__init__ = _original
        _original = None
