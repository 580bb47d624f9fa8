"""One of two ranks that write checkpoints as prime-rl's trainer and orchestrator do, with torch's own functions; and the same steps
by runtree's managers into the run ``math``. Run by ``prime_rl_runs.py``: ``prime_rl_writer.py OUTPUT_DIR``."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.fsdp import fully_shard

import runtree
from runtree.integrations.prime_rl import OrchestratorCheckpointManager, TrainerCheckpointManager


@dataclass
class Progress:
    step: int = 0
    total_tokens: int = 0
    total_samples: int = 0


class AppState:
    def __init__(self, model: Any, optimizer: Any, scheduler: Any, progress: Progress) -> None:
        self.parts = model, optimizer, scheduler, progress

    def state_dict(self) -> dict[str, Any]:
        model, optimizer, scheduler, progress = self.parts
        weights, moments = get_state_dict(model, [optimizer])
        state = {"scheduler": scheduler.state_dict(), "progress": asdict(progress)}
        return {"model": weights, "optimizers": moments, **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError


class Sampler:
    def __init__(self, row: int) -> None:
        self.row = row

    def state_dict(self) -> dict[str, Any]:
        return {"row": self.row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.row = state["row"]


def main(output_dir: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 3))
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    run = runtree.init("rl", run_id="math", console=False, system_metrics=False, environment=False)
    parts = {"trainer": 2, "orchestrator": 1}
    manager = TrainerCheckpointManager(output_dir, {"interval": 1}, run=run, parts=parts)
    orchestrator = OrchestratorCheckpointManager(output_dir, {"interval": 1}, run=run, parts=parts)
    for step in (1, 2):
        model(torch.ones(2, 8)).square().mean().backward()
        optimizer.step()
        scheduler.step()
        path = output_dir / "checkpoints" / f"step_{step}"
        progress = Progress(step, step * 100, step * 8)
        (path / "trainer" / "dataloader").mkdir(parents=True, exist_ok=True)
        torch.save({"row": step * 8 + rank}, path / "trainer" / "dataloader" / f"rank_{rank}.pt")
        dcp.save({"app": AppState(model, optimizer, scheduler, progress)}, checkpoint_id=path / "trainer")
        if rank == 0:
            place = path / "orchestrator"
            place.mkdir()
            handle, name = tempfile.mkstemp(dir=place, prefix="progress.pt.", suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                torch.save({"progress": progress, "train_source": {"epoch": 0, "cursor": step}}, file)
            os.replace(name, place / "progress.pt")
            orchestrator.save(progress, Sampler(step), step)
        manager.save(step, model, [optimizer], scheduler, progress, Sampler(step * 8 + rank))
        manager.mark_stable(step)
    run.finish()
    dist.barrier()
    # Without the interpreter's exit: torch's gloo threads abort it now and then.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
