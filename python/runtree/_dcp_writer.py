"""The storage writer: DCP checkpoints into a run."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint import SavePlan, SavePlanner
from torch.distributed.checkpoint import StorageWriter as _Writer
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

import runtree
from runtree import _dcp
from runtree.checkpoint import RESULT_TIMEOUT_SECONDS, Checkpoint, PendingSave
from runtree.errors import Conflict, Invalid, NotFound, Unavailable
from runtree.run import Run


class StorageWriter(_Writer):
    """Writes DCP checkpoints into a run: ``dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="run/step-100")``.

    ``run`` is the live run (``runtree.init`` on every rank); by default this process's only one. Without any, one is started for
    ``checkpoint_id``'s name in ``store``, and continued by the next save of that name. ``checkpoint_id`` ends in the step
    (``"step-100"``, ``"run/step-100"``, ``100``); one process alone may leave it out: then it is the last step logged. The same
    step saved again is a new checkpoint: the old one stays until the new one is committed, and as long as retention keeps it.

    ``dcp.save`` returns when the checkpoint is committed: durable on all ranks. What one rank could not write raises on all of them,
    and the checkpoint never appears. ``component``, ``parts``, ``metrics``, ``name`` and ``pin`` are those of ``run.save``.
    Works with ``dcp.async_save``, plan caching, and ``use_collectives=False``.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        component: str = "trainer",
        parts: Mapping[str, int] | None = None,
        metrics: Mapping[str, float] | None = None,
        name: str | None = None,
        pin: bool = False,
        timeout: float = RESULT_TIMEOUT_SECONDS,
    ) -> None:
        self._given = run
        self._store = None if store is None else os.fspath(store)
        self._component = component
        self._parts = None if parts is None else dict(parts)
        self._metrics = None if metrics is None else dict(metrics)
        self._name = name
        self._pin = pin
        self._timeout = timeout
        self.checkpoint_id: Any = None
        self.checkpoint: Checkpoint | None = None
        """What was saved last, on the coordinator."""
        self._run: Run | None = None
        self._step: int | None = None
        self._rank = 0
        self._collective = True
        self._pending: PendingSave | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A daemon process that writes (PROCESS mode) joins the launch by itself.
        return {**self.__dict__, "_pending": None, "checkpoint": None, "_given": self._given or self._run, "_run": None}

    def reset(self, checkpoint_id: Any = None) -> None:
        """Begins another checkpoint."""
        self.checkpoint_id = checkpoint_id
        self._pending = None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Whether an id ends in a step."""
        return (
            _dcp.STEP.match(os.fspath(checkpoint_id) if not isinstance(checkpoint_id, int) else str(checkpoint_id))
            is not None
        )

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Finds the run and the step."""
        self._rank = int(kwargs.get("rank", 0) or 0)
        self._collective = bool(kwargs.get("use_collectives", True))
        run_name, step = _dcp.parse(self.checkpoint_id)
        self._run = run = self._find_run(run_name)
        self._step = run.step if step is None else step
        # Here, and not when the part is saved: what fails while planning fails on all ranks before anything is written.
        if self._step is None and not run.disabled:
            raise Invalid(
                "nothing says which step this is: nothing was logged here yet, and only rank 0 logs",
                hint="checkpoint_id='step-100'",
            )

    def _find_run(self, name: str | None) -> Run:
        run = self._given or self._run
        if run is None:
            live = _dcp.live_runs()
            if len(live) > 1:
                names = ", ".join(each.display_id for each in live)
                raise Invalid(f"this process has several runs, {names}", hint="StorageWriter(run)")
            run = live[0] if live else None
        if run is None:
            if name is None:
                raise Invalid(
                    "no run is live here to save into",
                    hint="call runtree.init() on every rank, or give the run a name: checkpoint_id='my-run/step-100'",
                )
            # Its key makes it one run, whichever process begins it, and whichever continues it.
            run = runtree.init(
                name=name, run_id=name, resume="allow", store=self._store, console=False, system_metrics=False
            )
        _check_same_run(run, name)
        return run

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Nothing to prepare."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tells every rank how many there are."""
        if not self._collective:
            return plans
        return [dataclasses.replace(plan, storage_data={"ranks": len(plans)}) for plan in plans]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Copies the items into staging memory and waits until this rank's part is durable."""
        run, ranks = self._run, self._ranks(plan)
        assert run is not None
        tree, results = self._gather(plan, planner)
        pending = run.save(
            _dcp.DistributedState(tree),
            step=self._step,
            name=self._name,
            metrics=self._metrics,
            component=self._component,
            sharded=ranks > 1,
            rank=self._rank,
            world_size=ranks,
            parts=self._parts,
            pin=self._pin,
        )
        self._pending = pending
        native = pending._native
        if native is not None and not native.wait_part(self._timeout):
            raise Unavailable(f"the part of rank {self._rank} is not durable after {self._timeout:.0f} s")
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def _ranks(self, plan: SavePlan) -> int:
        if self._collective and isinstance(plan.storage_data, dict):
            return plan.storage_data["ranks"]
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    def _gather(self, plan: SavePlan, planner: SavePlanner) -> tuple[dict[Any, Any], list[WriteResult]]:
        paths: Any = plan.planner_data if isinstance(plan.planner_data, dict) else {}
        tree: dict[Any, Any] = {}
        shards: dict[str, tuple[tuple[int, ...], list[tuple[Any, tuple[int, ...]]]]] = {}
        results: list[WriteResult] = []
        place = f"{self._component}-{self._rank}"
        for item in plan.items:
            fqn = item.index.fqn
            data: Any = planner.resolve_data(item)
            if item.type == WriteItemType.BYTE_IO:
                payload = data.getvalue() if isinstance(data, io.BytesIO) else bytes(data)
                size = len(payload)
                _put(tree, paths.get(fqn, (fqn,)), _dcp.DistributedBytes(payload))
            else:
                tensor = data.wait() if hasattr(data, "wait") else data
                tensor = tensor.detach()
                size = tensor.numel() * tensor.element_size()
                described = item.tensor_data
                assert described is not None
                assert described.chunk is not None
                if item.type == WriteItemType.SHARD:
                    whole = shards.setdefault(fqn, (tuple(described.size), []))
                    whole[1].append((tensor, tuple(described.chunk.offsets)))
                else:
                    _put(tree, paths.get(fqn, (fqn,)), tensor)
            results.append(WriteResult(index=item.index, size_in_bytes=size, storage_data=place))
        for fqn, (shape, held) in shards.items():
            # A view of its own that says what it is a shard of.
            marked = held[0][0].view(held[0][0].shape)
            marked._runtree_shards = (shape, held)
            _put(tree, paths.get(fqn, (fqn,)), marked)
        return tree, results

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Waits for the commit; all parts are durable by now, so it is at hand."""
        assert self._pending is not None
        self.checkpoint = self._pending.result(self._timeout)
        metadata.storage_meta = self.storage_meta()

    def storage_meta(self) -> StorageMeta | None:
        """What DCP notes about where it is."""
        reference = None if self.checkpoint is None else self.checkpoint.reference
        return StorageMeta(checkpoint_id=reference or (None if self.checkpoint_id is None else str(self.checkpoint_id)))


def _put(tree: dict[Any, Any], path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _check_same_run(run: Run, name: str | None) -> None:
    """An id whose first part names another run of the store is a mistake; any other text is the caller's own folder."""
    if name is None or run.disabled or name in _dcp.names(run):
        return
    try:
        other = run._store.run(name)
    except (NotFound, Invalid, Conflict):
        return
    if other.id != run.id:
        raise Invalid(
            f"checkpoint_id names run {other.display_id}, this process writes to {run.display_id}",
            hint="name this run, or only the step: checkpoint_id='step-100'",
        )
