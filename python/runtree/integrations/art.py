"""OpenPipe's ART as it is installed: a real ``LocalBackend`` whose forks, deletions and steps are runtree's.

See docs/integrations/art.md.

    from runtree.integrations.art import attach

    backend = LocalBackend()
    attach(backend)

Training and inference stay ART's. Every checkpoint directory that it writes, ``{model_dir}/checkpoints/NNNN``, is taken into the
run of the model when ART is done with it, and ``history.jsonl`` is its metrics. Nothing of it needs ART's service, a GPU or a table
reader.
For scripts without ART's own trainer there is :mod:`runtree.compat.art`, whose models and stores these are.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from runtree import _warn
from runtree.checkpoint import PendingSave
from runtree.compat.art import deleting, standing
from runtree.compat.art.backend import Backend
from runtree.compat.art.layout import ArtModel, open_model
from runtree.compat.art.model import TrainableModel
from runtree.errors import Error, InvalidType
from runtree.integrations._art_files import Directories
from runtree.retention import PrunePlan
from runtree.store import find_store
from runtree.stored import StoredRun

__all__ = ["Attachment", "attach"]

# What of the backend is replaced. Its own step function has the name that Python gives a private one.
_STEP = "_LocalBackend__get_step"
_FUNCTIONS = (
    "_experimental_fork_checkpoint", "_get_step", _STEP, "_delete_checkpoint_files", "register", "_prepare_backend_for_training",
    "train", "_train_sft", "close", "_close",
)  # fmt: skip


def attach(
    backend: Any, *, store: str | os.PathLike[str] | None = None, init: Mapping[str, Any] | None = None
) -> Attachment:
    """Gives a real ``art.local.LocalBackend`` runtree's forks, deletions and steps, and takes in what it writes from now on.

    Args:
        backend: ART's backend, before its models are registered.
        store: Where the models' runs are: a directory or ``s3://bucket/prefix``; the store of ``runtree.init`` unless given.
        init: What else ``runtree.init`` is given where a run is launched, like ``{"console": False}``.

    Raises:
        InvalidType: It is no ``LocalBackend``, or one of a version that has not what is replaced.
    """
    missing = [name for name in _FUNCTIONS if not callable(getattr(backend, name, None))]
    if missing or not isinstance(getattr(backend, "_path", None), str):
        raise InvalidType(
            f"{type(backend).__name__} is no LocalBackend of ART as it is known here: it has no {', '.join(missing) or '_path'}",
            hint="runtree.compat.art has backends of its own",
        )
    return Attachment(backend, store, init)


class Attachment:
    """What :func:`attach` returns: the models of a backend as runs."""

    def __init__(self, backend: Any, store: str | os.PathLike[str] | None, init: Mapping[str, Any] | None) -> None:
        self._backend = backend
        self._root = Path(backend._path).absolute()
        self._runs = Backend(find_store(store), art_path=self._root, init=init)
        self._models: dict[tuple[str, str], TrainableModel] = {}
        self._directories: dict[tuple[str, str], Directories] = {}
        self._own: dict[str, Any] = {name: getattr(backend, name) for name in _FUNCTIONS}
        ours = {
            "_experimental_fork_checkpoint": self.fork_checkpoint, "_get_step": self._get_step, _STEP: self._step,
            "_delete_checkpoint_files": self._keep_only, "register": self._register,
            "_prepare_backend_for_training": self._prepare, "train": self._train, "_train_sft": self._train_sft,
            "close": self._close, "_close": self._close_now,
        }  # fmt: skip
        for name, function in ours.items():
            setattr(backend, name, function)

    def detach(self) -> None:
        """The backend is as it was. Launches end when it is closed, or the program does."""
        for name in _FUNCTIONS:
            self._backend.__dict__.pop(name, None)

    def run(self, model: Any) -> StoredRun | None:
        """The run of a model, to be read; None if there is none yet."""
        return standing.find(self._runs.open(), model.project, model.name).run

    # ---- What ART calls.

    async def fork_checkpoint(
        self,
        model: Any,
        from_model: str,
        from_project: str | None = None,
        from_s3_bucket: str | None = None,
        not_after_step: int | None = None,
        verbose: bool = False,
        prefix: str | None = None,
        force: bool = False,
        from_entity: str | None = None,
    ) -> int:
        """Makes ``model`` a fork of another model's newest whole checkpoint; returns its step.

        As ``_experimental_fork_checkpoint`` of :mod:`runtree.compat.art` does, whose arguments and errors these are, and puts the
        checkpoint where ART goes on from. What the model's directory had before is moved to ``replaced/`` beside it, not deleted.
        """
        known = await asyncio.to_thread(self._known, model)
        before = self.run(model)
        source = self._models.get((from_project or model.project, from_model))
        if source is not None and from_s3_bucket is None:
            await asyncio.to_thread(self._settle, source)
        step = await self._runs._experimental_fork_checkpoint(  # pyright: ignore[reportPrivateUsage]
            known, from_model, from_project, from_s3_bucket, not_after_step, verbose, prefix, force, from_entity
        )
        await asyncio.to_thread(self._put_fork, model, None if before is None else before.id)
        return step

    async def delete_checkpoints(
        self,
        model: Any,
        best_checkpoint_metric: str = "val/reward",
        *,
        mode: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> PrunePlan | None:
        """Deletes all checkpoints of a model but the newest and the best; see :func:`runtree.compat.art.deleting.delete`.

        A registered model's own ``delete_checkpoints`` is this. Of a checkpoint that goes, the directory is removed, and what is in
        the store is in its trash. What ART serves at this moment (its adapter leases) stays.
        """

        def delete() -> PrunePlan | None:
            self._settle(model)
            run = self.run(model)
            if run is None:
                return None
            held = self._hold(model, run)
            try:
                plan = deleting.delete(run, best_checkpoint_metric, mode, force=force, dry_run=dry_run)
            finally:
                for checkpoint in held:
                    checkpoint.unpin()
            if not dry_run:
                gone = {each.checkpoint.step for each in plan.decisions if not each.keep}
                self._of(model).remove(gone - self._leased(model))
            return plan

        return await asyncio.to_thread(delete)

    def take_in(self, model: Any) -> list[PendingSave]:
        """Takes in what ART has written of a model: every whole checkpoint that its run has not, and its metrics.

        Called after each ``train``. A directory that is not whole is left, and not taken in. What goes wrong is a warning.
        """
        try:
            return self._of(model).take_in(
                self._art(model), self.run(model), lambda: self._runs.launch(self._ours(model))
            )
        except (OSError, Error) as error:
            _warn.once(f"art {model.name}", f"checkpoints of {model.name} were not taken in: {error}")
            return []

    async def _get_step(self, model: Any) -> int:
        return await asyncio.to_thread(self._step, model)

    def _step(self, model: Any) -> int:
        if not model.trainable:
            return 0
        there = self._of(model).newest()
        if there is not None:
            return there
        run = self.run(model)
        steps = [] if run is None else [each.step for each in run.checkpoints() if each.state == "complete"]
        return steps[-1] if steps else 0

    async def _keep_only(self, model: Any, steps_to_keep: list[int]) -> None:
        """What ART's own retention asks for: all but these go, and what is forked, pinned or tagged stays in the store."""

        def delete() -> None:
            try:
                self._settle(model)
            except Error as error:
                _warn.once(f"art {model.name} kept", f"nothing is deleted of {model.name}: {error}")
                return
            run = self.run(model)
            if run is None:
                return
            keep = {*steps_to_keep, self._step(model)} | self._leased(model)
            known = [each for each in run.checkpoints() if each.step not in keep]
            for each in known:
                if not (each.inherited or each.pinned or each.tags or each._info["forks"]):  # pyright: ignore[reportPrivateUsage]
                    each.delete("deleted by ART")
            self._of(model).remove({each.step for each in known})

        await asyncio.to_thread(delete)

    async def _register(self, model: Any) -> None:
        await self._own["register"](model)
        if model.trainable:
            await asyncio.to_thread(self._check, model)
            # ART's own reads a table, and deletes the best where it finds no value.
            object.__setattr__(model, "delete_checkpoints", functools.partial(self.delete_checkpoints, model))

    async def _prepare(self, model: Any, *args: Any, **keywords: Any) -> Any:
        # The service goes on from the last directory: it must be whole, and be there on a machine that is new.
        await asyncio.to_thread(self._put_right, model)
        prepared = await self._own["_prepare_backend_for_training"](model, *args, **keywords)
        await asyncio.to_thread(self.take_in, model)
        return prepared

    async def _train(self, model: Any, *args: Any, **keywords: Any) -> Any:
        trained = await self._own["train"](model, *args, **keywords)
        await asyncio.to_thread(self.take_in, model)
        return trained

    async def _train_sft(self, model: Any, *args: Any, **keywords: Any) -> AsyncIterator[Any]:
        async for metrics in self._own["_train_sft"](model, *args, **keywords):
            yield metrics
        await asyncio.to_thread(self.take_in, model)

    async def _close(self) -> None:
        await self._own["close"]()
        await asyncio.to_thread(self._end)

    def _close_now(self) -> None:
        self._own["_close"]()
        self._end()

    def _end(self) -> None:
        for model in list(self._models.values()):
            self.take_in(model)
        self._runs._close(None, None, None)  # pyright: ignore[reportPrivateUsage]

    # ---- What it knows of a model.

    def _known(self, model: Any) -> TrainableModel:
        """The model as runtree has it, with what ART wrote of it so far taken in."""
        if self._art(model).exists:
            self._settle(model)
        return self._ours(model)

    def _settle(self, model: Any) -> None:
        """Takes in what there is, and waits until it is durable: what is decided next must know it."""
        self.take_in(model)
        self._of(model).wait()

    def _check(self, model: Any) -> None:
        """Refuses another base model than the run's."""
        ours = self._ours(model)
        if self.run(model) is not None:
            self._runs.register(ours, False)

    def _ours(self, model: Any) -> TrainableModel:
        key = (model.project, model.name)
        if key not in self._models:
            self._models[key] = TrainableModel(
                name=model.name, project=model.project, base_model=model.base_model, config=model.config,
                entity=getattr(model, "entity", None), _internal_config=model._internal_config,
            )  # fmt: skip
        return self._models[key]

    def _of(self, model: Any) -> Directories:
        return self._directories.setdefault(
            (model.project, model.name), Directories(self._root / model.project / "models" / model.name)
        )

    def _art(self, model: Any) -> ArtModel:
        return open_model(self._root, model.project, model.name)

    def _put_right(self, model: Any) -> None:
        directories = self._of(model)
        directories.set_torn_aside()
        run = self.run(model)
        complete = [] if run is None else [each for each in run.checkpoints() if each.state == "complete"]
        if complete:
            directories.put(complete[-1])

    def _put_fork(self, model: Any, before: str | None) -> None:
        run = self.run(model)
        if run is not None and run.id != before:
            self._of(model).set_aside(keep=run.checkpoints()[-1])
        self._put_right(model)

    def _leased(self, model: Any) -> set[int]:
        leases = self._backend._adapter_leases.get(model.name)
        return set() if leases is None else set(leases.active_steps())

    def _hold(self, model: Any, run: StoredRun) -> list[Any]:
        """Pins what is leased for as long as the rest is deleted; returns what it pinned."""
        leased = self._leased(model)
        held = [each for each in run.checkpoints(inherited=False) if each.step in leased and not each.pinned]
        for checkpoint in held:
            checkpoint.pin("in use by ART")
        return held
