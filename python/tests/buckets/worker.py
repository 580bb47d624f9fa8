"""A process that trains on a bucket, forks what others saved, prunes, deletes, restores and collects, until it is killed.

``python -m buckets.worker STORE NAME LEDGER SEED``. It writes down what it is promised (:mod:`buckets.ledger`), and goes on
where the one that was killed before it stopped. What it is refused because the bucket fails, or because another process was
faster, is counted; anything else is wrong.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import runtree
from buckets.ledger import Ledger, lines_of
from buckets.state import differs, state_of, value_of

PROJECT = "chaos"
# Where others may have been faster: the checkpoint was deleted, its run is being born, it was restored already.
OVERTAKEN = (runtree.NotFound, runtree.Conflict, runtree.Invalid)


class Worker:
    """One process."""

    def __init__(self, store: str, name: str, ledger: Path, seed: int) -> None:
        self._place = store
        self._name = name
        self._ledger = Ledger(ledger)
        self._before = lines_of(ledger)
        self._random = random.Random(seed)
        self._deleted: list[runtree.Checkpoint] = []
        self._run = self._first()

    # ---- which run ---------------------------------------------------------------------------------------------------------

    def _first(self) -> runtree.Run:
        """The run that the process before this one was at."""
        forking = [line for line in self._before if line["did"] in ("forking", "founding")]
        if forking:
            key, fork = forking[-1]["key"], forking[-1].get("fork")
            run = self._patiently(lambda: self._init(key, fork))
            if run is not None:
                return run
        return self._found()

    def _found(self) -> runtree.Run:
        """A run of its own."""
        while True:
            key = f"{self._name}-{time.monotonic_ns():x}"
            self._ledger.note("founding", key=key)
            run = self._patiently(lambda key=key: self._init(key, None))
            if run is not None:
                return run

    def _patiently(self, begin: Callable[[], runtree.Run]) -> runtree.Run | None:
        """Begins a run as soon as the bucket lets it; None if it can't be."""
        while True:
            try:
                return begin()
            except runtree.Unavailable as error:
                self._refused("init", error)
                time.sleep(0.2)
            except OVERTAKEN as error:
                self._refused("init", error)
                return None

    def _init(self, key: str, fork: str | None) -> runtree.Run:
        run = runtree.init(
            PROJECT,
            store=self._place,
            run_id=key,
            resume="allow",
            fork=fork,
            console=False,
            system_metrics=False,
            environment=False,
        )
        state = run.load(default=None)
        if state is not None:
            if wrong := differs(state, state["name"], state["step"]):
                self._ledger.note("wrong", what=f"{key} starts from what {wrong}")
            if run.next_step != state["step"] + 1:
                self._ledger.note("wrong", what=f"{key} goes on at {run.next_step} after {state['step']}")
        self._ledger.note("started", key=key)
        return run

    # ---- what it does ------------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Never returns."""
        does = {
            self._train: 8,
            self._prune: 4,
            self._delete: 3,
            self._restore: 4,
            self._fork: 3,
            self._look: 1,
            self._collect: 1,
        }
        while True:
            self._random.choices(list(does), list(does.values()))[0]()

    def _train(self) -> None:
        run = self._run
        for _ in range(self._random.randint(1, 5)):
            step = run.next_step
            run.log({"twice": value_of(step)}, step=step)
            self._ledger.note("logged", step=step)
            time.sleep(self._random.random() * 0.05)
        pending = run.save(state_of(run.key or "", step), step=step)
        # A chunk is put twice at most; after two answers that say it is there already, a save fails by Conflict.
        with self._refusals("save", runtree.Conflict):
            self._ledger.note("saved", checkpoint=pending.result().id, step=step)

    def _prune(self) -> None:
        with self._refusals("prune", *OVERTAKEN):
            plan = self._run.prune(keep_last=self._random.randint(1, 3), dry_run=True)
            chosen = [each.checkpoint for each in plan.decisions if not each.keep]
            with self._deletion(chosen):
                plan.apply()

    def _delete(self) -> None:
        """Anybody's, but for the newest one: what a trainer goes on from."""
        with self._refusals("delete", *OVERTAKEN):
            if chosen := self._anybodys():
                with self._deletion([chosen]):
                    chosen.delete()

    @contextmanager
    def _deletion(self, chosen: list[runtree.Checkpoint]) -> Iterator[None]:
        ids = [each.id for each in chosen]
        self._ledger.note("deleting", checkpoints=ids)
        yield
        self._ledger.note("deleted", checkpoints=ids)
        self._deleted = [*self._deleted, *chosen][-8:]

    def _restore(self) -> None:
        if not self._deleted:
            return
        chosen = self._deleted.pop()
        with self._refusals("undelete", *OVERTAKEN):
            self._ledger.note("restoring", checkpoints=[chosen.id])
            chosen.undelete()
            self._ledger.note("restored", checkpoints=[chosen.id])

    def _fork(self) -> None:
        """Leaves its run for a fork of somebody's checkpoint."""
        with self._refusals("fork", *OVERTAKEN):
            chosen = self._anybodys()
            if chosen is None:
                return
            of = self._run.store.run(chosen.run).key
            key = f"{self._name}-{time.monotonic_ns():x}"
            fork = f"{chosen.run}@{chosen.id}"
            with self._refusals("finish"):
                self._run.finish()
            self._ledger.note("forking", key=key, fork=fork)
            forked = self._patiently(lambda: self._init(key, fork))
            if forked is None:
                self._run = self._found()
                return
            self._ledger.note("forked", key=key, of=of, step=chosen.step, checkpoint=chosen.id)
            self._run = forked

    def _look(self) -> None:
        """Loads somebody's checkpoint: it is right, or it is gone."""
        with self._refusals("load", *OVERTAKEN):
            if chosen := self._anybodys():
                state = chosen.load()
                if wrong := differs(state, state["name"], chosen.step):
                    self._ledger.note("wrong", what=f"{chosen.id} {wrong}")

    def _collect(self) -> None:
        """By the command, as people do; at once, where people wait an hour."""
        words = [
            sys.executable,
            "-m",
            "runtree",
            "--store",
            self._place,
            "gc",
            "--grace",
            self._random.choice(["0", "3s"]),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self._ledger.note("collected")
        elif done.returncode == UNAVAILABLE:
            self._ledger.note("refused", what="gc: Unavailable")
        else:
            self._ledger.note("wrong", what=f"gc ended with {done.returncode}: {done.stderr}")

    def _anybodys(self) -> runtree.Checkpoint | None:
        """A checkpoint of any run, but for its newest."""
        runs = self._run.store.runs(project=PROJECT)
        for run in self._random.sample(runs, min(3, len(runs))):
            if older := run.checkpoints(inherited=False)[:-1]:
                return self._random.choice(older)
        return None

    # ---- what goes wrong ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _refusals(self, call: str, *also: type[runtree.Error]) -> Iterator[None]:
        try:
            yield
        except (runtree.Unavailable, runtree.LostData, *also) as error:
            self._refused(call, error)

    def _refused(self, call: str, error: runtree.Error) -> None:
        self._ledger.note("refused", what=f"{call}: {type(error).__name__}", why=str(error))


# How the command says that a bucket fails.
UNAVAILABLE = 7


def main() -> None:
    place, name, path, seed = sys.argv[1:]
    warnings.simplefilter("ignore")
    ledger = Path(path)
    try:
        Worker(place, name, ledger, int(seed)).live()
    except BaseException as error:
        Ledger(ledger).note("wrong", what=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
