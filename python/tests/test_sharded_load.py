"""What four ranks saved, loaded by any number of them: real FSDP2 over gloo, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(600)

HEAD = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, torch, runtree
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.device_mesh import init_device_mesh
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()

def make(seed, shard=True):
    torch.manual_seed(seed)
    # Sizes that no number of ranks divides.
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7), torch.nn.Linear(7, 3, bias=False))
    if shard:
        for layer in model:
            fully_shard(layer)
        fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)

def train(model, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((2, 5), 1.0 + step)).square().mean().backward()
        optimizer.step()

def leave():
    # Without the interpreter's exit: torch's gloo threads abort it now and then ("terminate called without an active exception"),
    # stock FSDP2 and FileSystemWriter alone do so once in four times.
    sys.stdout.flush()
    dist.barrier()
    os._exit(0)

def full(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().numpy()

class Loader:
    def __init__(self, position):
        self.position = position
    def state_dict(self):
        return {"position": self.position, "seed": 3}
    def load_state_dict(self, state):
        self.position = state["position"]
"""


def torchrun(
    tmp_path: Path, body: str, ranks: int, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(HEAD + textwrap.dedent(body))
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", str(script)],
        capture_output=True,
        text=True,
        timeout=550,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OUT": str(tmp_path), **environment},
    )
    if check:
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return result


SAVE = """
    run = runtree.init("p", name="fsdp", run_id="fsdp", console=False, system_metrics=False)
    model, optimizer = make(0)
    train(model, optimizer, 3)
    mesh = init_device_mesh("cpu", (world,))
    grid = distribute_tensor(torch.arange(42.0).reshape(6, 7), mesh, [Shard(0)])
    state = {
        "model": model, "optimizer": optimizer, "loader": Loader(100 + rank), "rng": torch.tensor([rank, 7]),
        "grid": grid, "columns": grid.redistribute(mesh, [Shard(1)]), "same": grid.redistribute(mesh, [Replicate()]),
        "plain": torch.arange(5), "step": 3, "nan": float("nan"), "name": "x" * 9000,
    }
    run.save(state, step=3).result()
    np.savez(os.environ["OUT"] + f"/full{rank}.npz", **{name: full(each) for name, each in model.state_dict().items()})
    moments = {f"{at}.{key}": full(each) for at, of in optimizer.state_dict()["state"].items() for key, each in of.items()}
    np.savez(os.environ["OUT"] + f"/moments{rank}.npz", **moments)
    if os.environ.get("KILL"):
        # One rank dies while it writes the next one: all is staged, a part of it in the store, nothing of it published.
        os.environ.pop("KILL")
        train(model, optimizer, 1)
        run.save({**state, "ballast": torch.rand(32 << 20)}, step=4)
        if rank == 1:
            os.kill(os.getpid(), 9)
        import time; time.sleep(3)
        os._exit(1)
    run.finish()
    leave()
"""

LOAD = """
    run = runtree.init("p", run_id="fsdp", resume="must", console=False, system_metrics=False)
    assert run.resumed_from.step == 3, run.resumed_from
    model, optimizer = make(1)
    mesh = init_device_mesh("cpu", (world,))
    loader = Loader(-1)
    into = {
        "model": model, "optimizer": optimizer, "loader": loader, "rng": torch.zeros(2, dtype=torch.int64),
        "grid": distribute_tensor(torch.zeros(6, 7), mesh, [Shard(1)]),
        "columns": distribute_tensor(torch.zeros(6, 7), mesh, [Shard(0)]),
        "same": torch.zeros(6, 7),
        "plain": distribute_tensor(torch.zeros(5, dtype=torch.int64), mesh, [Shard(0)]),
    }
    before = full(model.state_dict()["0.weight"])
    try:
        run.load(into=into)
        raise AssertionError("ranks differ, and nothing was said about that")
    except runtree.Invalid as error:
        assert "`loader`" in str(error) and "`rng`" in str(error) and "`model" not in str(error), error
        assert "per_rank" in error.hint
    assert np.array_equal(full(model.state_dict()["0.weight"]), before), "a refused load changes nothing"
    state = run.load(into=into, per_rank={"rng": 2, "loader": "modulo"})
    assert state["step"] == 3 and np.isnan(state["nan"]) and state["name"] == "x" * 9000
    assert loader.position == 100 + rank % 4 and state["rng"].tolist() == [2, 7]
    expected = torch.arange(42.0).reshape(6, 7)
    for name in ("grid", "columns", "same"):
        assert np.array_equal(full(state[name]), expected.numpy()), name
    assert full(state["plain"]).tolist() == [0, 1, 2, 3, 4]
    saved = np.load(os.environ["OUT"] + "/full0.npz")
    for name, tensor in model.state_dict().items():
        assert isinstance(tensor, DTensor)
        assert np.array_equal(full(tensor), saved[name]), name
    moments = np.load(os.environ["OUT"] + "/moments0.npz")
    found = optimizer.state_dict()["state"]
    assert sum(len(of) for of in found.values()) == len(moments.files)
    for at, of in found.items():
        for key, each in of.items():
            assert np.array_equal(full(each), moments[f"{at}.{key}"]), (at, key)
    # A model that is not sharded gets all of every tensor; and a part of a state is loaded by itself.
    plain, _ = make(2, shard=False)
    run.load(into={"model": plain}, keys="model*")
    assert all(np.array_equal(tensor.numpy(), saved[name]) for name, tensor in plain.state_dict().items())
    part = run.load(keys=["grid", "model.2.*"])
    assert set(part) == {"grid", "model"} and list(part["model"]) == ["2.weight"]
    assert np.array_equal(part["grid"].numpy(), expected.numpy())
    run.finish()
    leave()
"""


