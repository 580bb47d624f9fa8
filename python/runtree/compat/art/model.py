"""Models: what scripts of ART hold in their hands. A model is a run of the backend's store."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runtree import _live
from runtree._init import as_config
from runtree.checkpoint import Checkpoint
from runtree.compat.art import deleting, names, standing
from runtree.compat.art.training import TrainConfig, TrainResult, Update, find_trainer, run_trainer
from runtree.compat.art.trajectories import TrajectoryGroup, as_groups, averages
from runtree.errors import Invalid, InvalidType
from runtree.retention import PrunePlan
from runtree.run import Run
from runtree.stored import StoredRun

if TYPE_CHECKING:
    from runtree.compat.art.backend import Backend

# What a metric's name may begin with so that its split is not put before it.
_SECTIONS = frozenset({"train", "val", "test", "time", "checkpoint"})


class TrainableModel:
    """A model that is trained: the run of its name in its project.

    Nothing is written before something is to be kept: a launch of the run begins with the first :meth:`train` or :meth:`log`.

    Args:
        name: Its name, which is its run's key.
        project: Its project.
        base_model: What its adapters belong to; recorded, and compared.
        config: Its own settings: a mapping, a dataclass, a pydantic model; the run's config.
        entity, id, base_path, report_metrics, inference_*: Taken as ART takes them, and kept as they are; runtree needs none.
        _internal_config: Settings of ART's trainer; the rank of the adapter (``peft_args.r``) is compared where one is forked.
    """

    def __init__(
        self,
        *,
        name: str,
        project: str,
        base_model: str,
        config: Any = None,
        entity: str | None = None,
        id: str | None = None,
        run_id: str | None = None,
        base_path: str | None = None,
        report_metrics: list[str] | None = None,
        inference_api_key: str | None = None,
        inference_base_url: str | None = None,
        inference_model_name: str | None = None,
        _internal_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = names.check_new("name", name)
        self.project = names.check_new("project", project)
        if not isinstance(base_model, str) or not base_model:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"base_model {base_model!r} is not the name of a model")
        self.base_model = base_model
        self.config = config
        self.entity = entity
        self.id = id
        self.run_id = run_id
        self.base_path = base_path
        self.report_metrics = report_metrics
        self.inference_api_key = inference_api_key
        self.inference_base_url = inference_base_url
        self.inference_model_name = inference_model_name
        self._internal_config = _internal_config
        self._backend: Backend | None = None
        # Rows of the step that was logged last: sums and counts, by metric.
        self._rows: tuple[int, dict[str, tuple[float, int]]] = (0, {})
        # Where runtree is disabled, the newest adapter lives as long as this object: a script must train all the same.
        self._unkept: tuple[int, Path, Callable[[], Any]] | None = None

    # ---- What it is.

    @property
    def lora_rank(self) -> int | None:
        """The rank of its adapters, if its settings say so."""
        peft: Any = (self._internal_config or {}).get("peft_args")
        rank: Any = cast("Mapping[str, Any]", peft).get("r") if isinstance(peft, Mapping) else None
        return rank if isinstance(rank, int) else None

    @property
    def run(self) -> StoredRun | None:
        """Its run, to be read; None if there is none yet. Everything of runtree starts here: ``model.run.history("val/reward")``.

        Raises:
            Invalid: It is not registered.
        """
        store = self._registered().open()
        found = standing.find(store, self.project, self.name).run
        return None if found is None else _live.find(found.id) or found

    def checkpoint(self) -> Checkpoint | None:
        """Its newest checkpoint, inherited or its own; None if there is none, which is another thing than step 0."""
        run = self.run
        complete = [] if run is None else [each for each in run.checkpoints() if each.state == "complete"]
        return complete[-1] if complete else None

    def settings(self) -> dict[str, Any]:
        """What stands in its run's config."""
        given: Any = self.config
        if hasattr(given, "model_dump"):
            given = given.model_dump()
        found = {**(as_config(given) or {}), "base_model": self.base_model}
        return {**found, "internal_config": dict(self._internal_config)} if self._internal_config else found

    # ---- ART's interface.

    async def register(self, backend: Backend, *, force: bool = False) -> None:
        """Says where it lives. A model that ART itself trained below the backend's ``path``, and that has no run yet, goes on here.

        Raises:
            Conflict: It was trained from another base model (``force`` takes it all the same).
        """
        await asyncio.to_thread(backend.register, self, force)
        self._backend = backend

    async def get_step(self) -> int:
        """The step of its newest checkpoint that is whole; 0 if there is none (:meth:`checkpoint` tells that from a step 0)."""
        if self._unkept is not None:
            return self._unkept[0]
        found = await asyncio.to_thread(self.checkpoint)
        return 0 if found is None else found.step

    async def delete_checkpoints(
        self,
        best_checkpoint_metric: str = "val/reward",
        *,
        mode: str | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> PrunePlan | None:
        """Deletes all checkpoints but the newest and the best by a metric; returns the plan, with a reason for each.

        What is pinned, tagged, or started from by a fork stays, too. Where nothing has a value of the metric yet, nothing is deleted,
        and one warning says so; with ``force`` the newest alone is kept. See :func:`runtree.compat.art.deleting.delete`.
        """
        run = await asyncio.to_thread(lambda: self.run)
        if run is None:
            return None
        return await asyncio.to_thread(deleting.delete, run, best_checkpoint_metric, mode, force=force, dry_run=dry_run)

    async def train(
        self, trajectory_groups: Iterable[TrajectoryGroup], config: TrainConfig | None = None
    ) -> TrainResult:
        """Updates it: the backend's trainer writes the next adapter, which is saved at the next step, with metrics ``train/…``.

        Returns when the checkpoint is durable.

        Raises:
            Unsupported: There is no trainer.
            Invalid: It wrote no whole adapter; nothing is saved then.
        """
        backend = self._registered()
        function = find_trainer(backend.trainer)
        groups = as_groups(trajectory_groups)
        run = self._launch()
        last, current = await asyncio.to_thread(self._start, run)
        step = last + 1
        target = Path(tempfile.mkdtemp(prefix="runtree-art-"))
        remove = weakref.finalize(self, shutil.rmtree, target, ignore_errors=True)
        try:
            update = Update(self, groups, config or TrainConfig(), step, current, target)
            told = await run_trainer(function, update)
            metrics = self._log(run, step, "train", {**averages(groups), **told})
            checkpoint = await run.save_dir(target, step=step)
            if run.disabled:
                before, self._unkept = self._unkept, (step, target, remove)
                remove = before[2] if before is not None else None
        finally:
            if remove is not None:
                remove()
        return TrainResult(step, metrics, checkpoint)

    def _start(self, run: Run) -> tuple[int, Path | None]:
        """What the next update goes on from: its step and its adapter; 0 and None at first."""
        if self._unkept is not None:
            return self._unkept[0], self._unkept[1]
        start = self.checkpoint()
        if start is not None and start.inherited and run.resumed_from is not None:
            # What the fork was made at, whatever its parent saved at that step since.
            start = run.resumed_from
        return (0, None) if start is None else (start.step, start.dir())

    async def log(
        self,
        trajectories: Iterable[Any] | None = None,
        split: str = "val",
        *,
        metrics: Mapping[str, float] | None = None,
        step: int | None = None,
    ) -> None:
        """Logs what trajectories (or groups of them) come to, and metrics, as ``{split}/{name}``, at its step or ``step``.

        Logged again at the same step, a metric is the mean of what was logged, as it is for ART.
        """
        values = {**averages(as_groups(trajectories or ())), **(metrics or {})}
        run = self._launch()
        at = await self.get_step() if step is None else step
        self._log(run, at, split, values)

    def _log(self, run: Run, step: int, split: str, values: Mapping[str, Any]) -> dict[str, float]:
        if self._rows[0] != step:
            self._rows = (step, {})
        rows = self._rows[1]
        named: dict[str, Any] = {}
        for name, value in values.items():
            full = name if name.partition("/")[0] in {*_SECTIONS, split} and "/" in name else f"{split}/{name}"
            if isinstance(value, (int, float)):
                total, count = rows.get(full, (0.0, 0))
                rows[full] = (total + value, count + 1)
                value = (total + value) / (count + 1)
            named[full] = value
        if named:
            run.log(named, step=step)
        return {name: value for name, value in named.items() if isinstance(value, (int, float))}

    def _launch(self) -> Run:
        return self._registered().launch(self)

    def _registered(self) -> Backend:
        if self._backend is None:
            raise Invalid(f"model {self.name!r} is not registered", hint="await model.register(backend)")
        return self._backend

    def __class_getitem__(cls, config: Any) -> type[TrainableModel]:
        """``TrainableModel[MyConfig]``, as ART has it."""
        return cls

    def __repr__(self) -> str:
        return f"<TrainableModel {self.name!r} of {self.project!r}, {self.base_model}>"
