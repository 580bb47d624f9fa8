"""What is forked from: a model of a store, here or elsewhere, or one that ART wrote. Each offers its newest fitting checkpoint."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtree.checkpoint import Checkpoint
from runtree.compat.art import adapters, importing, standing
from runtree.compat.art.adapters import AdapterFacts
from runtree.compat.art.errors import NoCheckpoint
from runtree.compat.art.layout import ArtModel
from runtree.errors import NotFound
from runtree.store import Store
from runtree.stored import StoredRun

# How many steps an error lists.
_LISTED = 12


@dataclass(frozen=True)
class Offer:
    """A checkpoint that can be forked. Nothing was brought here yet."""

    step: int
    run: str | None
    """The run that has it: of the store it is in, or the one that stands for what ART wrote; None before its first import."""
    where: str
    """For people."""
    base_model: str | None
    """What its model was trained from, if that is recorded."""
    facts: Callable[[], AdapterFacts]
    """What its adapter says of itself."""
    digest: Callable[[], str]
    """See :func:`adapters.digest`."""
    take: Callable[[], str]
    """Brings it into the store, alone, and returns the REF to fork it by."""


class Source(Protocol):
    """Something that is forked from."""

    def offer(self, not_after: int | None) -> contextlib.AbstractContextManager[Offer]:
        """The newest whole checkpoint, not after a step. Raises ``NoCheckpoint`` that lists those there are."""
        ...


class StoredSource:
    """A run of a store; ``home`` is the store that the fork is made in."""

    def __init__(self, store: Store, run: StoredRun, home: Store) -> None:
        self._store = store
        self._run = run
        self._home = home

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be brought."""
        return self._store.location == self._home.location

    @contextlib.contextmanager
    def offer(self, not_after: int | None) -> Generator[Offer]:
        """Its newest checkpoint; one that it inherits counts, one that is damaged does not."""
        steps = [each for each in self._run.checkpoints() if each.state == "complete"]
        fitting = [each for each in steps if not_after is None or each.step <= not_after]
        if not fitting:
            limit = "" if not_after is None else f" not after step {not_after}"
            there = ", ".join(str(each.step) for each in steps[-_LISTED:]) or "none"
            raise NoCheckpoint(
                f"model {self._run.name!r} ({self._run.display_id}) has no checkpoint{limit} in {self._store.location}",
                hint=f"those there are: {there}",
            )
        chosen = fitting[-1]
        base_model = self._run.config.get("base_model")
        yield Offer(
            chosen.step,
            self._run.id,
            f"{self._run.display_id} in {self._store.location}",
            base_model if isinstance(base_model, str) else None,
            lambda: facts_of(chosen),
            lambda: adapters.digest(chosen.dir()),
            lambda: self._take(chosen),
        )

    def _take(self, chosen: Checkpoint) -> str:
        saver = chosen._info["run"]["id"]  # pyright: ignore[reportPrivateUsage]
        if self.is_here:
            return f"{self._run.id}@{chosen.id}"
        # With a run comes what it starts from, so an ancestor's checkpoint is asked for by the ancestor: one checkpoint is one.
        # A deletion here is a statement about what was here; this one is asked for by name.
        owner = self._store.run(saver)
        was = None if owner.key is None else standing.find(self._home, owner.project, owner.key).run
        self._home.pull(self._store, [f"{saver}@{chosen.id}"], restore=True)
        if was is not None and was.id != saver:
            # The key means the run that was here before.
            self._home.native.annotate(saver, add_tags=[f"{standing.COPY}{self._store.location}"])
        return f"{saver}@{chosen.id}"


class ArtSource:
    """A model that ART wrote; it is imported on the way."""

    def __init__(self, model: ArtModel, home: Store) -> None:
        self._model = model
        self._home = home

    @contextlib.contextmanager
    def offer(self, not_after: int | None) -> Generator[Offer]:
        """Its newest whole checkpoint; in a bucket, it is fetched to see that it is whole."""
        with self._model.newest(not_after) as (step, directory):
            yield Offer(
                step,
                importing.find_run(self._home, self._model),
                self._model.location,
                self._model.base_model(),
                lambda: adapters.read_facts(directory),
                lambda: adapters.digest(directory),
                lambda: self._take(step, directory),
            )

    def _take(self, step: int, directory: Path) -> str:
        imported = importing.import_checkpoint(self._home, self._model, step, directory)
        return f"{imported._info['run']['id']}@{imported.id}"  # pyright: ignore[reportPrivateUsage]


def facts_of(checkpoint: Checkpoint) -> AdapterFacts:
    """What the adapter in a checkpoint says of itself; only its config is read."""
    with tempfile.TemporaryDirectory(prefix="runtree-art-") as folder:
        try:
            return adapters.read_facts(checkpoint.export(Path(folder) / "adapter", keys=adapters.CONFIG))
        except NotFound:
            return AdapterFacts(None, None)
