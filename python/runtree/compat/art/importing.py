"""What ART wrote, as a run: so that it can be forked, with lineage, like any other.

The run stands for one model at one place, and for nothing else: its key has the place in it, so it is never taken for a run that was
trained here under the same name. It holds the metrics there are, and of the checkpoints those that were asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtree import _launch, _live
from runtree.checkpoint import Checkpoint
from runtree.compat.art import adapters, standing
from runtree.compat.art.layout import ArtModel
from runtree.compat.art.standing import Standing
from runtree.errors import Conflict, Error
from runtree.run import Run
from runtree.store import Store

# All imports of one model are one launch: a checkpoint that is imported later may be of an earlier step, which in a launch of its
# own would take the run back to there.
_LAUNCH = "art-import"


# Two imports of one model by one process follow each other; those of several processes meet in the store.
_alone = threading.Lock()
_TRIES = 8


def import_checkpoint(store: Store, source: ArtModel, step: int, directory: Path) -> Checkpoint:
    """Makes a whole checkpoint of a model, at ``directory``, one of the run that stands for the model. Again, nothing happens.

    Raises:
        Invalid: It holds a link that leaves it, or what is no file.
    """
    content = adapters.digest(directory)
    with _alone:
        for left in reversed(range(_TRIES)):
            there = _standing(store, source)
            before = [] if there.run is None else there.run.checkpoints(inherited=False)
            saved = [each for each in before if each.step == step]
            if saved and saved[-1].state == "complete" and adapters.digest(saved[-1].dir()) == content:
                return saved[-1]
            try:
                # Where a step was trained anew, what was forked from the old one keeps its parent.
                return _save(_open(store, source, there.next_key if saved else there.key), source, step, directory)
            except Conflict:
                # Another process saves this very step of the same launch: what it saves is what is wanted.
                if not left:
                    raise
                time.sleep(random.uniform(0.05, 0.5))
    raise AssertionError("BUG: the last try returns or raises")


def _save(run: Run, source: ArtModel, step: int, directory: Path) -> Checkpoint:
    try:
        _log(run, source)
        checkpoint = run.save_dir(directory, step=step).result()
    except Error:
        # What is told is what went wrong, not that it was not saved, too.
        with contextlib.suppress(Error):
            run.finish("failed", timeout=1)
        raise
    run.finish()
    return checkpoint


def find_run(store: Store, source: ArtModel) -> str | None:
    """The run that stands for a model, if something of it was imported before."""
    run = _standing(store, source).run
    return None if run is None else run.id


def _standing(store: Store, source: ArtModel) -> Standing:
    place = hashlib.blake2b(source.location.encode(), digest_size=6).hexdigest()
    return standing.find(store, source.project, f"{source.name}:art:{place}")


def _log(run: Run, source: ArtModel) -> None:
    """Its metrics. What was logged by an earlier import is logged again from the last step on, at which rows may have been added."""
    found = source.history()
    last = run.last_step
    for step, values in found.points.items():
        if last is None or step >= last:
            run.log(values, step=step, timestamp=found.times.get(step))
    run.flush()


def _open(store: Store, source: ArtModel, key: str) -> Run:
    base_model = source.base_model()
    config: Mapping[str, Any] = {} if base_model is None else {"base_model": base_model}
    writer = store.native.start_run(
        {
            "project": source.project,
            "name": source.name,
            "key": key,
            "resume": "allow",
            "resume_from": "latest",
            "fork_run": None,
            "fork_step": None,
            "fork": None,
            "base": None,
            "config": dict(config),
            "tags": ["art"],
            "notes": f"imported from {source.location}",
            "inherit_config": True,
            "inherit_tags": False,
            "launch_key": _LAUNCH,
            "has_launcher": False,
            "run": None,
            "rank": 0,
            "world_size": 1,
            "log_all_ranks": False,
            "retention": None,
            "process": {},
        }
    )
    run = Run(store, writer, _launch.Setup())
    _live.adopt(run)
    return run