def test_four_ranks_save_and_two_one_and_three_load(tmp_path: Path) -> None:
    # Without memory that outlives the rank: with it, the next launch would finish what was staged.
    killed = torchrun(tmp_path, SAVE, 4, check=False, KILL="1", RUNTREE_STAGING_DIR="none")
    assert killed.returncode != 0
    [run] = runtree.Store().runs()
    assert [each.step for each in run.checkpoints()] == [3], "what a dead rank was part of never appears"
    pending = [each for each in run.checkpoints(pending=True) if each.state == "pending"]
    assert [each.step for each in pending] in ([4], []), "the others had published, or not yet"
    published = {part["rank"] for each in pending for part in each.parts if part["present"]}
    assert 1 not in published, "it died before it had published"
    for ranks in (2, 1, 3):
        torchrun(tmp_path, LOAD, ranks)


def test_what_is_read_is_what_was_asked_for(tmp_path: Path) -> None:
    torchrun(tmp_path, SAVE, 4)
    [run] = runtree.Store().runs()
    checkpoint = run.checkpoint()
    saved = np.load(tmp_path / "full0.npz")
    # Without a process group: everything is whole.
    with pytest.raises(runtree.Invalid, match=r"they differ in `loader`, `rng`|they differ in `rng`, `loader`"):
        run.load()
    state = run.load(per_rank="skip")
    assert "loader" not in state
    assert "rng" not in state
    assert np.array_equal(state["model"]["0.weight"].numpy(), saved["0.weight"])
    assert run.load(per_rank=3)["loader"] == {"position": 103, "seed": 3}
    gathered = run.load(
        per_rank=lambda path, values: [each["position"] for each in values] if path == "loader" else torch.stack(values)
    )
    assert gathered["loader"] == [100, 101, 102, 103]
    assert gathered["rng"].tolist() == [[rank, 7] for rank in range(4)]
    # The part of one rank, as that rank saved it.
    own = checkpoint.load(rank=1)
    assert own["loader"]["position"] == 101
    assert own["grid"].shape == (2, 7)
    assert own["columns"].shape == (6, 2)
    with pytest.raises(runtree.Unsupported, match="rank 9 is not one of them"):
        checkpoint.load(rank=9)
    with pytest.raises(ValueError, match="has shape"):
        run.load(into={"grid": torch.zeros(7, 6)}, keys="grid")
    with pytest.raises(TypeError, match="none of"):
        run.load(per_rank=2.5)
    # Any slice, whatever the shards are.
    expected = torch.arange(42.0).reshape(6, 7)
    for index in [(slice(1, 5), slice(2, 4)), 3, (..., -1), (slice(None, None, 2), 1), (slice(4, 2),), ...]:
        for name in ("grid", "columns", "same"):
            assert torch.equal(checkpoint.tensor(name, index), expected[index]), (name, index)
    assert np.array_equal(checkpoint.tensor("model.0.weight", 2).numpy(), saved["0.weight"][2])
    with pytest.raises(IndexError):
        checkpoint.tensor("grid", 6)
    with pytest.raises(runtree.NotFound, match="has no tensor 'nope'"):
        checkpoint.tensor("nope")


