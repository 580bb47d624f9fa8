"""An async stager for torch.distributed.checkpoint: state dicts copied into native memory that is kept between saves."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateUsage=false, reportUnknownParameterType=false, reportMissingParameterType=false
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import ctypes
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from runtree._native import StagingArena

# What an address must be a multiple of, so that any dtype can lie there.
_ALIGN = 64


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
            return {key: self.copy(each) for key, each in value.items()}
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
