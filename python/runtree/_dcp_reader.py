"""The storage reader: checkpoints of a run into DCP's state dicts, on any number of ranks."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import LoadPlan, LoadPlanner
from torch.distributed.checkpoint import StorageReader as _Reader
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType
from torch.futures import Future

from runtree import _dcp, _guard, _ranks, _torch
from runtree.checkpoint import Checkpoint
from runtree.errors import Conflict, Invalid, NotFound
from runtree.run import Run
from runtree.store import Store
from runtree.stored import StoredRun

if TYPE_CHECKING:
    from runtree import _native
    from runtree._ranks import PerRank

# Most boxes of one destination that are compared with each other; beyond it they are copied.
_MOST_BOXES = 64


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
        return _dcp.DistributedBytes(state) if kind == "runtree.torch:DistributedBytes" else state


class _Array:
    """Stands for an array of another framework, which DCP knows as an object."""

    def __init__(self, index: int) -> None:
        self.index = index


class StorageReader(_Reader):
    """Reads a checkpoint of a run with DCP: ``dcp.load(state, storage_reader=StorageReader(run), checkpoint_id="run/step-100")``.

    ``source`` is a run (live or stored), a checkpoint, a store or its path; by default this process's run, else the store that
    ``RUNTREE_STORE`` and the working directory name. ``checkpoint_id`` is an id as :class:`StorageWriter` takes it or any REF
    (``"run@latest"``); without one it is the checkpoint this launch starts from, else the newest. Every byte is verified.

    Objects that are no tensors reach torch's own planner as bytes, and it unpickles them: as with any DCP checkpoint, load only what
    you trust, or pass a planner that does otherwise. ``run.load`` never unpickles.

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
            live = _dcp.live_runs()
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
        found = None if "@" in text else _dcp.STEP.match(text)
        if isinstance(source, StoredRun):
            if found is None:
                return source.checkpoint(text)
            # "checkpoints/100" is step 100 of this run, unless it names another one.
            run = found["run"]
            if run and run not in _dcp.names(source):
                with contextlib.suppress(NotFound, Invalid, Conflict):
                    source = source._store.run(run)
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
        _guard.wait_all()
        reads = _Reads(whole)
        tensors: list[tuple[Any, Any]] = []
        for item in plan.items:
            fqn = item.storage_index.fqn
            stored: Any = self._flat.get(fqn)
            if item.type == LoadItemType.BYTE_IO:
                planner.load_bytes(item, self.bytes_of(fqn, stored))
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

    def bytes_of(self, fqn: str, stored: Any) -> io.BytesIO:
        """What the planner made of an object, or makes of one that was saved as itself."""
        if isinstance(stored, _dcp.DistributedBytes):
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
