"""Trajectories, groups of them, and gathering groups: what a model did, and what it was worth.

``TrajectoryGroup(rollout(model, scenario) for _ in range(8))`` takes coroutines; awaiting it runs them beside each other.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from runtree.errors import Invalid, InvalidType


@dataclass
class Trajectory:
    """One attempt of a model at something.

    Args:
        reward: What it was worth.
        metrics: Other numbers, by name; bools count as 0 and 1.
        messages_and_choices: The conversation, as the trainer understands it.
        metadata: Facts about it.
    """

    reward: float
    metrics: dict[str, float | int | bool] = field(default_factory=dict[str, "float | int | bool"])
    messages_and_choices: list[Any] = field(default_factory=list[Any])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    tools: list[Any] | None = None
    logs: list[str] = field(default_factory=list[str])


class TrajectoryGroup:
    """Trajectories of one scenario, whose rewards are compared with each other.

    Of coroutines, it has its trajectories once it was awaited; what they raised is in :attr:`exceptions`.
    """

    def __init__(
        self,
        trajectories: Iterable[Trajectory | BaseException | Awaitable[Trajectory]] = (),
        *,
        exceptions: Iterable[BaseException] = (),
    ) -> None:
        self.trajectories: list[Trajectory] = []
        self.exceptions: list[BaseException] = list(exceptions)
        self._waiting: list[Awaitable[Trajectory]] = []
        for each in trajectories:
            if isinstance(each, Trajectory):
                self.trajectories.append(each)
            elif isinstance(each, BaseException):
                self.exceptions.append(each)
            elif isinstance(each, Awaitable):  # pyright: ignore[reportUnnecessaryIsInstance]
                self._waiting.append(each)
            else:
                raise InvalidType(
                    f"a group has trajectories or what they are awaited from, not a {type(each).__name__}"
                )

    def __await__(self) -> Generator[Any, None, TrajectoryGroup]:
        return self._gather().__await__()

    async def _gather(self) -> TrajectoryGroup:
        waiting, self._waiting = self._waiting, []
        for answer in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(answer, Trajectory):
                self.trajectories.append(answer)
            elif isinstance(answer, BaseException):  # pyright: ignore[reportUnnecessaryIsInstance]
                self.exceptions.append(answer)
            else:
                raise InvalidType(f"a rollout returned a {type(answer).__name__}, not a Trajectory")
        return self

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self.trajectories)

    def __len__(self) -> int:
        return len(self.trajectories)


async def gather_trajectory_groups(
    groups: Iterable[TrajectoryGroup | Awaitable[TrajectoryGroup]],
    *,
    pbar_desc: str | None = "gather",
    max_exceptions: int | float = 0,
    after_each: Callable[[TrajectoryGroup], Awaitable[TrajectoryGroup | None]] | None = None,
) -> list[TrajectoryGroup]:
    """Awaits groups beside each other; returns those that have trajectories, in order.

    Args:
        groups: Groups, or coroutines that return one.
        pbar_desc: What is shown on a terminal while it goes on; None: nothing.
        max_exceptions: How many rollouts may fail, or which part of them (below 1), before their first exception is raised.
        after_each: Called with each group as it is done; what it returns takes its place, None removes it.

    Raises:
        BaseException: The first that a rollout raised, if more failed than may.
    """
    waiting = list(groups)
    done = 0

    async def one(group: TrajectoryGroup | Awaitable[TrajectoryGroup]) -> TrajectoryGroup | None:
        nonlocal done
        found = await group
        # A group's own coroutines count, also where a coroutine made the group.
        found = await found
        result = found if after_each is None else await after_each(found)
        done += 1
        _show(pbar_desc, done, len(waiting))
        return result

    gathered = [each for each in await asyncio.gather(*(one(group) for group in waiting)) if each is not None]
    failed = [error for group in gathered for error in group.exceptions]
    total = len(failed) + sum(len(group) for group in gathered)
    allowed = max_exceptions * total if 0 < max_exceptions < 1 else max_exceptions
    if len(failed) > allowed:
        raise failed[0]
    return [group for group in gathered if len(group)]


def _show(what: str | None, done: int, total: int) -> None:
    if what is not None and sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{what}: {done}/{total}", end=end, file=sys.stderr, flush=True)


def as_groups(trajectories: Iterable[Any]) -> list[TrajectoryGroup]:
    """Groups, from groups or from trajectories, each of which is then one of its own."""
    found: list[TrajectoryGroup] = []
    for each in trajectories:
        group = each if isinstance(each, TrajectoryGroup) else TrajectoryGroup([each])
        if group._waiting:  # pyright: ignore[reportPrivateUsage]
            raise Invalid("a group was not awaited", hint="groups = await art.gather_trajectory_groups(groups)")
        found.append(group)
    return found


def averages(groups: Iterable[TrajectoryGroup]) -> dict[str, float]:
    """What groups come to: means of ``reward`` and of every metric over the trajectories that have it, ``reward_std_dev`` (mean of
    the groups' standard deviations) and ``exception_rate``."""
    groups = list(groups)
    values: dict[str, list[float]] = {}
    for trajectory in (each for group in groups for each in group):
        for name, value in {"reward": trajectory.reward, **trajectory.metrics}.items():
            values.setdefault(name, []).append(float(value))
    found = {name: statistics.fmean(each) for name, each in values.items()}
    spread = [_deviation([each.reward for each in group]) for group in groups if len(group)]
    if spread:
        found["reward_std_dev"] = statistics.fmean(spread)
    failed = sum(len(group.exceptions) for group in groups)
    total = failed + sum(len(group) for group in groups)
    if total:
        found["exception_rate"] = failed / total
    return found


def _deviation(rewards: list[float]) -> float:
    # `pstdev` raises where a reward is no number; then the spread is none, either.
    return statistics.pstdev(rewards) if all(math.isfinite(each) for each in rewards) else math.nan
