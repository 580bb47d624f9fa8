"""torch.distributed.checkpoint on runtree: a storage writer and reader, an async stager, and export. Imported by :mod:`runtree.torch` on demand.

A checkpoint that DCP writes is an ordinary one: each rank's part has a state tree whose tensors are shards with global shapes and offsets, so
``run.load``, ``diff``, ``export`` and dedup work as for ``run.save``. Two things are particular. DCP divides replicated leaves among the ranks, so
no part is complete in itself: the root says so by its class, :class:`DistributedState`. And what DCP calls ``BYTE_IO``, a pickle of its
planner, is kept as the bytes it is, marked as :class:`DistributedBytes`, and never looked into.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import copy
import ctypes
import dataclasses
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import (
    DefaultSavePlanner,
    FileSystemWriter,
    LoadPlan,
    LoadPlanner,
    SavePlan,
    SavePlanner,
)
from torch.distributed.checkpoint import StorageReader as _Reader
from torch.distributed.checkpoint import StorageWriter as _Writer
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

import runtree
from runtree import _live, _ranks
from runtree import torch as _torch
from runtree._native import StagingArena
from runtree.checkpoint import RESULT_TIMEOUT_SECONDS, Checkpoint, PendingSave
from runtree.errors import Conflict, Invalid, NotFound, Unavailable
from runtree.run import Run
from runtree.store import Store
from runtree.stored import StoredRun

if TYPE_CHECKING:
    from runtree import _native
    from runtree._ranks import PerRank

CheckpointId = "str | int | os.PathLike[str] | None"

# "run/step-100", "step_100", "checkpoints/100", "run@100": a name, and the number at the end.
_STEP = re.compile(
    r"^(?:(?P<run>.*?)[/@])?(?:[A-Za-z_]*?(?:step|iter|iteration|checkpoint|ckpt|epoch)[_=-]?)?(?P<step>\d+)/?$"
)
# What an address must be a multiple of, so that any dtype can lie there.
_ALIGN = 64
# Most elements that an export holds at a time.
_EXPORT_BYTES = 256 << 20
# Most boxes of one destination that are compared with each other; beyond it they are copied.
_MOST_BOXES = 64


class DistributedState:
    """The root of what one rank wrote: a state that is complete only with the other ranks' parts."""

    __module__ = "runtree.torch"

    def __init__(self, state: dict[Any, Any]) -> None:
        self._state = state

    def state_dict(self) -> dict[Any, Any]:
        """The tree."""
        return self._state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        """Takes a tree."""
        self._state = state


class DistributedBytes:
    """Bytes that a planner of DCP made of an object; opaque to runtree."""

    __module__ = "runtree.torch"

    def __init__(self, data: bytes) -> None:
        self.data = data

    def state_dict(self) -> bytes:
        """The bytes."""
        return self.data

    def load_state_dict(self, data: bytes) -> None:
        """Takes bytes."""
        self.data = data


# ---- Writing.


class StorageWriter(_Writer):
    """Writes DCP checkpoints into a run: ``dcp.save(state, storage_writer=StorageWriter(run), checkpoint_id="run/step-100")``.

    ``run`` is the live run (``runtree.init`` on every rank); by default this process's only one. Without any, one is started for
    ``checkpoint_id``'s name in ``store``, and continued by the next save of that name. ``checkpoint_id`` ends in the step
    (``"step-100"``, ``"run/step-100"``, ``100``); without one it is the last step logged. The same step saved again is a new
    checkpoint: the old one stays until the new one is committed, and as long as retention keeps it.

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
            _STEP.match(os.fspath(checkpoint_id) if not isinstance(checkpoint_id, int) else str(checkpoint_id))
            is not None
        )

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Finds the run and the step."""
        self._rank = int(kwargs.get("rank", 0) or 0)
        self._collective = bool(kwargs.get("use_collectives", True))
        run_name, self._step = _parse(self.checkpoint_id)
        self._run = self._find_run(run_name)

    def _find_run(self, name: str | None) -> Run:
        run = self._given or self._run
        if run is None:
            live = list(_live._runs.values())
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
            DistributedState(tree),
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
                _put(tree, paths.get(fqn, (fqn,)), DistributedBytes(payload))
            else:
                tensor = data.wait() if hasattr(data, "wait") else data
                tensor = tensor.detach()
                size = tensor.numel() * tensor.element_size()
                described = item.tensor_data
                assert described is not None and described.chunk is not None
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


