"""Lightning (``lightning`` or ``pytorch_lightning``): metrics, checkpoints, going on and forking.

    run = runtree.init("digits", run_id="mlp", resume="allow")
    trainer = lightning.Trainer(max_epochs=20, **connect(run))
    trainer.fit(model, ckpt_path=start_of(run))

:func:`connect` gives a trainer all three parts: :class:`RuntreeLogger`, :class:`RuntreeCheckpointIO`, :class:`RuntreeCallback`. Each
works alone, too. A sharded strategy writes past every ``CheckpointIO``; :class:`RuntreeModelParallelStrategy` writes to the run.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from runtree.integrations._lightning import pl
from runtree.integrations._lightning_io import RuntreeCheckpointIO
from runtree.integrations._lightning_logger import RuntreeCallback, RuntreeLogger
from runtree.integrations._lightning_sharded import RuntreeModelParallelStrategy
from runtree.run import Run

__all__ = [
    "RuntreeCallback", "RuntreeCheckpointIO", "RuntreeLogger", "RuntreeModelParallelStrategy",
    "autolog", "connect", "start_of", "undo",
]  # fmt: skip


def connect(run: Run | None = None, *, on_fork: str = "use-args", **init_keywords: Any) -> dict[str, Any]:
    """Keywords for a ``Trainer``: a logger, a checkpoint IO and a callback for one run: ``Trainer(**connect(run), …)``.

    Without a run it is this process's only one, else ``runtree.init`` is called with ``init_keywords`` when the trainer starts.
    ``on_fork`` is that of :class:`RuntreeCallback`. A trainer with callbacks of its own adds them to the list.
    """
    logger, io = RuntreeLogger(run, **init_keywords), RuntreeCheckpointIO(run)
    # What the logger starts is the run of both, whatever else is live in the process.
    io._source = logger._source
    return {"logger": logger, "plugins": [io], "callbacks": [RuntreeCallback(on_fork)]}


def start_of(run: Run) -> str | None:
    """The ``ckpt_path`` of the checkpoint that this launch starts from, in a resume or a fork; None at the very beginning."""
    start = run.resumed_from
    return None if start is None else start.reference


# ---- Every trainer.

_original: Callable[..., None] | None = None


def autolog(*, on_fork: str = "use-args", **init_keywords: Any) -> None:
    """Gives every trainer made from now on a logger that also takes in what ``ModelCheckpoint`` writes, and a callback.

    Files stay where they are and what they are. A second call changes nothing; :func:`undo` takes it back. The run is the one
    that is live here, else ``runtree.init(**init_keywords)`` when a trainer starts. A trainer that has a :class:`RuntreeLogger`, or
    ``logger=False``, is left alone.
    """
    global _original
    if _original is not None:
        return
    RuntreeCallback(on_fork)
    original = _original = pl.Trainer.__init__

    @wraps(original)
    def made(self: Any, *args: Any, **keywords: Any) -> None:
        original(self, *args, **keywords)
        if keywords.get("logger") is False or keywords.get("barebones") or keywords.get("fast_dev_run"):
            return
        if any(isinstance(each, RuntreeLogger) for each in self.loggers):
            return
        self.loggers = [*self.loggers, RuntreeLogger(checkpoints=True, _join=True, **init_keywords)]
        if not any(isinstance(each, RuntreeCallback) for each in self.callbacks):
            # Those that save come last, as Lightning orders them.
            self.callbacks.insert(0, RuntreeCallback(on_fork))

    pl.Trainer.__init__ = made


def undo() -> None:
    """Ends :func:`autolog`. Trainers that were made keep what they have."""
    global _original
    if _original is not None:
        pl.Trainer.__init__ = _original
        _original = None
