"""A small training with accelerate, to be killed and to go on: ``python accelerate_trainer.py STEPS KILL_AT``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

import runtree
from runtree.integrations import accelerate as integration

SAVE_EVERY = 2


class Counter:
    """Something of the program's own that accelerate saves, too."""

    def __init__(self) -> None:
        self.seen = 0

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.seen = state["seen"]


class Training:
    """Model, optimizer, scheduler and data, prepared and registered."""

    def __init__(self, run: runtree.Run, lr: float = 0.1, seed: int = 0, **keywords: Any) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.accelerator = Accelerator(cpu=True)
        # Dropout makes every step depend on the generators.
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5)
        self.counter = Counter()
        self.accelerator.register_for_checkpointing(self.counter)
        self.model, self.optimizer, self.scheduler = self.accelerator.prepare(model, optimizer, scheduler)
        self.handle = integration.register(self.accelerator, run, **keywords)
        self.rates: list[float] = []
        self.step = 0

    def go_on(self) -> None:
        """From the checkpoint that the launch starts from, if there is one."""
        if self.handle.run.resumed_from is not None:
            self.accelerator.load_state()
            self.step = self.handle.run.resumed_from.step

    def train(self, steps: int, *, save: bool = True, kill_at: int | None = None) -> None:
        while self.step < steps:
            self.step += 1
            batch = torch.full((4, 6), float(self.step)) + self.accelerator.process_index
            self.optimizer.zero_grad()
            loss = self.model(batch).square().mean()
            self.accelerator.backward(loss)
            self.rates.append(self.optimizer.param_groups[0]["lr"])
            self.optimizer.step()
            self.scheduler.step()
            self.counter.seen += len(batch)
            self.accelerator.log({"loss": loss.item()}, step=self.step)
            if save and self.step % SAVE_EVERY == 0:
                self.accelerator.save_state()
            if self.step == kill_at:
                # What is durable is what counts.
                assert self.handle.saved is not None
                self.handle.saved.result()
                self.handle.run.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    def state(self) -> dict[str, Any]:
        """Everything that makes the next step what it is."""
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "seen": self.counter.seen,
            "scheduler": self.scheduler.state_dict(), "rng": torch.get_rng_state(),
        }  # fmt: skip


def same(left: Any, right: Any) -> bool:
    """Bit for bit."""
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray):
        return bool(np.array_equal(left, right))
    return bool(left == right)


def start(**keywords: Any) -> runtree.Run:
    return runtree.init("light", **{"console": False, "system_metrics": False, "environment": False, **keywords})


if __name__ == "__main__":
    training = Training(start(run_id="mlp", resume="allow"))
    training.go_on()
    training.train(int(sys.argv[1]), kill_at=int(sys.argv[2]))