def _parse(checkpoint_id: Any) -> tuple[str | None, int | None]:
    """The run's name and the step in an id."""
    if checkpoint_id is None:
        return None, None
    if isinstance(checkpoint_id, int):
        return None, checkpoint_id
    text = os.fspath(checkpoint_id)
    found = _STEP.match(text)
    if found is None:
        raise Invalid(
            f"checkpoint_id {text!r} does not end in a step", hint='"step-100", "run/step-100" and 100 all are step 100'
        )
    return found["run"] or None, int(found["step"])


def _names(run: StoredRun) -> tuple[str | None, ...]:
    return run.id, run.display_id, run.name, run.key


def _check_same_run(run: Run, name: str | None) -> None:
    """An id whose first part names another run of the store is a mistake; any other text is the caller's own folder."""
    if name is None or run.disabled or name in _names(run):
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


# ---- Reading.


class _Tensor(torch.Tensor):
    """Stands for a tensor of the checkpoint; has its shape and dtype, and no data."""


class _StandIns:
    """Makes the leaves of a tree that is read piece by piece."""

    def __init__(self, facts: list[tuple[str, str, list[int], bool, list[tuple[list[int], list[int]]]]]) -> None:
        self._facts = facts

    def tensor(self, index: int, framework: str, view: Any) -> Any:
        _, dtype, shape, _, _ = self._facts[index]
        known = _torch._BY_NAME.get(dtype)
        if framework != "torch" or known is None:
            return _Array(index)
        made: Any = torch.empty(shape if view is None else view[1], dtype=known, device="meta").as_subclass(_Tensor)
        made.runtree_index = index
        made.runtree_view = view
        return made

    def stateful(self, kind: str, state: Any) -> Any:
        return DistributedBytes(state) if kind == "runtree.torch:DistributedBytes" else state


class _Array:
    """Stands for an array of another framework, which DCP knows as an object."""

    def __init__(self, index: int) -> None:
        self.index = index


