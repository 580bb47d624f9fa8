"""Small trainings of several ranks with Lightning, to be killed and to go on: ``torchrun sharded_trainer.py train|resume|own``."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.fsdp import fully_shard

sys.path.insert(0, str(Path(__file__).parent))

from accelerate_trainer import same
from lightning_trainer import Data, Model, lightning, start

import runtree
from runtree.integrations.lightning import RuntreeModelParallelStrategy, connect, start_of


class Sharded(Model):
    def configure_model(self) -> None:
        if not hasattr(self, "is_sharded"):
            for layer in self.net:
                if list(layer.parameters()):
                    fully_shard(layer, mesh=self.device_mesh["data_parallel"])  # type: ignore[index]
            self.is_sharded = True


class Kill(Callback):
    """Kills every rank at a step, when what was saved before is durable."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 7:
            trainer.strategy.paths.settle(wait=True)
            dist.barrier()
            os.kill(os.getpid(), signal.SIGKILL)


def trainer_of(given: dict[str, Any], epochs: int, *callbacks: Any, ranks: int, strategy: Any) -> Any:
    return lightning.Trainer(
        accelerator="cpu", devices=ranks, strategy=strategy, max_epochs=epochs, enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, **{**given, "callbacks": [*given["callbacks"], *callbacks]},
    )  # fmt: skip


def fit(
    run: runtree.Run,
    epochs: int,
    *callbacks: Any,
    lr: float = 0.1,
    seed: int = 0,
    on_fork: str = "use-args",
    ckpt_path: Any = None,
) -> tuple[Any, Sharded]:
    torch.manual_seed(seed)
    model = Sharded(lr)
    ranks = dist.get_world_size() if dist.is_initialized() else int(os.environ["WORLD_SIZE"])
    given = connect(run, on_fork=on_fork)
    strategy = RuntreeModelParallelStrategy(run, data_parallel_size=ranks, tensor_parallel_size=1)
    trainer = trainer_of(given, epochs, *callbacks, ranks=ranks, strategy=strategy)
    trainer.fit(model, datamodule=Data(), ckpt_path=ckpt_path)
    return trainer, model


def full(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def state(trainer: Any, model: Any) -> dict[str, Any]:
    """Everything that makes the next step what it is."""
    optimizer = get_optimizer_state_dict(model, trainer.optimizers[0])
    return {
        "model": {key: full(each) for key, each in model.state_dict().items()}, "step": trainer.global_step,
        "moments": {key: {name: full(each) for name, each in of.items()} for key, of in optimizer["state"].items()},
        "lr": optimizer["param_groups"][0]["lr"], "rng": torch.get_rng_state(),
        "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
    }  # fmt: skip


def resume(rank: int, ranks: int) -> None:
    # Two ranks as if they had not been killed.
    whole = state(*fit(start(store="whole", run_id="whole"), 4, ModelCheckpoint(dirpath="whole-shards", save_top_k=0)))
    run = start(run_id="fsdp", resume="must")
    assert run.resumed_from is not None
    assert run.resumed_from.step == 6
    best = ModelCheckpoint(dirpath="shards", save_top_k=2, monitor="val_loss")
    assert same(state(*fit(run, 4, best, seed=77, ckpt_path=start_of(run))), whole), rank
    # The best two, and what this launch started from.
    assert {each.step: len(each.parts) for each in run.checkpoints()} == {4: 2, 6: 2, 8: 2}, run.checkpoints()
    assert run.checkpoint("best:val_loss:min").metrics["val_loss"] == 0.5
    assert best.best_model_path.endswith("step=8.ckpt")
    # By Lightning's own path, and a fork at another rate.
    assert fit(run, 5, seed=3, ckpt_path=best.best_model_path)[1].rates == [0.1 / 4] * 2
    for on_fork, rate in (("use-args", 0.0025), ("keep", 0.025)):
        fork = start(run_id=on_fork, fork="fsdp@8")
        trained = fit(fork, 5, ModelCheckpoint(dirpath=on_fork), lr=0.01, on_fork=on_fork, ckpt_path=start_of(fork))
        assert trained[1].rates == [rate] * 2, (on_fork, trained[1].rates)
    # Replicas, with a CheckpointIO: one part, by rank 0, and the generators of both ranks in it.
    replicas = start(run_id="ddp")

    def replicate(ckpt_path: Any, seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        keep = ModelCheckpoint(dirpath="replicas", save_top_k=-1)
        trainer = trainer_of(connect(replicas), 3, keep, ranks=ranks, strategy="ddp")
        trainer.fit(Model(0.1), datamodule=Data(), ckpt_path=ckpt_path)
        return {"weights": trainer.lightning_module.state_dict(), "rng": torch.get_rng_state()}

    first = replicate(None, rank)
    dist.barrier()
    assert [(each.step, len(each.parts)) for each in replicas.checkpoints()] == [(2, 1), (4, 1), (6, 1)]
    assert same(replicate(f"{replicas.display_id}@4", 40 + rank), first), rank
    try:
        fit(run, 5, ckpt_path="light/fsdp@7")
    except runtree.NotFound as error:
        print(f"rank {rank}: {error.message}", flush=True)


def own() -> None:
    """Ranks that Lightning starts by itself find one run when the trainer starts."""
    given = connect(project="own", run_id="x", resume="allow", console=False, system_metrics=False, environment=False)
    trainer = trainer_of(given, 1, ranks=2, strategy="ddp")
    trainer.fit(Model(0.1), datamodule=Data())
    given["logger"].experiment.finish()


def leave() -> None:
    """Without the interpreter's exit, which torch's gloo threads abort now and then."""
    sys.stdout.flush()
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if sys.argv[1] == "own":
        own()
    elif sys.argv[1] == "train":
        fit(start(run_id="fsdp"), 4, ModelCheckpoint(dirpath="shards", save_top_k=2, monitor="val_loss"), Kill())
    else:
        resume(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    leave()
