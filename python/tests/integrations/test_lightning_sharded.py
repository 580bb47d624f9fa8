"""Lightning on several ranks, real FSDP2 and DDP over gloo: shards are one checkpoint, and come back on any number of ranks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtree

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
SCRIPT = Path(__file__).parent / "sharded_trainer.py"
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    # Lightning uses what newer torch warns of; and what it says of workers and of directories.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning.*"),
]


def launch(*command: str) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=250)
    finally:
        # A rank whose leader is gone waits for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def torchrun(mode: str) -> subprocess.CompletedProcess[str]:
    return launch("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT), mode)


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_killed_ranks_go_on_bit_for_bit_fork_and_are_loaded_by_another_number(one_rank: None) -> None:
    import torch.distributed.checkpoint as dcp

    from runtree.torch import StorageReader

    from .sharded_trainer import fit, same, start, start_of, state

    killed = torchrun("train")
    assert "SIGKILL" in killed.stderr, killed.stderr[-4000:]
    assert [each.step for each in runtree.Store().run("fsdp").checkpoints()] == [4, 6]
    resumed = torchrun("resume")
    assert resumed.returncode == 0, resumed.stdout[-2000:] + resumed.stderr[-6000:]
    # An error of the first rank is one of both: nobody waits for the other.
    assert resumed.stdout.count("has no checkpoint @7") == 2
    # This process alone goes on from what two have saved.
    fork = start(run_id="alone", fork="fsdp@8")
    trainer, model = fit(fork, 4, ckpt_path=start_of(fork))
    assert (trainer.global_step, trainer.current_epoch) == (8, 4)
    mine = state(trainer, model)["model"]
    read: dict[str, Any] = {"state_dict": {key: torch.zeros_like(each) for key, each in mine.items()}}
    dcp.load(read, storage_reader=StorageReader(fork.resumed_from, per_rank=0))
    assert same(read["state_dict"], mine)
    assert same(dict(fork.load("fsdp@8", per_rank=0)["state_dict"]), mine)


def test_ranks_that_lightning_starts_itself_are_one_run() -> None:
    launched = launch(str(SCRIPT), "own")
    assert launched.returncode == 0, launched.stderr[-4000:]
    [run] = runtree.Store().runs()
    assert (run.key, run.status, run.attempt) == ("x", "completed", 1)
    assert [(each.step, len(each.parts)) for each in run.checkpoints()] == [(2, 1)]
