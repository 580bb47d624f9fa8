"""Lightning's ModelParallelStrategy, real FSDP2 over gloo: shards are one checkpoint, and come back on any number of ranks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import runtree

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(600)

HEAD = """
    import os, signal, sys, warnings
    warnings.simplefilter("ignore")
    sys.path.insert(0, {here!r})
    import torch, runtree
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint
    from runtree.integrations.lightning import RuntreeModelParallelStrategy, connect, start_of
    from accelerate_trainer import same
    from lightning_trainer import Data, Model, lightning
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    class Sharded(Model):
        def configure_model(self):
            if not getattr(self, "is_sharded", False):
                for layer in self.net:
                    if list(layer.parameters()):
                        fully_shard(layer, mesh=self.device_mesh["data_parallel"])
                self.is_sharded = True

    class Kill(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == {kill}:
                trainer.strategy._paths.settle(wait=True)
                dist.barrier()
                os.kill(os.getpid(), signal.SIGKILL)

    def fit(run, epochs, *callbacks, lr=0.1, seed=0, on_fork="use-args", start=None, strategy=None):
        torch.manual_seed(seed)
        model = Sharded(lr)
        given = connect(run, on_fork=on_fork)
        trainer = lightning.Trainer(
            accelerator="cpu", devices=world, max_epochs=epochs, enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=1, logger=given["logger"], callbacks=[*given["callbacks"], *callbacks],
            strategy=strategy or RuntreeModelParallelStrategy(run, data_parallel_size=world, tensor_parallel_size=1),
        )
        trainer.fit(model, datamodule=Data(), ckpt_path=start)
        return trainer, model

    def full(tensor):
        return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

    def state(trainer, model):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
        optimizer = get_optimizer_state_dict(model, trainer.optimizers[0])
        return {{
            "model": {{key: full(each) for key, each in model.state_dict().items()}},
            "moments": {{key: {{name: full(each) for name, each in of.items()}} for key, of in optimizer["state"].items()}},
            "lr": optimizer["param_groups"][0]["lr"], "step": trainer.global_step, "rng": torch.get_rng_state(),
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        }}

    def leave():
        # Without the interpreter's exit, which torch's gloo threads abort now and then.
        sys.stdout.flush()
        dist.barrier()
        os._exit(0)

    def start(**keywords):
        return runtree.init("light", **{{"console": False, "system_metrics": False, "environment": False, **keywords}})
"""

TRAIN = """
    run = start(run_id="fsdp")
    fit(run, 4, ModelCheckpoint(dirpath="shards", save_top_k=2, monitor="val_loss"), Kill())
"""

RESUME = """
    # Two ranks as if they had not been killed.
    whole = state(*fit(start(store="whole", run_id="whole"), 4, ModelCheckpoint(dirpath="whole-shards", save_top_k=0)))
    run = start(run_id="fsdp", resume="must")
    assert run.resumed_from.step == 6, run.resumed_from
    best = ModelCheckpoint(dirpath="shards", save_top_k=2, monitor="val_loss")
    resumed = fit(run, 4, best, seed=77, start=start_of(run))
    assert same(state(*resumed), whole), rank
    # The best two, and what this launch started from.
    assert {{each.step: len(each.parts) for each in run.checkpoints()}} == {{4: 2, 6: 2, 8: 2}}, run.checkpoints()
    assert run.checkpoint("best:val_loss:min").metrics["val_loss"] == 0.5
    assert best.best_model_path.endswith("step=8.ckpt")
    # By Lightning's own path, and a fork at another rate.
    trainer, model = fit(run, 5, seed=3, start=best.best_model_path)
    assert model.rates == [0.1 / 4] * 2, model.rates
    for on_fork, rates in (("use-args", [0.0025] * 2), ("keep", [0.025] * 2)):
        fork = start(run_id=on_fork, fork="fsdp@8")
        trainer, model = fit(fork, 5, ModelCheckpoint(dirpath=on_fork), lr=0.01, on_fork=on_fork, start=start_of(fork))
        assert model.rates == rates, (on_fork, model.rates)
    try:
        fit(run, 5, start="light/fsdp@7")
    except runtree.NotFound as error:
        print(f"rank {{rank}}: {{error.message}}", flush=True)
    leave()
"""

ALONE = """
    # One rank goes on from what two have saved.
    dist.init_process_group("gloo")
    fork = start(run_id="alone", fork="fsdp@8")
    trainer, model = fit(fork, 4, start=start_of(fork))
    mine = state(trainer, model)["model"]
    import torch.distributed.checkpoint as dcp
    from runtree.torch import StorageReader
    read = {{"state_dict": {{key: torch.zeros_like(each) for key, each in mine.items()}}}}
    dcp.load(read, storage_reader=StorageReader(fork.resumed_from, per_rank=0))
    assert same(read["state_dict"], mine)
    plain = runtree.Store().run("fsdp").load(8, per_rank=0)["state_dict"]
    assert same(dict(plain), mine)
    assert trainer.global_step == 8 and trainer.current_epoch == 4
    leave()
"""


def torchrun(
    tmp_path: Path, body: str, ranks: int, kill: int = -1, check: bool = True
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(HEAD.format(here=str(HERE), kill=kill)) + textwrap.dedent(body.format()))
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(script)],
        capture_output=True, text=True, timeout=550, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if check:
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return result


def test_killed_ranks_go_on_bit_for_bit_fork_and_are_loaded_by_another_number(tmp_path: Path) -> None:
    killed = torchrun(tmp_path, TRAIN, 2, kill=7, check=False)
    assert "SIGKILL" in killed.stderr, killed.stderr[-4000:]
    assert [each.step for each in runtree.Store().run("fsdp").checkpoints()] == [4, 6]
    resumed = torchrun(tmp_path, RESUME, 2)
    assert sum("has no checkpoint @7" in part for part in resumed.stdout.split("rank ")) == 2
    torchrun(tmp_path, ALONE, 1)
