"""Tensors of a device: a device that is not there, whose streams do nothing until somebody waits for them.

Every wrong order is then a wrong byte: what is read before its event was waited for is not there yet, what is computed on a stream
that was not told to wait happens before the copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import runtree
from runtree import _device, _torch

_BLOCK = _device._block
WORKING = threading.RLock()
"""Held while queued work is done: a device does one thing of a stream at a time, whoever waits for it."""


class Stream:
    """Work that is done when somebody waits for it, in order."""

    def __init__(self, device: Any = None) -> None:
        self.queue: list[Callable[[], None]] = []

    def wait_stream(self, other: Stream) -> None:
        event = Event()
        event.record(other)
        self.wait_event(event)

    def wait_event(self, event: Event) -> None:
        self.queue.append(event.synchronize)

    def run(self) -> None:
        with WORKING:
            while self.queue:
                self.queue.pop(0)()


class Event:
    def __init__(self) -> None:
        self.done = False
        self.stream: Stream | None = None

    def record(self, stream: Stream) -> None:
        self.stream = stream
        stream.queue.append(self._finish)

    def _finish(self) -> None:
        self.done = True

    def synchronize(self) -> None:
        # The stream does all that was queued before the event, and nothing after it.
        with WORKING:
            while not self.done:
                assert self.stream is not None
                self.stream.queue.pop(0)()


class Device:
    """The module of a kind of device, like torch.cuda."""

    Stream = Stream
    Event = Event

    def __init__(self) -> None:
        self.main = Stream()
        self.current = self.main
        self.blocks: list[torch.Tensor] = []

    def current_stream(self, device: Any = None) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class OnDevice:
    """A tensor whose memory is a CPU tensor's, and whose copies are queued."""

    def __init__(self, tensor: torch.Tensor, module: Device) -> None:
        self.tensor, self.module = tensor, module
        self.device = _Kind("fake", 0)
        self.dtype, self.shape = tensor.dtype, tensor.shape
        self.recorded: list[Stream] = []

    def numel(self) -> int:
        return self.tensor.numel()

    def element_size(self) -> int:
        return self.tensor.element_size()

    def record_stream(self, stream: Stream) -> None:
        self.recorded.append(stream)


class _Kind:
    def __init__(self, kind: str, index: int) -> None:
        self.type, self.index = kind, index

    def __str__(self) -> str:
        return f"{self.type}:{self.index}"


class HostBlock:
    """Pinned memory; copying into it from a device is queued on the stream that is current."""

    def __init__(self, memory: torch.Tensor) -> None:
        self.memory = memory

    def __getitem__(self, item: Any) -> HostBlock:
        return HostBlock(self.memory[item])

    def view(self, *args: Any) -> HostBlock:
        return HostBlock(self.memory.view(*args))

    def data_ptr(self) -> int:
        return self.memory.data_ptr()

    def copy_(self, source: OnDevice, non_blocking: bool = False) -> None:
        assert non_blocking, "a blocking copy would stop the host"

        def copy() -> None:
            self.memory.copy_(source.tensor)

        source.module.current.queue.append(copy)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Makes torch tensors that are marked `fake` live on the device."""
    module = Device()
    monkeypatch.setattr(_device, "_streams", {})
    monkeypatch.setattr(_device, "streams_of", lambda kind: module if kind == "fake" else None)

    def block(size: int, pinned: bool) -> HostBlock:
        assert pinned
        module.blocks.append(torch.zeros(size, dtype=torch.uint8))
        return HostBlock(module.blocks[-1])

    monkeypatch.setattr(_device, "_block", block)
    describe = _torch.describe

    def described(tensor: Any) -> Any:
        found = describe(tensor)
        if getattr(tensor, "fake", False):
            found.device, found.owner = "fake:0", OnDevice(tensor.detach(), module)
        return found

    monkeypatch.setattr(_torch, "describe", described)
    return module


def fake(tensor: torch.Tensor) -> torch.Tensor:
    tensor.fake = True  # pyright: ignore[reportAttributeAccessIssue]
    # Not a plain tensor, which is described without `describe`.
    tensor._runtree_shards = None  # pyright: ignore[reportAttributeAccessIssue]
    return tensor


def queued(module: Device, change: Callable[[], object]) -> None:
    """A kernel on the program's stream."""

    def kernel() -> None:
        change()

    module.main.queue.append(kernel)


