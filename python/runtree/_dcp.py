"""torch.distributed.checkpoint on runtree: what writing, reading and export share. :mod:`runtree.torch` imports it on demand.

A checkpoint that DCP writes is an ordinary one: each rank's part has a state tree whose tensors are shards with global shapes
and offsets, so ``run.load``, ``diff``, ``export`` and dedup work as for ``run.save``. Two things are particular. DCP divides
replicated leaves among the ranks, so no part is complete in itself: the root says so by its class, :class:`DistributedState`.
And what DCP calls ``BYTE_IO``, a pickle of its planner, is kept as the bytes it is, marked as :class:`DistributedBytes`, and
never looked into.
"""

from __future__ import annotations

import os
import re
from typing import Any, cast

from runtree import _live
from runtree.errors import Invalid
from runtree.run import Run
from runtree.stored import StoredRun

# "run/step-100", "step_100", "checkpoints/100", "run@100": a name, and the number at the end.
STEP = re.compile(
    r"^(?:(?P<run>.*?)[/@])?(?:[A-Za-z_]*?(?:step|iter|iteration|checkpoint|ckpt|epoch)[_=-]?)?(?P<step>\d+)/?$"
)


class DistributedState:
    """The root of what one rank wrote: a state that is complete only with the other ranks' parts."""

    __module__ = "runtree.torch"

    def __init__(self, state: dict[Any, Any]) -> None:
        self._state = state

    def state_dict(self) -> dict[Any, Any]:
        """The tree."""
        return self._state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Takes a tree."""
        self._state = state


class DistributedBytes:
    """Bytes that a planner of DCP made of an object; opaque to runtree."""

    __module__ = "runtree.torch"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def state_dict(self) -> bytes:
        """The bytes."""
        return self.data

    def load_state_dict(self, data: bytes) -> None:
        """Takes bytes."""
        self.data = data


def parse(checkpoint_id: Any) -> tuple[str | None, int | None]:
    """The run's name and the step in an id."""
    if checkpoint_id is None:
        return None, None
    if isinstance(checkpoint_id, int):
        return None, checkpoint_id
    text = cast("str", os.fspath(checkpoint_id))
    found = STEP.match(text)
    if found is None:
        raise Invalid(
            f"checkpoint_id {text!r} does not end in a step", hint='"step-100", "run/step-100" and 100 all are step 100'
        )
    return found["run"] or None, int(found["step"])


def names(run: StoredRun) -> tuple[str | None, ...]:
    return run.id, run.display_id, run.name, run.key


def live_runs() -> list[Run]:
    """The live runs of this process."""
    return list(_live._runs.values())  # pyright: ignore[reportPrivateUsage]
