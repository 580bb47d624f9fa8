"""runtree: git for training runs.

It forks a run at any step, with its weights, optimizer, config and metric history, in milliseconds and without copying a byte;
it resumes exactly where a run stopped; and it shows the whole tree of runs in a browser (``runtree serve``).

    import runtree

    with runtree.init("digits", config={"lr": 0.1}) as run:
        run.log({"loss": 0.5})
        run.save({"model": model, "step": 0})
"""

from __future__ import annotations

import os as _os
from typing import TYPE_CHECKING

from runtree._native import __version__
from runtree._native import after_fork_in_child as _after_fork_in_child
from runtree.errors import (
    Conflict,
    Corrupt,
    Denied,
    Error,
    Internal,
    Invalid,
    InvalidType,
    LostData,
    NotFound,
    RuntreeWarning,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from runtree import torch
    from runtree._autolog import autolog
    from runtree._check import StateCheck, check
    from runtree._init import init
    from runtree._rng import Rng, rng
    from runtree._runs import Runs
    from runtree.checkpoint import Checkpoint, PendingSave
    from runtree.checkpoint_config import CheckpointConfig
    from runtree.checkpointer import Checkpointer
    from runtree.inspection import TensorReport
    from runtree.lineage import Attempt, MetricSummary, MetricValue, Segment, Sweep
    from runtree.media import File, Histogram, Image, MediaItem, MediaKey, Table, Text
    from runtree.report import FinishReport, Health
    from runtree.retention import BestN, EveryNSteps, LatestN, NewerThan, PruneDecision, PrunePlan, Retention
    from runtree.run import Run
    from runtree.series import Series
    from runtree.store import Store
    from runtree.stored import RunDiff, StoredRun

__all__ = [
    "Attempt",
    "BestN",
    "Checkpoint",
    "CheckpointConfig",
    "Checkpointer",
    "Conflict",
    "Corrupt",
    "Denied",
    "Error",
    "EveryNSteps",
    "File",
    "FinishReport",
    "Health",
    "Histogram",
    "Image",
    "Internal",
    "Invalid",
    "InvalidType",
    "LatestN",
    "LostData",
    "MediaItem",
    "MediaKey",
    "MetricSummary",
    "MetricValue",
    "NewerThan",
    "NotFound",
    "PendingSave",
    "PruneDecision",
    "PrunePlan",
    "Retention",
    "Rng",
    "Run",
    "RunDiff",
    "Runs",
    "RuntreeWarning",
    "Segment",
    "Series",
    "StateCheck",
    "Store",
    "StoredRun",
    "Sweep",
    "Table",
    "TensorReport",
    "Text",
    "Unavailable",
    "Unsupported",
    "__version__",
    "autolog",
    "check",
    "init",
    "rng",
    "torch",
]

# Imported when first used: a script that only logs should not wait for what it does not use.
_LAZY = {
    "Attempt": "runtree.lineage",
    "Checkpoint": "runtree.checkpoint",
    "CheckpointConfig": "runtree.checkpoint_config",
    "Checkpointer": "runtree.checkpointer",
    "FinishReport": "runtree.report",
    "Health": "runtree.report",
    "MetricSummary": "runtree.lineage",
    "MetricValue": "runtree.lineage",
    "PendingSave": "runtree.checkpoint",
    "BestN": "runtree.retention",
    "EveryNSteps": "runtree.retention",
    "LatestN": "runtree.retention",
    "NewerThan": "runtree.retention",
    "PruneDecision": "runtree.retention",
    "PrunePlan": "runtree.retention",
    "Retention": "runtree.retention",
    "Text": "runtree.media",
    "Table": "runtree.media",
    "MediaKey": "runtree.media",
    "MediaItem": "runtree.media",
    "Image": "runtree.media",
    "Histogram": "runtree.media",
    "File": "runtree.media",
    "Rng": "runtree._rng",
    "Run": "runtree.run",
    "RunDiff": "runtree.stored",
    "Runs": "runtree._runs",
    "Segment": "runtree.lineage",
    "Series": "runtree.series",
    "StateCheck": "runtree._check",
    "Store": "runtree.store",
    "StoredRun": "runtree.stored",
    "Sweep": "runtree.lineage",
    "TensorReport": "runtree.inspection",
    "autolog": "runtree._autolog",
    "check": "runtree._check",
    "init": "runtree._init",
    "rng": "runtree._rng",
}

# A forked child (a DataLoader worker) has the memory of what was made before, but none of its threads.
_os.register_at_fork(after_in_child=_after_fork_in_child)


def __getattr__(name: str) -> object:
    import importlib

    if name == "torch":
        return importlib.import_module("runtree.torch")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'runtree' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
