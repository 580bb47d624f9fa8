"""Saves that do not wait for their own copy: it is made beside the next forward and backward pass, and the step waits for it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from runtree import _native
from runtree.errors import InvalidType


class Guard:
    """What :meth:`Run.guard` returns. A context manager: at its end it waits, and guards no longer.

    While it is there, ``run.save`` returns before the guarded memory is copied, and :meth:`wait` returns when it has been. With an
    optimizer that is its parameters and its state, and its ``step`` and ``load_state_dict`` wait by themselves; without one, all
    memory in the state.
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
        while self._saves:
            # Forgotten only afterwards: who is interrupted here (Ctrl-C, a signal's handler) and steps again waits again.
            _wait_and_forget(self._saves)

    def remove(self) -> None:
        """Waits, and guards no longer."""
        self._forget(self)
        self.wait()
        self._retire()

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _before(self, *_: Any) -> None:
        self.wait()

    def _retire(self) -> None:
        """Takes no more saves. If memory of one is still being read the hooks stay, whoever gave up waiting for that save.

        They stay for good then: hooks can not be removed by a hook, as the optimizer is walking through them.
        """
        self._drop_staged()
        if not self._saves:
            for hook in self._hooks:
                hook.remove()
            self._hooks.clear()

    def _tensors(self) -> list[Any] | None:
        return None if self._optimizer is None else _tensors(self._optimizer)

    def _add(self, save: _native.PendingSave) -> None:
        # A loop that saves and never steps must not collect them all.
        self._drop_staged()
        self._saves.append(save)

    def _drop_staged(self) -> None:
        # What is staged has arrived from its device, too.
        self._saves = [each for each in self._saves if not each.wait_staged(0)]


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
        if not self._all:
            return None
        tensors: list[Any] = []
        for guard in self._all:
            found = guard._tensors()  # pyright: ignore[reportPrivateUsage]
            if found is None:
                return _native.GuardedMemory(None)
            tensors += found
        return _native.GuardedMemory.of_tensors(tensors)

    def note(self, save: _native.PendingSave) -> None:
        """Tells every guard of a save: the first whose optimizer steps waits for all of it."""
        if self._all and (save.reads_on or save.transfer is not None):
            _unstaged[:] = [each for each in _unstaged if not each.wait_staged(0)]
            _unstaged.append(save)
            for guard in self._all:
                guard._add(save)  # pyright: ignore[reportPrivateUsage]

    def close(self) -> None:
        """Guards no longer, but for what is still being read: a finish with a deadline may not wait for it."""
        for guard in self._all:
            guard._retire()  # pyright: ignore[reportPrivateUsage]
        self._all.clear()

    def _remove(self, guard: Guard) -> None:
        if guard in self._all:
            self._all.remove(guard)


_unstaged: list[_native.PendingSave] = []
"""Saves of this process whose guarded memory may still be read."""


def wait_all() -> None:
    """Waits until no guarded memory of this process is read any more: before something is loaded into it."""
    while _unstaged:
        _wait_and_forget(_unstaged)


def _wait_and_forget(saves: list[_native.PendingSave]) -> None:
    """Waits for one of them. Another thread may be waiting for the same one, and has then forgotten it."""
    try:
        save = saves[0]
    except IndexError:
        return
    _wait(save)
    with contextlib.suppress(ValueError):
        saves.remove(save)


def _wait(save: _native.PendingSave) -> None:
    if save.transfer is not None:
        save.transfer.fence()
    if save.reads_on:
        save.wait_staged()


def _tensors(optimizer: Any) -> list[Any]:
    """The parameters and the state of an optimizer. Looked up at each save: state is made by the first step, and memory may move."""
    tensor: Any = sys.modules["torch"].Tensor
    found: list[Any] = []
    pending: list[Any] = [group["params"] for group in optimizer.param_groups]
    # Not each of its values: some are numbers.
    pending.append(list(optimizer.state.values()))
    while pending:
        for value in _values(pending.pop()):
            if isinstance(value, tensor):
                # A DTensor is what it is on this rank.
                found.append(value.to_local() if hasattr(value, "placements") else value)
            elif isinstance(value, (Mapping, list, tuple)):
                pending.append(value)
    return found


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
