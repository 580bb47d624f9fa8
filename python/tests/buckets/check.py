"""Looks whether a bucket holds what was promised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import runtree
from buckets.ledger import Promises, Saved
from buckets.state import differs, value_of


@dataclass
class Found:
    """What a check counted, and what it misses."""

    lost: list[str] = field(default_factory=list)
    checkpoints: int = 0
    needed: int = 0
    runs: int = 0
    forks: int = 0
    points: int = 0

    def __str__(self) -> str:
        return (
            f"{self.checkpoints} checkpoints ({self.needed} of them had to be there), {self.runs} runs, "
            f"{self.forks} forks, {self.points} points: {len(self.lost)} lost"
        )


def look(store: runtree.Store, project: str, promises: Promises) -> Found:
    """Loads every checkpoint that is listed, and compares it; then asks for those that must be listed, for what forks start
    from, and for points."""
    found = Found()
    runs = store.runs(project=project)
    names = {run.id: run.key or "" for run in runs}
    by_display = {run.display_id: run.key or "" for run in runs}
    there: set[str] = set()
    for run in runs:
        found.runs += 1
        mine = run.checkpoints()
        for checkpoint in mine:
            if not checkpoint.inherited:
                there.add(checkpoint.id)
                found.checkpoints += 1
            said = Saved(checkpoint.id, by_display[checkpoint.run], checkpoint.step)
            if wrong := broken(lambda checkpoint=checkpoint: checkpoint, said):
                found.lost.append(f"{names[run.id]} lists {said}, which {wrong}")
        found.points += points(run, [each.step for each in mine if each.effective], found.lost)
        if start := promises.forks.get(names[run.id]):
            found.forks += 1
            # By its id, as one that was deleted since is in no list, and yet what the fork starts from.
            if wrong := broken(
                lambda start=start: store.checkpoint(f"{project}/{start.key}@{start.checkpoint}"), start
            ):
                found.lost.append(f"{names[run.id]} starts from {start}, which {wrong}")
    for saved in promises.saved.values():
        if promises.must_be_there(saved.checkpoint):
            found.needed += 1
            if saved.checkpoint not in there:
                found.lost.append(f"{saved} was acknowledged and is not listed")
    missing = promises.forks.keys() - set(names.values())
    found.lost.extend(f"the fork {key} is not there" for key in sorted(missing))
    return found


def broken(find: Callable[[], runtree.Checkpoint], saved: Saved) -> str | None:
    """What is wrong with a checkpoint; None if it is what was saved."""
    try:
        return differs(find().load(), saved.key, saved.step)
    except runtree.Error as error:
        return f"can not be loaded: {error}"


def points(run: runtree.StoredRun, saved: list[int], lost: list[str]) -> int:
    """Counts the points of a run: all at or below a checkpoint must be there, and each must be right."""
    try:
        history = run.history("twice")
    except runtree.NotFound:
        there: dict[int, float] = {}
    except runtree.Error as error:
        lost.append(f"points of {run.key} can not be read: {error}")
        return 0
    else:
        there = dict(zip(history.steps.tolist(), history.values.tolist(), strict=True))
        if len(there) != len(history.steps):
            lost.append(f"{run.key} has points twice")
    lost.extend(f"{run.key} has {value} at {step}" for step, value in there.items() if value != value_of(step))
    holes = set(range(max(saved, default=-1) + 1)) - there.keys()
    if holes:
        lost.append(f"{run.key} has a checkpoint at {max(saved)} and no points at {sorted(holes)[:5]}")
    return len(there)


def seconds_lost(store: runtree.Store, project: str, promises: Promises, died_at: float) -> float:
    """How long before its processes died the first point was logged that is not there, of the runs that they were at."""
    worst = 0.0
    for key, tail in promises.tails.items():
        try:
            there = set(store.run(f"{project}/{key}").history("twice").steps.tolist())
        except (runtree.NotFound, runtree.Corrupt):
            there = set()
        worst = max([worst, *(died_at - at for step, at in tail if step not in there)])
    return worst
