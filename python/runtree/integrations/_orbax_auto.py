"""Orbax's part of :func:`runtree.autolog`: every manager's steps are taken in, and the metrics of its saves logged."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from typing import Any

import orbax.checkpoint as ocp

from runtree import _autolog
from runtree.integrations import _orbax_steps

_NAMES = ("save", "_finalize_checkpoint")
_before: dict[str, Any] = {}
_ingests: weakref.WeakKeyDictionary[Any, _orbax_steps.StepIngest] = weakref.WeakKeyDictionary()


def autolog(**init_keywords: Any) -> None:
    """From now on every ``CheckpointManager`` of Orbax saves into the run as :class:`CheckpointManager` does.

    The run is the one of this process, or begins with the first save, as ``runtree.init(**init_keywords)``.
    """
    undo()
    manager: Any = ocp.CheckpointManager
    _before.update({name: getattr(manager, name) for name in _NAMES})
    save, finalize = _before["save"], _before["_finalize_checkpoint"]

    def ingest(self: Any) -> _orbax_steps.StepIngest | None:
        if isinstance(self, _orbax_steps.CheckpointManager):
            return None
        run = _autolog.shared_run(init_keywords)
        found = _ingests.get(self)
        if found is None or found.run is not run:
            found = _ingests[self] = _orbax_steps.StepIngest(run, str(self.directory))
        return found

    def saving(self: Any, step: int, *args: Any, **keywords: Any) -> bool:
        # Before: the run's start decides which steps were there already.
        into = ingest(self)
        saved = save(self, step, *args, **keywords)
        if saved and into is not None:
            _orbax_steps.log(into.run, step, keywords.get("metrics"))
        return saved

    def finalizing(self: Any, step: int) -> None:
        finalize(self, step)
        into = _ingests.get(self)
        if into is not None:
            into.take_in()

    manager.save, manager._finalize_checkpoint = saving, finalizing


def undo() -> None:
    """Orbax is as it was."""
    manager: Any = ocp.CheckpointManager
    for name, function in _before.items():
        setattr(manager, name, function)
    _before.clear()
    _ingests.clear()
