"""Several processes, one run: DDP, FSDP2, and no process group at all."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree import _launch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(300)


def torchrun(
    tmp_path: Path,
    body: str,
    ranks: int = 4,
    check: bool = True,
    rendezvous: tuple[str, ...] = ("--standalone",),
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, warnings\nwarnings.simplefilter('ignore')\nimport torch, runtree\n" + textwrap.dedent(body)
    )
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *rendezvous, f"--nproc-per-node={ranks}", str(script)],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    if check:
        assert result.returncode == 0, result.stderr[-5000:]
    return result


def only_run() -> runtree.StoredRun:
    [run] = runtree.Store().runs()
    return run


DDP = """
    import torch.distributed as dist
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    run = runtree.init(name="ddp", console=False, system_metrics=False)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        optimizer.zero_grad()
        model(torch.full((2, 3), float(rank))).sum().backward()
        optimizer.step()
        run.log({"loss": step + rank})
    if rank == 0:
        run.save({"model": model.module, "optimizer": optimizer, "step": step}).result()
    dist.barrier()
    weight = model.module.weight.clone()
    state = run.load(into={"model": model.module, "optimizer": optimizer})
    assert state["step"] == 2 and torch.equal(weight, model.module.weight)
    run.finish()
    dist.destroy_process_group()