def test_any_sharding_loads_into_any_other(tmp_path: Path) -> None:
    """Shards of random boxes, saved by ranks that are only numbers, against numpy."""
    generator = np.random.default_rng(7)
    run = runtree.init("p", run_id="boxes", console=False, system_metrics=False)
    os.environ["RUNTREE_ATTEMPT"] = "boxes"
    run.finish()
    run = runtree.init("p", run_id="boxes", resume="must", console=False, system_metrics=False)
    dtypes = [torch.float32, torch.bfloat16, torch.int8, torch.bool, torch.complex64, torch.float64]
    for step in range(12):
        shape = tuple(int(size) for size in generator.integers(1, 9, size=int(generator.integers(1, 4))))
        dtype = dtypes[step % len(dtypes)]
        whole = torch.from_numpy(generator.integers(0, 100, shape)).to(dtype)
        axis = int(generator.integers(0, len(shape)))
        ranks = int(generator.integers(2, 5))
        cuts = sorted(int(cut) for cut in generator.integers(0, shape[axis] + 1, ranks - 1))
        pending = []
        for rank, (start, end) in enumerate(zip([0, *cuts], [*cuts, shape[axis]], strict=True)):
            shard: Any = whole.narrow(axis, start, end - start).clone()
            offset = tuple(start if each == axis else 0 for each in range(len(shape)))
            shard.global_shape, shard.global_offsets = shape, (offset,)
            shard.local_offsets, shard.local_sizes = ((0,) * len(shape),), (tuple(shard.shape),)
            pending.append(run.save({"t": shard}, step=step, rank=rank, world_size=ranks))
        checkpoint = pending[0].result()
        assert torch.equal(checkpoint.load()["t"], whole)
        for _ in range(5):
            box = tuple(slice(*sorted(int(at) for at in generator.integers(0, size + 1, 2))) for size in shape)
            assert torch.equal(checkpoint.tensor("t", box), whole[box])
            inside: Any = torch.zeros_like(whole[box])
            inside.global_shape, inside.global_offsets = shape, (tuple(part.start for part in box),)
            inside.local_offsets, inside.local_sizes = ((0,) * len(shape),), (tuple(inside.shape),)
            checkpoint.load(into={"t": inside})
            assert torch.equal(inside.as_subclass(torch.Tensor), whole[box])
    run.finish()


PRIME = """
    import os, sys, runtree, torch
    component, rank, world, fail = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "fail"
    run = runtree.init("p", run_id="prime", resume="allow", console=False, system_metrics=False)
    parts = {"trainer": 2, "orchestrator": 1}
    state = {"w": torch.full((3,), float(rank))} if component == "trainer" else {"buffer": list(range(5)), "at": 7}
    saved = run.save(state, step=1, component=component, rank=rank, world_size=world, sharded=world > 1, parts=parts)
    print("saved", flush=True)
    sys.stdin.readline()
    print("step", saved.result(timeout=60).step, flush=True)
    run.finish()
"""


def test_trainer_ranks_and_an_orchestrator_are_one_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "prime.py"
    script.write_text(textwrap.dedent(PRIME))
    # Independent processes: nothing connects them but the names of run and launch.
    environment = {**os.environ, "RUNTREE_ATTEMPT": "launch-1"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments, "-"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        return process

    trainers = [start("trainer", str(rank), "2") for rank in range(2)]
    store = runtree.Store()
    [run] = store.runs()
    assert run.checkpoints() == []
    listed = subprocess.run(
        [sys.executable, "-m", "runtree", "--store", str(store.path), "checkpoints", run.display_id, "--pending"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "pending, 2 of 3 parts" in listed, listed
    orchestrator = start("orchestrator", "0", "1")
    for process in [*trainers, orchestrator]:
        out, _ = process.communicate("go\n", timeout=120)
        assert out == "step 1\n"
        assert process.returncode == 0
    [checkpoint] = run.checkpoints()
    assert len(checkpoint.parts) == 3
    assert checkpoint.load(component="orchestrator") == {"buffer": [0, 1, 2, 3, 4], "at": 7}
    assert checkpoint.load(rank=1)["w"].tolist() == [1.0, 1.0, 1.0]
