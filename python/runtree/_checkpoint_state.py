"""A trainer's state: a dict with text keys, some of which a resume may leave out, and the parts that make a checkpoint of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from runtree.errors import Invalid, InvalidType

#: The parts of a state that a resume can leave out, and what programs call them.
SKIPPED = {
    "skip_progress": ("progress", "step", "total_samples", "total_tokens", "total_problems"),
    "skip_scheduler": ("scheduler", "schedulers", "lr_scheduler", "scheduler_state_dict", "sched"),
    "skip_dataloader": ("dataloader", "dataloaders", "data_loader", "train_dataloader", "train_source"),
    "skip_optimizer": ("optimizer", "optimizers", "optimizer_state_dict", "optim", "opt"),
}


def speaker(parts: Mapping[str, int]) -> str:
    """The component whose rank 0 speaks for the checkpoint as a whole."""
    return min(parts, key=lambda component: (component != "trainer", component))


def checked_parts(component: str, parts: Mapping[str, int] | None, world_size: int) -> dict[str, int]:
    """The ranks of each component of a checkpoint."""
    if parts is None:
        if component != "trainer":
            raise Invalid(
                f"component {component!r} alone is no checkpoint",
                hint=f"say what makes one: parts={{'trainer': 1, {component!r}: 1}}, the same in all processes",
            )
        return {component: world_size}
    if component not in parts:
        raise Invalid(f"component {component!r} is not one of parts {dict(parts)!r}", hint="add it, in all processes")
    return dict(parts)


def check_state(state: Any) -> None:
    """Refuses what is no dict with text keys."""
    if not isinstance(state, Mapping):
        raise InvalidType(f"a trainer's state is a dict, not a {type(state).__name__}", hint='{"model": model, …}')
    bad = [key for key in cast("Mapping[Any, Any]", state) if not isinstance(key, str) or not key]
    if bad:
        raise InvalidType(f"a trainer's state has text keys, not {bad[0]!r}", hint='{"model": model, …}')


def put_back(state: Mapping[str, Any], loaded: Any) -> None:
    """Values that are not restored in place (numbers, texts) go into the caller's dict."""
    for key, value in cast("dict[str, Any]", loaded).items():
        if state[key] is value:
            continue
        if not hasattr(state, "__setitem__"):
            raise InvalidType(f"{key!r} can not be put back: the state is a {type(state).__name__}", hint="pass a dict")
        cast("dict[str, Any]", state)[key] = value