class StorageReader(_Reader):
    """Reads a checkpoint of a run with DCP: ``dcp.load(state, storage_reader=StorageReader(run), checkpoint_id="run/step-100")``.

    ``source`` is a run (live or stored), a checkpoint, a store or its path; by default this process's run, else the store that
    ``RUNTREE_STORE`` and the working directory name. ``checkpoint_id`` is an id as :class:`StorageWriter` takes it or any REF
    (``"run@latest"``); without one it is the checkpoint this launch starts from, else the newest. Every byte is verified.

    Reads what ``dcp.save`` and what ``run.save`` wrote, on any world size, each rank its slices. Leaves of the latter that differ by
    rank need ``per_rank=`` (see :meth:`Checkpoint.load`) if they are asked for.
    """

    def __init__(
        self,
        source: StoredRun | Checkpoint | Store | str | os.PathLike[str] | None = None,
        *,
        checkpoint_id: Any = None,
        component: str = "trainer",
        per_rank: PerRank = None,
    ) -> None:
        self._source = source
        self._component = component
        self._per_rank = per_rank
        self.checkpoint_id: Any = checkpoint_id
        self.checkpoint: Checkpoint | None = None
        """What is read."""
        self._whole: _native.Whole | None = None
        self._flat: dict[str, Any] = {}
        self._differing: list[str] = []

    def reset(self, checkpoint_id: Any = None) -> None:
        """Begins with another checkpoint."""
        self.checkpoint_id = checkpoint_id
        self._whole = None

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Whether it could be one."""
        return bool(os.fspath(checkpoint_id)) if not isinstance(checkpoint_id, int) else True

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What is in the checkpoint, in DCP's words. Reads manifests, no tensor."""
        self.checkpoint = checkpoint = self._find()
        plan = checkpoint._store.native.load_plan(*checkpoint._name)
        component, ranks = _ranks.component_of(plan, checkpoint.reference, self._component)
        whole = plan.whole(component, _ranks.STATE, 0 if ranks == 1 else None)
        differing = whole.differing()
        if differing and self._per_rank is not None:
            rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
            choices, given = _ranks.choose(
                checkpoint, plan, component, differing, self._per_rank, rank, ranks, strict=False
            )
            whole = plan.whole(component, _ranks.STATE, None, choices)
        else:
            given = {}
        self._differing = [path for path, _, _ in whole.differing()]
        facts = whole.tensors()
        skeleton = whole.skeleton(_StandIns(facts))
        for keys, value in given.items():
            skeleton = _ranks.put(skeleton, keys, value)
        if not isinstance(skeleton, Mapping):
            raise Invalid(f"checkpoint {checkpoint.reference} is a {type(skeleton).__name__}, DCP loads dicts")
        flat, paths = flatten_state_dict(dict(skeleton))
        self._whole, self._flat = whole, flat
        described: dict[str, Any] = {}
        for fqn, value in flat.items():
            described[fqn] = _metadata(value, facts) if isinstance(value, _Tensor) else BytesStorageMetadata()
        return Metadata(described, planner_data=paths, storage_meta=StorageMeta(checkpoint_id=checkpoint.reference))

    def _find(self) -> Checkpoint:
        source: Any = self._source
        if isinstance(source, Checkpoint):
            return source
        if source is None:
            live = list(_live._runs.values())
            source = live[0] if len(live) == 1 else Store()
        elif isinstance(source, (str, os.PathLike)):
            source = Store(source)
        wanted = self.checkpoint_id
        if wanted is None:
            if isinstance(source, Run):
                return source._to_load("latest")
            if isinstance(source, StoredRun):
                return source.checkpoint("latest")
            raise Invalid("checkpoint_id names no run", hint='checkpoint_id="run/step-100", or StorageReader(run)')
        text = str(wanted) if isinstance(wanted, int) else os.fspath(wanted)
        found = None if "@" in text else _STEP.match(text)
        if isinstance(source, StoredRun):
            if found is None:
                return source.checkpoint(text)
            # "checkpoints/100" is step 100 of this run, unless it names another one.
            run = found["run"]
            if run and run not in _names(source):
                try:
                    source = source._store.run(run)
                except (NotFound, Invalid, Conflict):
                    pass
            return source.checkpoint(int(found["step"]))
        return source.checkpoint(f"{found['run']}@{found['step']}" if found is not None and found["run"] else text)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Opens it, if another process read the metadata."""
        if self._whole is None:
            self.read_metadata()

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Refuses leaves for which nobody said whose they should be."""
        for item in plan.items:
            fqn = item.storage_index.fqn
            for path in self._differing:
                if fqn == path or fqn.startswith(path + ".") or path.startswith(fqn + "."):
                    raise Invalid(
                        f"ranks differ in `{path}` of this checkpoint, and it was saved by another number of ranks",
                        hint="StorageReader(run, per_rank='modulo'), or leave it out of the state to load",
                    )
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Nothing to prepare: each rank reads for itself."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads straight into the planner's tensors where their memory allows, in parallel, verified."""
        whole = self._whole
        assert whole is not None
        reads = _Reads(whole)
        tensors: list[tuple[Any, Any]] = []
        for item in plan.items:
            fqn = item.storage_index.fqn
            stored = self._flat.get(fqn)
            if item.type == LoadItemType.BYTE_IO:
                planner.load_bytes(item, self._bytes(fqn, stored))
                continue
            target: Any = planner.resolve_tensor(item)
            offset = [
                at + more
                for at, more in zip(
                    item.storage_index.offset or [0] * len(item.lengths), item.storage_offsets, strict=True
                )
            ]
            if stored.runtree_view is not None:
                # A view of shared memory is stored as one line: read whole, then cut.
                value = whole.value(fqn)
                for axis, (at, size) in enumerate(zip(offset, item.lengths, strict=True)):
                    value = value.narrow(axis, at, size)
                target.detach().copy_(value)
            else:
                reads.add(item, target.detach(), stored, offset)
            tensors.append((item, target))
        reads.run()
        for item, target in tensors:
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _bytes(self, fqn: str, stored: Any) -> io.BytesIO:
        """What the planner made of an object, or makes of one that was saved as itself."""
        if isinstance(stored, DistributedBytes):
            return io.BytesIO(stored.data)
        assert self._whole is not None
        buffer = io.BytesIO()
        torch.save(self._whole.value(fqn) if isinstance(stored, _Array) else stored, buffer)
        buffer.seek(0)
        return buffer


