"""Runs that were pickled: what they are in the process that unpickles them.

A worker gets one more writer of the same launch: its points are the run's, its end is not. A DataLoader's worker gets a run that
does nothing, as a forked one does. Which of the two a process is, it only knows when it runs: a spawned worker unpickles its
dataset before it is told that it is one. So the run joins when it is first used.
"""

from __future__ import annotations

import multiprocessing.util
import os
import sys
import threading
from typing import Any, NamedTuple

from runtree import _environment, _launch, _live
from runtree.run import Run
from runtree.store import DisabledStore, Store

# Two threads may be the first to use a run. Reentrant: joining uses it too.
_lock = threading.RLock()


class Origin(NamedTuple):
    """What a pickled run says of itself."""

    location: str
    project: str
    run: str
    launch_key: str
    setup: _launch.Setup
    born: dict[str, Any]
    config: dict[str, Any]
    tags: list[str]


def disabled(born: dict[str, Any] | None, config: dict[str, Any], tags: list[str]) -> Run:
    """A run that does nothing, but knows what it was called."""
    run = Run.__new__(Run)
    _disable(run, born, config, tags)
    return run


def rejoined(*origin: Any) -> Run:
    """The run that was pickled: the same object in its own process, another writer of the same launch elsewhere."""
    come = Origin(*origin)
    found = _live.find(come.run)
    if found is not None:
        return found
    run = Run.__new__(Run)
    run.__dict__["_origin"] = come
    return run


def attribute(run: Run, name: str) -> Any:
    """An attribute that a run does not have: one that came by pickle has none before it joins."""
    with _lock:
        if name not in run.__dict__:
            origin: Origin | None = run.__dict__.pop("_origin", None)
            if origin is None:
                raise AttributeError(f"{type(run).__name__!r} object has no attribute {name!r}")
            try:
                _begin(run, origin)
            except BaseException:
                # The next use tries again.
                run.__dict__["_origin"] = origin
                raise
        return getattr(run, name)


def _begin(run: Run, origin: Origin) -> None:
    if _in_dataloader_worker():
        _disable(run, origin.born, origin.config, origin.tags)
    else:
        _join(run, origin)


def _in_dataloader_worker() -> bool:
    data: Any = sys.modules.get("torch.utils.data")
    return data is not None and data.get_worker_info() is not None


def _disable(run: Run, born: dict[str, Any] | None, config: dict[str, Any], tags: list[str]) -> None:
    Run.__init__(run, DisabledStore(), None, _launch.Setup())
    run._born, run._config, run._tags = born, config, tags  # pyright: ignore[reportPrivateUsage]


def _join(run: Run, origin: Origin) -> None:
    stored = Store(origin.location)
    # Rank 0 speaks for the run; a worker of one process has a rank besides it, and logs all the same.
    setup = origin.setup
    alone = setup.world_size == 1
    writer = stored.native.start_run(
        {
            "project": origin.project,
            "name": None,
            "key": None,
            "resume": "never",
            "resume_from": "latest",
            "fork_run": None,
            "fork_step": None,
            "fork": None,
            "base": None,
            "config": None,
            "tags": [],
            "notes": None,
            "inherit_config": True,
            "inherit_tags": False,
            "launch_key": origin.launch_key,
            "has_launcher": False,
            "run": origin.run,
            "rank": 1 if alone else setup.rank,
            "world_size": setup.world_size,
            "log_all_ranks": alone or setup.log_all_ranks,
            "retention": None,
            "process": _environment.process_facts(_environment.wanted(os.environ, True)),
        }
    )
    Run.__init__(run, stored, writer, setup._replace(joined=True))
    _live.adopt(run)
    # Children of multiprocessing leave without atexit.
    multiprocessing.util.Finalize(run, run.finish, exitpriority=10)
