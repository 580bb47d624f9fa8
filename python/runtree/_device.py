"""Tensors of a device on their way into host memory: pinned, all of a state together, on a stream of their own.

The order that makes it right (docs/design/0005): the side stream first waits for what computes the tensors (``wait_stream``), so
that it reads what the program has computed; each tensor is told that the side stream uses it (``record_stream``), so that its
memory is not handed out again; an event after the copies says when the host may read them. Whoever changes the tensors next either
waits for that event on the host (an unguarded save) or has its own stream wait for it (:meth:`Transfer.fence`; a guard): then the
host never waits.
Imported only by programs that have imported torch.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_ALIGN = 64
"""What an address must be a multiple of, so that any dtype can lie there."""
_SLAB_BYTES = 64 << 20
"""Small tensors share pinned blocks of this size. torch keeps pinned blocks between saves and rounds them up to powers of two."""

_streams: dict[str, Any] = {}


class Transfer:
    """Dense tensors of devices, being copied.

    ``now`` are copied first: :meth:`wait_now` waits for them alone. ``memory`` is ``(owner, address)`` of each copy, ``now``'s first.
    """

    def __init__(self, now: Sequence[Any], guarded: Sequence[Any]) -> None:
        self.memory: list[tuple[Any, int]] = []
        self._now = self._start(now)
        self._guarded = self._start(guarded)

    def wait_now(self) -> None:
        """Waits, on the host, until the tensors that are not guarded have arrived."""
        for event, _, _ in self._now:
            event.synchronize()

    def wait_all(self) -> None:
        """Waits, on the host, until all of them have arrived."""
        for event, _, _ in (*self._now, *self._guarded):
            event.synchronize()

    def fence(self) -> None:
        """Makes what each device is told to compute from here on wait until the guarded ones are copied. The host goes on at once."""
        for event, module, device in self._guarded:
            module.current_stream(device).wait_event(event)

    def _start(self, tensors: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
        by_device: dict[str, list[int]] = {}
        for index, tensor in enumerate(tensors):
            by_device.setdefault(str(tensor.device), []).append(index)
        hosts: list[Any] = [None] * len(tensors)
        events: list[tuple[Any, Any, Any]] = []
        for name, indices in by_device.items():
            device = tensors[indices[0]].device
            module = streams_of(device.type)
            targets = _places(
                [tensors[index].numel() * tensors[index].element_size() for index in indices], module is not None
            )
            for index, (block, at, size) in zip(indices, targets, strict=True):
                hosts[index] = block[at : at + size].view(tensors[index].dtype).view(tensors[index].shape)
            copies = [(tensors[index], hosts[index]) for index in indices]
            if module is None:
                for tensor, host in copies:
                    host.copy_(tensor)
                continue
            side = _side_stream(module, name, device)
            side.wait_stream(module.current_stream(device))
            with module.stream(side):
                for tensor, host in copies:
                    host.copy_(tensor, non_blocking=True)
                    tensor.record_stream(side)
                event = module.Event()
                event.record(side)
            events.append((event, module, device))
        self.memory += [(host, host.data_ptr()) for host in hosts]
        return events


def streams_of(kind: str) -> Any:
    """The module of a kind of device (``torch.cuda``), if it has streams and events; None if its copies are synchronous."""
    module = getattr(torch, kind, None)
    return module if all(hasattr(module, name) for name in ("Stream", "Event", "current_stream", "stream")) else None


def _side_stream(module: Any, name: str, device: Any) -> Any:
    stream = _streams.get(name)
    if stream is None:
        stream = _streams[name] = module.Stream(device=device)
    return stream


def _places(sizes: Sequence[int], pinned: bool) -> list[tuple[Any, int, int]]:
    """Host memory for each size: ``(block, offset, size)``."""
    small = sum(_aligned(size) for size in sizes if size <= _SLAB_BYTES // 2)
    places: list[tuple[Any, int, int]] = []
    slab: Any = None
    used = 0
    for size in sizes:
        if size > _SLAB_BYTES // 2:
            places.append((_block(size, pinned), 0, size))
            continue
        if slab is None or used + size > _SLAB_BYTES:
            slab, used = _block(min(small, _SLAB_BYTES), pinned), 0
        places.append((slab, used, size))
        used += _aligned(size)
        small -= _aligned(size)
    return places


def _aligned(size: int) -> int:
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN


def _block(size: int, pinned: bool) -> Any:
    return torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
