"""Saves that do not wait for their own copy: it is made beside the next forward and backward pass, and the optimizer's step waits for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from runtree import _native
from runtree.errors import InvalidType


class Guard:
    """What :meth:`Run.guard` returns. A context manager: at its end it waits, and guards no longer.

    While it is there, ``run.save`` returns before the guarded memory is copied, and :meth:`wait` returns when it has been. With an optimizer
    that is its parameters and its state, and its ``step`` and ``load_state_dict`` wait by themselves; without one, all memory in the state.
    """

    def __init__(self, optimizer: Any, forget: Callable[[Guard], None]) -> None:
        self._optimizer = optimizer
        self._forget = forget
        self._saves: list[_native.PendingSave] = []
        self._hooks: list[Any] = []
        if optimizer is None:
            return
        register: Any = getattr(optimizer, "register_step_pre_hook", None)
        if register is None or not hasattr(optimizer, "param_groups"):
            raise InvalidType(
                f"{type(optimizer).__name__} has no register_step_pre_hook: only an optimizer of torch can make its step wait",
                hint="with run.guard(): run.save(state); …  # leave the block before anything in the state changes",
            )
        self._hooks.append(register(self._before))
        load_hook: Any = getattr(optimizer, "register_load_state_dict_pre_hook", None)
        if load_hook is not None:
            self._hooks.append(load_hook(self._before))

    def wait(self) -> None:
        """Waits until everything saved under it is copied. A device's own stream waits for its tensors; the host does not."""
        saves, self._saves = self._saves, []
        for save in saves:
            if save.transfer is not None:
                save.transfer.fence()
            if save.reads_on:
                save.wait_staged()

    def remove(self) -> None:
        """Waits, and guards no longer."""
        self._unhook()
        self._forget(self)
        self.wait()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _before(self, *_: Any) -> None:
        self.wait()

    def _ranges(self) -> Iterator[tuple[int, int]] | None:
        return None if self._optimizer is None else _ranges(self._optimizer)

    def _add(self, save: _native.PendingSave) -> None:
        # A loop that saves and never steps must not collect them all.
        self._saves = [each for each in self._saves if each.transfer is not None or not each.wait_staged(0)]
        self._saves.append(save)


class Guards:
    """All guards of a run."""

    def __init__(self) -> None:
        self._all: list[Guard] = []

    def add(self, optimizer: Any) -> Guard:
        guard = Guard(optimizer, self._remove)
        self._all.append(guard)
        return guard

    def memory(self) -> _native.GuardedMemory | None:
        """What is guarded; None if nothing is."""
        ranges: list[tuple[int, int]] = []
        for guard in self._all:
            found = guard._ranges()  # pyright: ignore[reportPrivateUsage]
            if found is None:
                return _native.GuardedMemory(None)
            ranges.extend(found)
        return _native.GuardedMemory(ranges) if ranges else None

    def note(self, save: _native.PendingSave) -> None:
        """Tells every guard of a save: the first whose optimizer steps waits for all of it."""
        if save.reads_on or save.transfer is not None:
            for guard in self._all:
                guard._add(save)  # pyright: ignore[reportPrivateUsage]

    def wait(self) -> None:
        """Waits until all that is guarded may be changed."""
        for guard in self._all:
            guard.wait()

    def close(self) -> None:
        """Guards no longer; who closes waits for the saves themselves."""
        for guard in self._all:
            guard._unhook()  # pyright: ignore[reportPrivateUsage]
        self._all.clear()

    def _remove(self, guard: Guard) -> None:
        if guard in self._all:
            self._all.remove(guard)


def _ranges(optimizer: Any) -> Iterator[tuple[int, int]]:
    """Where the parameters and the state of an optimizer lie. Looked up at each save: state is made by the first step, and memory may move."""
    tensor: Any = sys.modules["torch"].Tensor
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield from _range(parameter)
    pending: list[Any] = list(optimizer.state.values())
    while pending:
        value = pending.pop()
        if isinstance(value, tensor):
            yield from _range(value)
        elif isinstance(value, Mapping):
            pending.extend(value.values())  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        elif isinstance(value, (list, tuple)):
            pending.extend(value)  # pyright: ignore[reportUnknownArgumentType]


def _range(tensor: Any) -> Iterator[tuple[int, int]]:
    if hasattr(tensor, "placements") and hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    # What has no address (a sparse tensor, one on no device) is copied at once, like everything that is not guarded.
    with contextlib.suppress(RuntimeError, NotImplementedError):
        yield tensor.data_ptr(), tensor.numel() * tensor.element_size()
