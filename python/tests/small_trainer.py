"""A trainer without a framework, for tests of checkpoint blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import runtree
from runtree import Checkpointer

Start = Callable[..., runtree.Run]
PARTS = {"trainer": 1, "orchestrator": 1}


class Optimizer:
    """An object with a state dict."""

    def __init__(self) -> None:
        self.moment = np.zeros(3, "f4")
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"moment": self.moment, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moment, self.steps = state["moment"], state["steps"]


def fresh() -> dict[str, Any]:
    return {
        "model": {"w": np.zeros(4, "f4")}, "optimizer": Optimizer(), "scheduler": {"epoch": 0}, "dataloader": {"at": 0},
        "progress": {"step": 0, "total_samples": 0, "total_tokens": 0},
    }  # fmt: skip


def train(run: runtree.Run, state: dict[str, Any], first: int, last: int, checkpoints: Checkpointer) -> None:
    for step in range(first, last + 1):
        state["model"]["w"] += step
        state["optimizer"].steps += 1
        state["optimizer"].moment += 1
        state["scheduler"]["epoch"] = state["dataloader"]["at"] = step
        state["progress"].update(step=step, total_samples=step * 8, total_tokens=step * 100)
        run.log({"loss": 1.0 / step}, step=step)
        if checkpoints.should_save(step, is_last=step == last):
            checkpoints.save(step, state)


def trained(start: Start, config: Any, last: int = 10, run_id: str = "sft") -> runtree.Run:
    with start(run_id=run_id) as run:
        train(run, fresh(), 1, last, Checkpointer(run, config))
    return run


def steps(run: runtree.StoredRun) -> list[int]:
    return [each.step for each in run.checkpoints()]


def both(run: runtree.Run, config: Any) -> tuple[Checkpointer, Checkpointer]:
    return tuple(Checkpointer(run, config, component=each, parts=PARTS) for each in PARTS)  # type: ignore[return-value]