def test_a_save_reads_what_was_computed_and_waits_for_its_copies(tmp_path: Path, device: Device) -> None:
    weight, small = fake(torch.zeros(1 << 20)), fake(torch.zeros(3, dtype=torch.bfloat16))
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        queued(device, lambda: weight.fill_(1.0))
        queued(device, lambda: small.fill_(2.0))
        save = run.save({"w": weight, "s": small, "host": torch.ones(2)}, step=0)
        # Unguarded: whatever is computed next, on any stream, comes after the copy.
        weight.fill_(5.0)
        small.fill_(5.0)
        save.result()
        loaded = run.load(0, device="cpu")
        assert all(bool((loaded[name] == value).all()) for name, value in [("w", 1), ("s", 2), ("host", 1)])


class Optimizer:
    """As much of torch's as a guard needs."""

    def __init__(self, parameters: list[Any]) -> None:
        self.param_groups = [{"params": parameters}]
        self.state: dict[Any, Any] = {}
        self.hooks: list[Any] = []

    def register_step_pre_hook(self, hook: Any) -> Any:
        self.hooks.append(hook)

        class Handle:
            def remove(_) -> None:
                self.hooks.remove(hook)

        return Handle()

    def step(self, kernel: Callable[[], None]) -> None:
        for hook in self.hooks:
            hook(self, (), {})
        kernel()


def test_a_guarded_step_is_fenced_on_the_device_and_the_host_does_not_wait(tmp_path: Path, device: Device) -> None:
    weight, buffer = fake(torch.zeros(1 << 20)), fake(torch.zeros(1 << 19))
    optimizer = Optimizer([weight])
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(optimizer)
        saves: list[Any] = []
        for number in range(3):
            saves.append(run.save({"w": weight, "buffer": buffer}, step=number))
            # The buffer is not the optimizer's: it has been copied.
            buffer.add_(1.0)
            # The step is queued on the program's stream, behind the fence; the host does not wait for the device.
            optimizer.step(lambda: queued(device, lambda: weight.add_(1.0)))
            device.main.run()
        for number, save in enumerate(saves):
            save.result()
            loaded = run.load(number, device="cpu")
            assert bool((loaded["w"] == number).all()), number
            assert bool((loaded["buffer"] == number).all()), number


def test_without_the_fence_the_test_above_would_fail(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_device.Transfer, "fence", lambda self: None)
    # The copy waits in its stream: nobody asks for it before the step is through.
    held: list[Any] = []
    monkeypatch.setattr(_device.Transfer, "wait_all", lambda self: held.append(self))
    weight = fake(torch.zeros(1 << 20))
    optimizer = Optimizer([weight])
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(optimizer)
        transfer: Any = run.save({"w": weight}, step=0)._native.transfer  # pyright: ignore[reportOptionalMemberAccess]
        optimizer.step(lambda: queued(device, lambda: weight.add_(1.0)))
        device.main.run()
        for event, _, _ in transfer._guarded:
            event.synchronize()
        assert bool((device.blocks[-1].view(torch.float32) == 1).all()), "the copy saw the step"


def test_memory_of_a_device_is_not_handed_out_again_while_it_is_copied(device: Device) -> None:
    tensor = OnDevice(torch.arange(10.0), device)
    transfer = _device.Transfer([], [tensor])
    assert len(tensor.recorded) == 1
    host: Any = transfer.memory[0][0]
    assert not host.memory.any()
    transfer.wait_all()
    assert torch.equal(host.memory.view(torch.float32), torch.arange(10.0))


def test_a_kind_of_device_without_streams_is_copied_in_the_call(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_device, "streams_of", lambda kind: None)
    monkeypatch.setattr(_device, "_block", _BLOCK)
    transfer = _device.Transfer([torch.arange(4.0)], [torch.ones(2)])
    transfer.wait_now()
    transfer.wait_all()
    assert [each.tolist() for each, _ in transfer.memory] == [[0, 1, 2, 3], [1, 1]]


def test_checking_a_state_copies_nothing(device: Device) -> None:
    assert runtree.check({"w": fake(torch.zeros(1 << 20))}).bytes == 4 << 20
    assert not device.blocks
