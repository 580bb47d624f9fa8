"""Orbax (JAX): its checkpoints taken into a run as they are, or state trees written straight into the run.

See docs/integrations/orbax.md.

As they are: :class:`CheckpointManager`, Orbax's own with a run, or :class:`StepIngest` as its ``post_finalization_callback``. Every
finalised step directory becomes a checkpoint, byte for byte.

Straight: :class:`RuntreeCheckpointHandler` with ``args=RuntreeSave(state)``, and :class:`Checkpointable` for Orbax's v1 API. What
Orbax writes then is a note of a few bytes; the arrays are the run's, deduplicated across steps and forks. A step that Orbax has
finalised is durable in the run.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedFunctionDecorator=false, reportUntypedClassDecorator=false
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import future

from runtree import _live
from runtree._jax_restore import plain, restore
from runtree.checkpoint import Checkpoint, PendingSave
from runtree.errors import Error, Invalid, NotFound
from runtree.integrations._orbax_auto import autolog, undo
from runtree.integrations._orbax_steps import CheckpointManager, StepIngest
from runtree.run import Run
from runtree.store import Store

__all__ = [
    "CheckpointManager",
    "Checkpointable",
    "RuntreeCheckpointHandler",
    "RuntreeRestore",
    "RuntreeSave",
    "StepIngest",
    "autolog",
    "restore",
    "undo",
]

_NOTE = "runtree.json"
_FORMAT = "runtree.orbax"
# Orbax writes "5/state" as "5.orbax-checkpoint-tmp-…/state".
_STEP = re.compile(r"^(?:.*_)?(\d+)(?:\.orbax-checkpoint-tmp.*)?$")


class RuntreeCheckpointHandler(ocp.AsyncCheckpointHandler):
    """Saves a pytree into a run: ``CheckpointManager(directory, item_handlers=RuntreeCheckpointHandler(run))``.

    ``save`` returns when the arrays have been copied to the host; Orbax finalises the step once all processes' parts are durable.
    Of an array that processes share, each saves the shards whose first replica it has. A save that fails, and one that was called
    wrongly, raises at the next ``save`` or ``wait_until_finished``, and the step is not finalised. Removing a step there removes the
    note alone; checkpoints go as the run's retention says.

    Args:
        run: The live run; this process's only one unless given.
        component: Whose part of the checkpoint it is.
    """

    def __init__(self, run: Run | None = None, *, component: str = "trainer") -> None:
        self._run = run
        self._component = component

    async def async_save(self, directory: Any, *args: Any, **keywords: Any) -> Any:
        """Begins a save; what it returns is done when it is durable."""
        try:
            run, pending = self._begin(directory, keywords["args"] if "args" in keywords else args[0])
        except Error as error:
            # Raised here, Orbax's own threads would wait for a directory that is never made, and hold up the program's end.
            return [future.CommitFutureAwaitingContractedSignals(_fail(error), name="runtree")]
        return [future.CommitFutureAwaitingContractedSignals(_commit(run, pending, directory), name="runtree")]

    def save(self, directory: Any, *args: Any, **keywords: Any) -> None:
        """Saves, and returns when it is durable."""

        run, pending = self._begin(directory, keywords["args"] if "args" in keywords else args[0])
        _write_note(run, pending.result(), directory)

    def _begin(self, directory: Any, wanted: RuntreeSave) -> tuple[Run, PendingSave]:
        run = _run(self._run)
        step = _step(wanted.step, directory)
        return run, _save(run, self._component, wanted.item, step, wanted.metrics, wanted.name)

    def restore(self, directory: Any, *args: Any, **keywords: Any) -> Any:
        """The state: as it was saved, or as the item of ``RuntreeRestore`` is; see :func:`restore`."""
        wanted: Any = keywords.get("args", args[0] if args else None)
        return _load(self._run, self._component, directory, getattr(wanted, "item", None))

    def metadata(self, directory: Any) -> Any:
        """Its tensors, without reading one; see :meth:`Checkpoint.tensors`."""
        return _find(self._run, directory).tensors()


@ocp.args.register_with_handler(RuntreeCheckpointHandler, for_save=True)
@dataclasses.dataclass
class RuntreeSave(ocp.args.CheckpointArgs):
    """What to save; ``step`` is that of the directory's name unless given, ``metrics`` and ``name`` are those of :meth:`Run.save`."""

    item: Any
    step: int | None = None
    metrics: Mapping[str, float] | None = None
    name: str | None = None