def _metadata(tensor: Any, facts: list[Any]) -> TensorStorageMetadata:
    _, _, _, _, stored = facts[tensor.runtree_index]
    size = torch.Size(tensor.shape)
    if tensor.runtree_view is not None:
        stored = [([0] * len(size), list(size))]
    # Replicas are one chunk.
    boxes = dict.fromkeys((tuple(offset), tuple(shape)) for offset, shape in stored)
    chunks = [ChunkStorageMetadata(torch.Size(offset), torch.Size(shape)) for offset, shape in boxes]
    return TensorStorageMetadata(TensorProperties(dtype=tensor.dtype), size, chunks)


class _Reads:
    """Boxes to read, and what to do when they are there."""

    def __init__(self, whole: _native.Whole) -> None:
        self._whole = whole
        self._requests: list[_ranks.Box] = []
        self._copies: list[tuple[Any, Any]] = []
        # What is read into directly: by first address, the end, whose it is, and which boxes of it.
        self._taken: list[tuple[int, int, Any, list[Any]]] = []

    def add(self, item: Any, target: Any, stored: Any, offset: list[int]) -> None:
        lengths = list(item.lengths)
        memory = target
        direct = (
            target.device.type == "cpu"
            and target.dtype == stored.dtype
            and not target.is_conj()
            and not target.is_neg()
            and tuple(target.shape) == tuple(lengths)
            and self._is_free(item, target)
        )
        if not direct:
            memory = torch.empty(lengths, dtype=stored.dtype)
            self._copies.append((target, memory))
        self._requests.append(
            _ranks.Box(stored.runtree_index, offset, lengths, memory.data_ptr(), list(memory.stride()))
        )

    def _is_free(self, item: Any, target: Any) -> bool:
        """Whether nothing else is read into the same elements: tied weights are, and two threads must not write to one place."""
        if target.numel() == 0:
            return True
        strides, sizes = target.stride(), target.shape
        span = sum(stride * (size - 1) for stride, size in zip(strides, sizes, strict=True)) + 1
        # What the native module demands of strides, too: no element twice.
        reach = 0
        for stride, size in sorted(zip(strides, sizes, strict=True)):
            if size > 1 and stride <= reach:
                return False
            reach += stride * (size - 1)
        start = target.data_ptr()
        end = start + span * target.element_size()
        box = (item.dest_offsets, item.lengths)
        for first, last, index, boxes in self._taken:
            if start < last and first < end:
                apart = index == item.dest_index and len(boxes) < _MOST_BOXES
                if not apart or not all(_are_apart(box, other) for other in boxes):
                    return False
        for place, (first, last, index, boxes) in enumerate(self._taken):
            if index == item.dest_index and start < last and first < end:
                self._taken[place] = (min(first, start), max(last, end), index, [*boxes, box])
                return True
        self._taken.append((start, end, item.dest_index, [box]))
        return True

    def run(self) -> None:
        self._whole.read(self._requests)
        with torch.no_grad():
            for target, memory in self._copies:
                target.copy_(memory)


def _are_apart(one: Any, other: Any) -> bool:
    return any(
        at + size <= that or that + more <= at
        for at, size, that, more in zip(one[0], one[1], other[0], other[1], strict=True)
    )


# ---- Staging.


