"""Backends: a store, what trains, and forking. :class:`LocalBackend` and :class:`ServerlessBackend` say where the store is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import runtree
from runtree import _live
from runtree.compat.art import forking, names, places, standing
from runtree.compat.art.errors import NoCheckpoint
from runtree.compat.art.forking import Request
from runtree.compat.art.layout import ArtModel, open_model
from runtree.compat.art.sources import ArtSource, Source
from runtree.compat.art.training import Trainer
from runtree.errors import Invalid, NotFound
from runtree.run import Run
from runtree.store import Store

if TYPE_CHECKING:
    from runtree.compat.art.model import TrainableModel

Self = TypeVar("Self", bound="Backend")


class Backend:
    """What both backends are.

    Args:
        location: The store.
        art_path: ART's own directory, whose models can be forked and go on here; it is only read.
        trainer: What trains; see :mod:`runtree.compat.art.training`.
        init: What else ``runtree.init`` is given where a run is launched, like ``{"console": False}``.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        art_path: Path | None = None,
        trainer: Trainer | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        self.location = location
        self.trainer = trainer
        self._art_path = art_path
        self._init = dict(init or {})
        self._runs: dict[str, Run] = {}

    def open(self) -> Store | None:
        """Its store; None if there is none yet, and it is not to be made, or if runtree is disabled."""
        if _is_disabled():
            return None
        try:
            return Store(self.location)
        except NotFound:
            if isinstance(self.location, str):
                # A bucket that is not there is no place where a store will be.
                return Store(self.location, create=True)
            return None

    def home(self) -> Store:
        """Its store, made if it is not there."""
        return Store(self.location, create=True)

    async def _experimental_fork_checkpoint(
        self,
        model: TrainableModel,
        from_model: str,
        from_project: str | None = None,
        from_s3_bucket: str | None = None,
        not_after_step: int | None = None,
        verbose: bool = False,
        prefix: str | None = None,
        force: bool = False,
        from_entity: str | None = None,
    ) -> int:
        """Makes ``model`` a fork of another model's newest checkpoint at or before a step; returns the step, which stays what it was.

        A fork is a run with its parent's history up to that step; no byte is copied. Before ``register`` or after it is the same.
        Called again, as when a script is started again, it finds the fork that it made.

        Args:
            model: The model that goes on from there.
            from_model: The model that is forked.
            from_project: Its project; that of ``model`` unless given.
            from_s3_bucket: Where it is: a bucket's name, an address (``s3://bucket``) or a directory (its path has a ``/``),
                that holds a runtree store or what ART wrote. Only that one checkpoint is brought here, and none that is here is taken
                instead. Unless given, the backend's own store, and ART's directory beside it.
            not_after_step: The last step that may be taken; the newest checkpoint unless given.
            verbose: Whether it tells what it does, on stderr.
            prefix: A prefix of the bucket, before everything.
            force: Overrides every ``Conflict`` but a fork onto itself. What ``model`` was before stays a run of its own.
            from_entity: ART's owner of the project. Stores are not divided by owners: it can only be the model's own.

        Where runtree is disabled, nothing is forked, and it returns 0.

        Raises:
            NoCheckpoint: There is no such model, or no checkpoint that is whole and early enough; those there are are listed.
            Conflict: A fork onto itself; the model has another checkpoint at that step, or a later one; another base model or rank.
            NotFound, Denied: The bucket does not exist, or may not be looked into.
            Invalid: Names that leave their directory, a step that is none.
        """
        names.check_source("from_model", from_model)
        if from_project is not None:
            names.check_source("from_project", from_project)
        if from_entity not in (None, model.entity):
            raise Invalid(
                f"from_entity {from_entity!r} is not the model's own entity: stores have no entities",
                hint="name the place where that entity's models are with from_s3_bucket=",
            )
        if prefix is not None and from_s3_bucket is None:
            raise Invalid(f"prefix {prefix!r} is of no bucket", hint="give from_s3_bucket=, too")
        request = Request(
            from_model,
            from_project or model.project,
            None if from_s3_bucket is None else places.locate(from_s3_bucket, prefix),
            forking.check_step(not_after_step),
            force,
            verbose,
        )
        if _is_disabled():
            request.say("runtree is disabled (RUNTREE_MODE=disabled): nothing is forked")
            return 0
        return await asyncio.to_thread(self._fork, model, request)

    def _fork(self, model: TrainableModel, request: Request) -> int:
        store = self.home()
        return forking.fork(store, model, request, lambda: self._source(store, request))

    def _source(self, store: Store, request: Request) -> Source:
        project, name = request.from_project, request.from_model
        if request.place is not None:
            return places.open_source(request.place, project, name, store)
        if standing.find_source(store, project, name) is None:
            left = self._left_by_art(project, name)
            if left is not None:
                return ArtSource(left, store)
        return places.from_store(store, project, name, store)

    def _left_by_art(self, project: str, name: str) -> ArtModel | None:
        if self._art_path is None:
            return None
        model = open_model(self._art_path, project, name)
        return model if model.exists else None

    def register(self, model: TrainableModel, force: bool) -> None:
        """Ties a model to this backend; see :meth:`TrainableModel.register`."""
        there = standing.find(self.open(), model.project, model.name)
        if there.run is None:
            if not _is_disabled():
                self._continue_art(model, force)
            return
        stored = there.run.config.get("base_model")
        if stored is None or stored == model.base_model:
            return
        if not force:
            forking.check_base(f"model {model.name!r} ({there.run.display_id})", str(stored), model.base_model)
        live = _live.find(there.run.id)
        if live is not None:
            live.update_config({"base_model": model.base_model})
        else:
            there.run.store.native.annotate(there.run.id, config={"base_model": model.base_model})

    def _continue_art(self, model: TrainableModel, force: bool) -> None:
        """A model that ART trained goes on as a fork of what it left."""
        left = self._left_by_art(model.project, model.name)
        if left is None:
            return
        store = self.home()
        request = Request(model.name, model.project, self._art_path, None, force, verbose=True)
        try:
            forking.fork(store, model, request, lambda: ArtSource(left, store))
        except NoCheckpoint:
            # Nothing whole is there: it begins at the beginning.
            return

    def launch(self, model: TrainableModel) -> Run:
        """The live run of a model in this process, begun if it is not."""
        there = standing.find(None if _is_disabled() else self.home(), model.project, model.name)
        live = None if there.run is None else _live.find(there.run.id)
        if live is not None and not live.finished:
            self._runs[live.id] = live
            return live
        options: dict[str, Any] = {
            "store": self.location,
            "run_id": there.key,
            "resume": "allow",
            "config": model.settings(),
            **self._init,
        }
        run = runtree.init(model.project, model.name, **options)
        self._runs[run.id] = run
        return run

    async def close(self) -> None:
        """Ends the launches of its models; returns when all of it is durable."""
        await asyncio.to_thread(self._close, None, None, None)

    def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            run.__exit__(kind, error, trace)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._close, kind, error, trace)


def _is_disabled() -> bool:
    return os.environ.get("RUNTREE_MODE") == "disabled"
