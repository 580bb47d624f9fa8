"""Waiting for a checkpoint that another process saves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runtree.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.store import Store
    from runtree.stored import StoredRun

#: What a run is while more may come.
_ALIVE = ("running", "created")


def wait(
    store: Store, ref: str, after: int | None, timeout: float | None, interval: float, project: str | None
) -> Checkpoint:
    """As :meth:`runtree.Store.wait`."""
    end = None if timeout is None else time.monotonic() + timeout
    run = store.run(ref, project=project)
    while True:
        # Asked first: what is saved between the two questions is seen by the second.
        status = run.status
        found = _next(run, after)
        if found is not None:
            return found
        beyond = "" if after is None else f" beyond step {after}"
        if status not in _ALIVE:
            raise NotFound(
                f"run {run.display_id} is {status}, and has no checkpoint{beyond}",
                hint=f"see what there is: runtree checkpoints {run.display_id}",
            )
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise Unavailable(
                f"run {run.display_id} has saved no checkpoint{beyond} in {timeout:g} s", hint="wait longer: timeout="
            )
        time.sleep(interval if left is None else min(interval, left))


def _next(run: StoredRun, after: int | None) -> Checkpoint | None:
    own = [each for each in run.checkpoints(inherited=False) if after is None or each.step > after]
    return own[0] if own else None