"""


def test_ddp_is_one_run_one_attempt_one_checkpoint(tmp_path: Path) -> None:
    torchrun(tmp_path, DDP)
    run = only_run()
    assert (run.name, run.attempt, run.status) == ("ddp", 1, "completed")
    assert run.history("loss").values.tolist() == [0, 1, 2]
    [checkpoint] = run.checkpoints()
    assert len(checkpoint.parts) == 1


FSDP = """
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    key = {"run_id": "fsdp", "resume": "allow"}
    run = runtree.init(name="fsdp", console=False, system_metrics=False, **key)

    def make(seed):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 3, bias=False))
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def train(model, optimizer, steps):
        losses = []
        for step in range(steps):
            optimizer.zero_grad()
            loss = model(torch.full((2, 5), 1.0 + step)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        return losses

    model, optimizer = make(0)
    train(model, optimizer, 3)
    saved = run.save({"model": model, "optimizer": optimizer, "rng": runtree.rng()}, step=3).result()
    assert saved.step == 3
    expected = train(model, optimizer, 3)
    other, other_optimizer = make(1)
    run.load(into={"model": other, "optimizer": other_optimizer})
    assert train(other, other_optimizer, 3) == expected
    for mine, theirs in zip(model.parameters(), other.parameters()):
        assert torch.equal(mine.to_local(), theirs.to_local())
    run.finish()
    dist.destroy_process_group()
"""


def test_fsdp_saves_a_shard_per_rank_and_continues_exactly(tmp_path: Path) -> None:
    torchrun(tmp_path, FSDP)
    run = only_run()
    assert run.attempt == 1
    [checkpoint] = run.checkpoints()
    assert [(part["component"], part["rank"], part["present"]) for part in checkpoint.parts] == [
        ("trainer", rank, True) for rank in range(4)
    ]
    shards = [tensor for tensor in checkpoint.tensors() if tensor["name"] == "model.0.weight"]
    assert {tuple(shard["global_shape"]) for shard in shards} == {(7, 5)}
    assert sum(shard["shape"][0] for shard in shards) == 7
    # Another world size: see test_sharded_load.py.
    with pytest.raises(runtree.Invalid, match="saved by 4 ranks, and they differ in `rng`"):
        run.load()
    resumed = runtree.init(run.project, run_id="fsdp", resume="must", console=False, system_metrics=False)
    assert resumed.load(keys="model*")["model"]["0.weight"].shape == (7, 5)


def test_torchrun_without_a_process_group_is_one_run(tmp_path: Path) -> None:
    body = """
        run = runtree.init(name="plain", log_ranks="all", console=False, system_metrics=False)
        run.log({"loss": run.rank})
        run.finish()
    """
    torchrun(tmp_path, body)
    run = only_run()
    assert run.attempt == 1
    assert len(run.metrics) == 4
    assert {series.values[0] for series in run.history().values()} == {0, 1, 2, 3}


def test_a_second_rank_that_saves_the_same_is_told_what_to_do(tmp_path: Path) -> None:
    body = """
        import torch.distributed as dist
        dist.init_process_group("gloo")
        run = runtree.init(name="both", console=False, system_metrics=False)
        pending = None
        error = None
        try:
            run.save({"w": dist.get_rank()}, step=0).result()
        except runtree.Error as refused:
            error = str(refused)
        print("told:", error, flush=True)
        dist.barrier()
        os._exit(0)
    """
    result = torchrun(tmp_path, body, ranks=2)
    told = sorted(line for line in result.stdout.splitlines() if "told:" in line or "hint:" in line)
    assert [line for line in told if "told: None" in line] == ["told: None"], result.stdout + result.stderr
    assert any("save on rank 0 only, or pass sharded=True" in line for line in told), told
    assert len(only_run().checkpoints()) == 1


def test_a_rank_that_dies_leaves_no_checkpoint(tmp_path: Path) -> None:
    body = """
        import torch.distributed as dist
        dist.init_process_group("gloo")
        run = runtree.init(name="dying", console=False, system_metrics=False)
        if dist.get_rank() == 1:
            os._exit(9)
        run.save({"w": torch.ones(3)}, step=0, sharded=True)
        import time; time.sleep(2)
    """
    assert torchrun(tmp_path, body, ranks=2, check=False).returncode != 0
    assert only_run().checkpoints() == []


def test_the_same_command_under_the_same_rendezvous_id_resumes(tmp_path: Path) -> None:
    body = """
        import torch.distributed as dist
        dist.init_process_group("gloo")
        run = runtree.init(name="again", run_id="again", resume="allow", console=False, system_metrics=False)
        start = run.next_step
        for step in range(start, start + 3):
            run.log({"loss": step})
            run.save({"w": torch.full((3,), float(step))}, step=step, sharded=True).result()
        assert float(run.load()["w"][0]) == start + 2
        if dist.get_rank() == 1:
            os._exit(9)  # nobody says goodbye
    """
    again = ("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=7")
    for launch in (1, 2):
        torchrun(tmp_path, body, ranks=2, check=False, rendezvous=again)
        run = only_run()
        assert run.attempt == launch
        assert [checkpoint.step for checkpoint in run.checkpoints()] == list(range(3 * launch))
    assert run.history("loss").values.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_process_that_lightning_started_is_no_run_of_its_own() -> None:
    started = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    assert _launch.detect(started)[:2] == (1, 2)
    # It has to be told which run it is of: by name, or by ranks that know each other.
    with pytest.raises(runtree.errors.Invalid, match="rank 1 of 2, and nothing says which run"):
        _launch.agree(_launch.detect(started), None, lambda *told: (told, "x"))


def test_ranks_that_nothing_connects_are_refused() -> None:
    launch = _launch.detect({"RANK": "1", "WORLD_SIZE": "4"})
    assert launch == (1, 4, None, False, None)

    def never(*_: Any) -> Any:
        raise AssertionError("must not start")

    with pytest.raises(ValueError, match="nothing says which run the ranks share"):
        _launch.agree(launch, None, never)


def test_slurm_steps_meet_by_their_job() -> None:
    environment = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "4"}
    launch = _launch.detect(environment)
    assert launch[:4] == (2, 4, "slurm-77.0-0", True)
    assert _launch.detect({**environment, "RUNTREE_ATTEMPT": "mine"})[2:4] == ("mine", False)
    assert _launch.agree(launch, None, lambda told, key, run_key: ((told, key, run_key), ""))[1] == "slurm-77.0-0"
    # A batch script sees its job, but is no step of it.
    del environment["SLURM_STEP_ID"]
    assert _launch.detect(environment)[:2] == (0, 1)


def test_ranks_can_meet_by_names_alone(tmp_path: Path) -> None:
    script = "import runtree; run = runtree.init('p', console=False, system_metrics=False); print(run.id); run.finish()"
    environment = {**os.environ, "WORLD_SIZE": "3", "RUNTREE_RUN_ID": "shared", "RUNTREE_ATTEMPT": "one"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(3)
    ]
    answers = {process.communicate(timeout=60)[0] for process in processes}
    assert len(answers) == 1
    assert all(process.returncode == 0 for process in processes)
    assert (only_run().key, only_run().attempt) == ("shared", 1)
