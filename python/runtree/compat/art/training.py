"""What trains: a function that is given groups and an adapter, and writes the next adapter.

runtree keeps checkpoints, it does not train. ART's own trainer is a service with a GPU; any other, or a test's, is told once:

    @art.trainer
    def train(update):
        weights = load(update.current)                  # None at the very first step
        ...
        model.save_pretrained(update.target)
        return {"loss": loss}
"""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from runtree.compat.art import adapters
from runtree.compat.art.trajectories import TrajectoryGroup
from runtree.errors import Invalid, InvalidType, Unsupported

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.compat.art.model import TrainableModel


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained, as far as all trainers understand it.

    Args:
        learning_rate: The rate of the optimizer.
        beta: The weight of the divergence from the base model.
        kl_penalty_coef: The weight of a penalty of the reward.
        kl_penalty_reference_step: The checkpoint that the penalty compares with; pin it, and no deletion takes it.
    """

    learning_rate: float = 5e-6
    beta: float = 0.0
    kl_penalty_coef: float = 0.0
    kl_penalty_reference_step: int | None = None


@dataclass(frozen=True)
class Update:
    """One update of a model: what a trainer is given."""

    model: TrainableModel
    groups: list[TrajectoryGroup]
    config: TrainConfig
    step: int
    """The step that the new checkpoint has."""
    current: Path | None
    """The adapter to go on from, read-only; None if there is none yet."""
    target: Path
    """An empty directory, for the next adapter."""

    def skip(self) -> None:
        """Leaves the adapter as it is, as where all rewards are equal: the new checkpoint has the same bytes, and takes none.

        Raises:
            Invalid: There is no adapter yet.
        """
        if self.current is None:
            raise Invalid("the first update can not be skipped: there is no adapter yet")
        shutil.copytree(self.current, self.target, symlinks=True, dirs_exist_ok=True)
        for path in (self.target, *self.target.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)


Metrics: TypeAlias = "Mapping[str, float] | None"
#: Writes the next adapter into ``update.target``; returns metrics of the update, or nothing. A plain function runs on a thread.
Trainer: TypeAlias = "Callable[[Update], Metrics | Awaitable[Metrics]]"


@dataclass(frozen=True)
class TrainResult:
    """What an update came to."""

    step: int
    metrics: dict[str, float]
    checkpoint: Checkpoint


_default: list[Trainer] = []


def trainer(function: Trainer | None) -> Any:
    """Sets what trains every model whose backend was given no trainer of its own (also a decorator); None takes it away."""
    if function is not None and not callable(function):
        raise InvalidType(f"a trainer is a function of one Update, not a {type(function).__name__}")
    _default[:] = [] if function is None else [function]
    return function


def find_trainer(own: Trainer | None) -> Trainer:
    """A backend's own trainer, else the one of all.

    Raises:
        Unsupported: There is none.
    """
    found = own if own is not None else next(iter(_default), None)
    if found is None:
        raise Unsupported(
            "nothing is here that trains: runtree keeps checkpoints, and is told what makes them",
            hint="LocalBackend(trainer=function) or @art.trainer; the function writes the next adapter to update.target",
        )
    return found


async def run_trainer(function: Trainer, update: Update) -> dict[str, float]:
    """Calls a trainer, and looks at what it wrote.

    Raises:
        Invalid: It wrote no whole adapter.
        InvalidType: It returned something else than metrics.
    """
    if inspect.iscoroutinefunction(function):
        told = await function(update)
    else:
        told = await asyncio.to_thread(function, update)
        if inspect.isawaitable(told):
            told = await told
    problem = adapters.find_problem(update.target)
    if problem is not None:
        raise Invalid(
            f"the trainer left no whole adapter for step {update.step}: {problem}",
            hint="model.save_pretrained(update.target), or update.skip() to leave the adapter as it is",
        )
    if told is not None and not isinstance(told, Mapping):
        raise InvalidType(f"a trainer returns metrics or None, not a {type(told).__name__}")
    metrics = cast("Mapping[str, float]", told or {})
    return {name: float(value) for name, value in metrics.items()}
