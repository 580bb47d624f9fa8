"""``runtree.check(state)``: what could be saved, before anything is written."""

from __future__ import annotations

from typing import Any, NamedTuple

from runtree import _native


class StateCheck(NamedTuple):
    """What a state holds, and what of it can not be saved."""

    bytes: int
    tensors: int
    problems: list[tuple[str, str]]

    @property
    def ok(self) -> bool:
        """Whether all of it can be saved."""
        return not self.problems

    def __str__(self) -> str:
        head = f"{self.tensors} tensors, {self.bytes:,} bytes"
        if self.ok:
            return f"{head}: can be saved"
        return "\n".join([f"{head}: can not be saved", *(f"  {path} {reason}" for path, reason in self.problems)])


def check(state: Any) -> StateCheck:
    """Walks a state as ``save`` would, and reports every leaf that is not supported, and the size."""
    size, tensors, problems = _native.check_state(state)
    return StateCheck(size, tensors, problems)