@ocp.args.register_with_handler(RuntreeCheckpointHandler, for_restore=True)
@dataclasses.dataclass
class RuntreeRestore(ocp.args.CheckpointArgs):
    """What to restore it as: a pytree of arrays or ``jax.ShapeDtypeStruct`` with shardings; None: as it was saved."""

    item: Any = None


class Checkpointable:
    """A pytree for Orbax's v1 API: ``ocp.save_checkpointables(path, {"state": Checkpointable(value, run)})``.

    Loading takes one whose value says what is wanted, as :class:`RuntreeRestore` does, and puts what was saved there.

    Args:
        value: The pytree; None loads it as it was saved.
        run: The live run; this process's only one unless given.
        step: That of the directory's name unless given.
        component: Whose part of the checkpoint it is.
    """

    def __init__(
        self, value: Any = None, run: Run | None = None, *, step: int | None = None, component: str = "trainer"
    ) -> None:
        self.value = value
        self._run = run
        self._step = step
        self._component = component

    async def save(self, directory: Any) -> Awaitable[None]:
        """Begins a save; what it returns is done when it is durable."""
        run = _run(self._run)
        return _commit(
            run, _save(run, self._component, self.value, _step(self._step, directory.path), None, None), directory
        )

    async def load(self, directory: Any) -> Awaitable[None]:
        """Begins to load."""

        async def load() -> None:
            self.value = await asyncio.to_thread(_load, self._run, self._component, directory, self.value)

        return load()


# ---- The note that stands for a checkpoint in a directory of Orbax.


def _save(run: Run, component: str, item: Any, step: int, metrics: Any, name: str | None) -> PendingSave:
    several = jax.process_count() > 1
    return run.save(
        plain(item), step=step, metrics=metrics, name=name, component=component, sharded=True if several else None,
        rank=jax.process_index() if several else None, world_size=jax.process_count() if several else None,
    )  # fmt: skip


async def _fail(error: Error) -> None:
    raise error


async def _commit(run: Run, pending: PendingSave, directory: Any) -> None:
    checkpoint = await asyncio.to_thread(pending.result)
    if hasattr(directory, "await_creation"):
        directory = await directory.await_creation()
    await asyncio.to_thread(_write_note, run, checkpoint, directory)


def _write_note(run: Run, checkpoint: Checkpoint, directory: Any) -> None:
    if jax.process_index() == 0:
        note = {"format": _FORMAT, "version": 1, "store": run.store.location, "run": run.id}
        text = json.dumps({**note, "checkpoint": checkpoint.id, "step": checkpoint.step}, indent=1)
        (Path(str(directory)) / _NOTE).write_text(text + "\n", encoding="utf-8")


def _load(run: Run | None, component: str, directory: Any, target: Any) -> Any:
    checkpoint = _find(run, directory)
    if target is None:
        return checkpoint.load(component=component)
    return restore(checkpoint, target, component)


def _find(run: Run | None, directory: Any) -> Checkpoint:
    path = Path(str(directory)) / _NOTE
    try:
        note = json.loads(path.read_bytes())
        if note["format"] != _FORMAT or note["version"] != 1:
            raise Invalid(f"{path} is of format {note['format']!r} {note['version']!r}, which is not known here")
        store, reference = str(note["store"]), f"{note['run']}@{note['checkpoint']}"
    except OSError:
        raise NotFound(f"there is no {path}", hint="it was not saved with RuntreeSave") from None
    except (ValueError, KeyError, TypeError):
        raise Invalid(f"{path} can not be read") from None
    own = run or next(iter(_live._runs.values()), None)
    if own is not None and own.store.location != store:
        # A run that goes on in a copy of the store has it there.
        try:
            return own.store.checkpoint(reference)
        except Error:
            pass
    return Store(store).checkpoint(reference)


def _run(given: Run | None) -> Run:
    if given is not None:
        return given
    live = list(_live._runs.values())
    if len(live) != 1:
        found = ", ".join(run.display_id for run in live) or "none"
        raise Invalid(
            f"nothing says which run to save into; live here: {found}",
            hint="CheckpointManager(directory, item_handlers=RuntreeCheckpointHandler(run))",
        )
    return live[0]


def _step(given: int | None, directory: Any) -> int:
    if given is not None:
        return given
    # The item's folder is in the step's; one alone may be the step's itself.
    path = getattr(directory, "path", directory)
    for name in (Path(str(path)).parent.name, Path(str(path)).name):
        found = _STEP.match(name)
        if found is not None:
            return int(found[1])
    raise Invalid(f"the directory {path} says nothing of its step", hint="RuntreeSave(state, step=5)")