class AsyncStager:
    """Copies a state dict for ``dcp.async_save``, into memory that is kept between saves and filled by several native threads.

    ``dcp.async_save(state, async_stager=stager, storage_writer=…)``; stock writers work as well, since what it returns are plain CPU
    tensors (in DTensors where there were DTensors). Memory is reused only when nobody holds the staged tensors any more, so any
    number of saves may overlap. Tensors on a GPU go through pinned memory on a side stream; ``stage`` returns when they are copied.
    """

    def __init__(self) -> None:
        self._arena = StagingArena()

    @property
    def should_synchronize_after_execute(self) -> bool:
        """False: when :meth:`stage` returns, the state may be changed."""
        return False

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        """A copy that training does not touch."""
        staging = _Staging(self._arena)
        staging.measure(state_dict)
        staging.lend()
        staged = staging.copy(state_dict)
        staging.fill()
        return staged

    def synchronize_staging(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Gives memory that nobody holds back to the system."""
        self._arena.trim()


class _Staging:
    """One state on its way into a lease."""

    def __init__(self, arena: StagingArena) -> None:
        self._arena = arena
        self._bytes = 0
        self._places: dict[Any, int] = {}
        self._made: dict[Any, Any] = {}
        self._copies: list[tuple[int, int, int]] = []
        self._held: list[Any] = []
        self._events: list[Any] = []
        self._lease: Any = None
        self._buffer: Any = None

    def measure(self, value: Any) -> None:
        for tensor in _tensors(value):
            key = _identity(tensor)
            if key not in self._places:
                self._places[key] = self._bytes
                size = tensor.numel() * tensor.element_size()
                self._bytes = (self._bytes + size + _ALIGN - 1) // _ALIGN * _ALIGN

    def lend(self) -> None:
        if not self._bytes:
            return
        self._lease = self._arena.lend(self._bytes)
        kind: Any = type("Memory", (ctypes.c_char * self._bytes,), {})
        memory = kind.from_address(self._lease.address)
        # torch holds the memory object, which holds the lease.
        memory.lease = self._lease
        self._buffer = torch.frombuffer(memory, dtype=torch.uint8)

    def copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._copy_tensor(value)
        if isinstance(value, Mapping):
            made = {key: self.copy(each) for key, each in value.items()}
            return made
        if isinstance(value, list):
            return [self.copy(each) for each in value]
        if type(value) is tuple:
            return tuple(self.copy(each) for each in value)
        return copy.deepcopy(value)

    def _copy_tensor(self, value: Any) -> Any:
        if hasattr(value, "placements") and hasattr(value, "to_local"):
            from torch.distributed.tensor import DTensor

            local = value.to_local()
            staged = self._copy_plain(local.wait() if hasattr(local, "wait") else local)
            # Not from_local: that would move it back to the device of the mesh.
            make: Any = DTensor
            return make(staged, value._spec, requires_grad=False)
        if hasattr(value, "local_shards"):
            made = copy.copy(value)
            made._local_shards = [
                dataclasses.replace(shard, tensor=self._copy_plain(shard.tensor)) for shard in value.local_shards()
            ]
            return made
        made = self._copy_plain(value)
        for name in ("global_shape", "global_offsets", "local_offsets", "local_sizes"):
            if hasattr(value, name):
                setattr(made, name, getattr(value, name))
        return made

    def _copy_plain(self, tensor: Any) -> Any:
        key = _identity(tensor)
        if key in self._made:
            return self._made[key]
        plain = tensor.detach().resolve_conj().resolve_neg()
        size = plain.numel() * plain.element_size()
        if not size:
            made = torch.empty_like(plain, device="cpu")
        else:
            at = self._places[key]
            made = self._buffer[at : at + size].view(plain.dtype).view(plain.shape)
            if plain.device.type == "cpu" and plain.is_contiguous():
                self._copies.append((plain.data_ptr(), size, at))
                self._held.append(plain)
            elif plain.device.type == "cpu":
                made.copy_(plain)
            else:
                self._from_device(plain, made)
        self._made[key] = made
        return made

    def _from_device(self, tensor: Any, made: Any) -> None:
        """Starts the copy through pinned memory, which the device writes to without the processor."""
        module: Any = getattr(torch, tensor.device.type)
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        stream = module.Stream(device=tensor.device)
        stream.wait_stream(module.current_stream(tensor.device))
        with module.stream(stream):
            pinned.copy_(tensor, non_blocking=True)
            tensor.record_stream(stream)
            event = module.Event()
            event.record(stream)
        self._events.append((event, pinned, made))

    def fill(self) -> None:
        if self._lease is not None:
            self._lease.fill(self._copies)
        for event, pinned, made in self._events:
            event.synchronize()
            made.copy_(pinned)
        self._held.clear()


def _identity(tensor: Any) -> Any:
    """Equal for tensors that are the same view of the same memory."""
    return (
        tensor.data_ptr(), str(tensor.device), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()),
        tensor.is_conj(), tensor.is_neg(),
    )  # fmt: skip


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        if hasattr(value, "placements") and hasattr(value, "to_local"):
            local: Any = value.to_local()
            yield local.wait() if hasattr(local, "wait") else local
        elif hasattr(value, "local_shards"):
            for shard in value.local_shards():  # pyright: ignore[reportAttributeAccessIssue]
                yield shard.tensor
        else:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list) or type(value) is tuple:
        for each in value:
            yield from _tensors(each)


# ---- Export.


class _ExportPlanner(DefaultSavePlanner):
    """Plans to write everything a reader has, and reads each piece when it is written."""

    def __init__(self, reader: StorageReader, metadata: Metadata) -> None:
        super().__init__()
        self._reader = reader
        self._read = metadata

    def set_up_planner(
        self, state_dict: Any, storage_meta: StorageMeta | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict = {}
        self.mappings = self._read.planner_data
        self.is_coordinator = is_coordinator

    def create_local_plan(self) -> SavePlan:
        items: list[WriteItem] = []
        for fqn, stored in self._read.state_dict_metadata.items():
            if isinstance(stored, BytesStorageMetadata):
                items.append(WriteItem(index=MetadataIndex(fqn), type=WriteItemType.BYTE_IO))
                continue
            for place, chunk in enumerate(_windows(stored)):
                data = TensorWriteData(chunk=chunk, properties=stored.properties, size=stored.size)
                index = MetadataIndex(fqn, chunk.offsets, place)
                items.append(WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items, planner_data=self.mappings)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        reader, fqn = self._reader, write_item.index.fqn
        whole = reader._whole
        assert whole is not None
        stored = reader._flat[fqn]
        if write_item.type == WriteItemType.BYTE_IO:
            return reader._bytes(fqn, stored)
        assert write_item.tensor_data is not None and write_item.tensor_data.chunk is not None
        chunk = write_item.tensor_data.chunk
        if stored.runtree_view is not None:
            return whole.value(fqn).contiguous()
        made = torch.empty(chunk.sizes, dtype=stored.dtype)
        strides = list(made.stride())
        whole.read([_ranks.Box(stored.runtree_index, list(chunk.offsets), list(chunk.sizes), made.data_ptr(), strides)])
        return made


def _windows(stored: TensorStorageMetadata) -> Iterator[ChunkStorageMetadata]:
    """The tensor, cut along its first dimension into pieces that fit into memory."""
    size = stored.size
    rows = size[0] if len(size) else 1
    item = torch.empty((), dtype=stored.properties.dtype).element_size()
    row = item * (size.numel() // rows if rows else 0)
    step = max(1, min(rows, _EXPORT_BYTES // max(1, row))) if rows else 1
    if not len(size) or step >= rows:
        yield ChunkStorageMetadata(torch.Size([0] * len(size)), size)
        return
    for at in range(0, rows, step):
        sizes = torch.Size([min(step, rows - at), *size[1:]])
        yield ChunkStorageMetadata(torch.Size([at, *[0] * (len(size) - 1)]), sizes)


def export_dcp(checkpoint: Checkpoint | str, dir: str | os.PathLike[str], *, store: Any = None) -> Path:
    """Writes a checkpoint as a directory that plain ``dcp.load(state, checkpoint_id=dir)`` reads, without a process group and a window of
    memory at a time. ``.metadata``, a pickle, is torch's own, written by torch. It appears whole or not at all and overwrites nothing.

    ``checkpoint`` may be a REF in ``store``. Raises ``Conflict`` if something is there.
    """
    found = checkpoint if isinstance(checkpoint, Checkpoint) else (store or Store()).checkpoint(checkpoint)
    target = Path(dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} exists and is not empty", hint="export into a directory that does not exist yet")
    reader = StorageReader(found, per_rank=0)
    metadata = reader.read_metadata()
    temporary = target.parent / f".{target.name}.runtree-{uuid.uuid4().hex[:16]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = FileSystemWriter(temporary, single_file_per_rank=True, sync_files=True, thread_count=1)
        _save_alone(writer, _ExportPlanner(reader, metadata))
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _save_alone(writer: FileSystemWriter, planner: _ExportPlanner) -> None:
    """What ``dcp.save`` does in one process, without its warning that it is one."""
    planner.set_up_planner({}, None, True)
    writer.set_up_storage_writer(True)
    local = writer.prepare_local_plan(planner.create_local_plan())
    plans, metadata = planner.create_global_plan([local])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    written = writer.write_data(plan, planner)
    written.wait()
    writer.finish(metadata=metadata, results=[written.value()])
