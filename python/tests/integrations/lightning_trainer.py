"""A small training with Lightning, to be killed and to go on: ``python lightning_trainer.py EPOCHS KILL_AT_STEP``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

import runtree
from runtree.integrations.lightning import connect, start_of

for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)

BATCHES = 3


class Data(lightning.LightningDataModule):
    """Rows that are shuffled every epoch."""

    def train_dataloader(self) -> Any:
        rows = torch.arange(BATCHES * 4 * 6, dtype=torch.float32).reshape(-1, 6) / 50
        return torch.utils.data.DataLoader(rows, batch_size=4, shuffle=True)

    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.ones(4, 6), batch_size=4)


class Model(lightning.LightningModule):
    """Dropout makes every step depend on the generators."""

    def __init__(self, lr: float = 0.1, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
        )
        self.rates: list[float] = []

    def training_step(self, batch: Any, index: int) -> Any:
        loss = self.net(batch).square().mean()
        self.log("loss", loss)
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        # Goes down, up, down: the best is neither the first nor the last.
        self.log("val_loss", float([3, 1, 2, 0.5, 4, 5][self.current_epoch % 6]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        return [optimizer], [
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5), "interval": "epoch"}
        ]


class Kill(Callback):
    """Kills the process in the middle of an epoch, when what was saved before is durable."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.strategy.checkpoint_io.teardown()
            trainer.logger.experiment.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def trainer_of(
    run: runtree.Run | None, epochs: int, *callbacks: Any, on_fork: str = "use-args", **keywords: Any
) -> Any:
    given = connect(run, on_fork=on_fork) if run is not None else {"logger": False}
    return lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        **{**given, **keywords, "callbacks": [*given.get("callbacks", []), *callbacks]},
    )  # fmt: skip


def fit(
    run: runtree.Run | None,
    epochs: int,
    *callbacks: Any,
    lr: float = 0.1,
    ckpt_path: Any = "start",
    seed: int = 0,
    is_broken: bool = False,
    **keywords: Any,
) -> tuple[Any, Model]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = Model(lr)
    trainer = trainer_of(run, epochs, *callbacks, **keywords)
    if ckpt_path == "start":
        ckpt_path = None if run is None else start_of(run)
    with warnings.catch_warnings():
        # What Lightning says of workers and of directories.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*workers.*")
        warnings.filterwarnings("ignore", message=".*dirpath has changed.*")
        # What runtree says is news.
        warnings.filterwarnings("always" if is_broken else "error", category=runtree.RuntreeWarning)
        trainer.fit(model, datamodule=Data(), ckpt_path=ckpt_path)
    return trainer, model


def state(trainer: Any, model: Any) -> dict[str, Any]:
    """Everything that makes the next step what it is."""
    return {
        "model": model.state_dict(), "optimizer": trainer.optimizers[0].state_dict(), "rng": torch.get_rng_state(),
        "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(), "step": trainer.global_step,
    }  # fmt: skip


def start(**keywords: Any) -> runtree.Run:
    return runtree.init("light", **{"console": False, "system_metrics": False, "environment": False, **keywords})


def every_epoch(**keywords: Any) -> ModelCheckpoint:
    return ModelCheckpoint(**{"save_top_k": -1, **keywords})


if __name__ == "__main__":
    Path("work").mkdir(exist_ok=True)
    fit(start(run_id="mlp", resume="allow"), int(sys.argv[1]), every_epoch(), Kill(int(sys.argv[2])))
