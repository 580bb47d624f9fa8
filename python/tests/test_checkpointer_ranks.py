"""A ``Checkpointer`` on every rank, as torchrun starts them: shards and per-rank states, killed, and gone on from."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtree

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(300)

RANKS = 2
SCRIPT = """
    import os, random, signal, sys, warnings
    warnings.simplefilter("ignore")
    import runtree, torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    class Draws:
        '''Each rank's own data: a generator whose state is in the checkpoint.'''
        def __init__(self):
            self.dice = random.Random(rank)
            self.drawn = 0
        def next(self):
            self.drawn += 1
            return torch.tensor([[self.dice.random() for _ in range(4)] for _ in range(8)])
        def state_dict(self):
            version, words, gauss = self.dice.getstate()
            return {"rank": rank, "drawn": self.drawn, "words": list(words)}
        def load_state_dict(self, state):
            assert state["rank"] == rank
            self.drawn = state["drawn"]
            self.dice.setstate((3, tuple(state["words"]), None))

    def train(run_id, last, die_at=None, **block):
        from torch.distributed.fsdp import fully_shard
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
        fully_shard(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
        draws, progress = Draws(), {"step": 0, "total_samples": 0}
        state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "dataloader": draws, "progress": progress}
        quiet = dict(console=False, system_metrics=False, environment=False)
        with runtree.init("ranks", run_id=run_id, resume="allow", **quiet) as run, runtree.Checkpointer(run, block) as checkpoints:
            start = checkpoints.resume(state)
            print(f"{run_id} rank {rank} from {start}, drawn {draws.drawn}, {progress}", flush=True)
            for step in range((start or 0) + 1, last + 1):
                inputs = draws.next()
                loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.log({"loss": loss.item(), "lr": scheduler.get_last_lr()[0]}, step=step)
                scheduler.step()
                progress.update(step=step, total_samples=step * 8)
                if step == die_at and rank == 0:
                    # The other rank's part of this step is there, this one's never will be.
                    dist.barrier()
                    os.kill(os.getpid(), signal.SIGKILL)
                if checkpoints.should_save(step, is_last=step == last):
                    checkpoints.save(step, state)
                if step == die_at:
                    dist.barrier()
                    os.kill(os.getpid(), signal.SIGKILL)

    def train_with_an_orchestrator(last, **block):
        state = {"model": {"w": torch.full((3,), float(rank))}, "progress": {"step": 0}}
        quiet = dict(console=False, system_metrics=False, environment=False)
        parts = {"trainer": dist.get_world_size(), "orchestrator": 1}
        with runtree.init("ranks", run_id="rl", resume="allow", **quiet) as run:
            checkpoints = runtree.Checkpointer(run, block, parts=parts)
            start = checkpoints.resume(state)
            print(f"rl rank {rank} from {start}, {state['model']['w'].tolist()}, {state['progress']}", flush=True)
            for step in range((start or 0) + 1, last + 1):
                state["model"]["w"] += 1
                state["progress"]["step"] = step
                checkpoints.save(step, state, sharded=True)
"""


def launch(
    tmp_path: Path, number: int, body: str, beside: Callable[[], None] = lambda: None
) -> tuple[list[int], list[str]]:
    """The next launch of a job, as torchrun starts each of its ranks; exit codes, and what each rank printed.

    ``beside`` is what another process of the launch does, which is this one.
    """
    script = tmp_path / f"launch-{number}.py"
    script.write_text(textwrap.dedent(SCRIPT) + body + "\ndist.barrier()\ndist.destroy_process_group()\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={
                **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "OMP_NUM_THREADS": "1",
                "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "none",
                "TORCHELASTIC_RESTART_COUNT": str(number),
            },
        )
        for rank in range(RANKS)
    ]  # fmt: skip
    beside()
    told = [process.communicate(timeout=120) for process in processes]
    # torch's gloo threads abort the interpreter's exit now and then, with or without runtree; everything is done by then.
    aborted = ["terminate called without an active exception" in errors for _, errors in told]
    codes = [0 if is_aborted else each.returncode for each, is_aborted in zip(processes, aborted, strict=True)]
    for code, (_, errors) in zip(codes, told, strict=True):
        assert code in (0, -signal.SIGKILL), errors[-3000:]
    return codes, [printed for printed, _ in told]


def bits(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a state by path; tensors as dtype, shape and bytes."""
    if hasattr(tree, "state_dict"):
        tree = tree.state_dict()
    if isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {name: leaf for key, each in items for name, leaf in bits(each, f"{path}.{key}").items()}
    if isinstance(tree, torch.Tensor):
        return {path: (tree.dtype, tuple(tree.shape), tree.numpy().tobytes())}
    return {path: tree}


def everything(run: runtree.StoredRun, step: int) -> dict[str, Any]:
    """What a checkpoint holds: shards put together, and what each rank has of its own."""
    checkpoint = run.checkpoint(step)
    assert len(checkpoint.parts) == RANKS
    shared = [f"{each}{more}" for each in ("model", "optimizer", "scheduler", "progress") for more in ("", ".*")]
    own = [checkpoint.load(keys=["dataloader", "dataloader.*"], rank=rank) for rank in range(RANKS)]
    return bits({"shared": checkpoint.load(keys=shared), "own": own})


def test_ranks_that_were_killed_go_on_from_the_newest_whole_step_and_from_a_named_one(tmp_path: Path) -> None:
    body = 'train("whole", 6)\ntrain("named", 4, interval=1)\ntrain("split", 6, die_at=4, interval=1)'
    codes, _ = launch(tmp_path, 0, body)
    assert codes == [-signal.SIGKILL] * RANKS
    whole, split, named = (runtree.Store().run(each) for each in ("whole", "split", "named"))
    expected = everything(whole, 6)
    assert expected[".own.0.dataloader.words.0"] != expected[".own.1.dataloader.words.0"]
    assert [each.step for each in split.checkpoints()] == [1, 2, 3]
    # Of step 4 there is what rank 1 saved, and no checkpoint.
    [torn] = [each for each in split.checkpoints(pending=True) if each.step == 4]
    assert [part["rank"] for part in torn.parts if part["present"]] == [1]
    assert [each.step for each in named.checkpoints()] == [1, 2, 3, 4]

    codes, printed = launch(tmp_path, 1, 'train("split", 6, resume_step=-1)\ntrain("named", 6, resume_step=2)')
    assert codes == [0] * RANKS
    for run, start in ((split, 3), (named, 2)):
        for rank in range(RANKS):
            said = (
                f"{run.key} rank {rank} from {start}, drawn {start}, {{'step': {start}, 'total_samples': {start * 8}}}"
            )
            assert said in printed[rank]
        run = runtree.Store().run(run.id)
        assert everything(run, 6) == expected
        assert run.attempt == 2
        for metric in ("loss", "lr"):
            assert run.history(metric).steps.tolist() == list(range(1, 7))
            assert run.history(metric).values.tobytes() == whole.history(metric).values.tobytes()
    # 3 and 4 of before have left the history.
    assert [each.step for each in named.checkpoints() if each.effective] == [1, 2, 6]
    one_process_goes_on(expected)


def one_process_goes_on(expected: dict[str, Any]) -> None:
    """On another number of ranks tensors are whole, and what differs by rank has to be chosen."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    state = {
        "model": model,
        "optimizer": torch.optim.AdamW(model.parameters()),
        "dataloader": {"rank": -1, "drawn": 0, "words": [0] * 625},
    }
    quiet: dict[str, Any] = {"console": False, "system_metrics": False, "environment": False}
    with runtree.init("ranks", run_id="split", resume="must", **quiet) as run:
        checkpoints = runtree.Checkpointer(run, {"resume_step": -1, "load_only": True})
        with pytest.raises(runtree.Invalid, match="differ in `dataloader"):
            checkpoints.resume(state)
        assert checkpoints.resume(state, per_rank=1) == 6
    found = bits({"model": model, "optimizer": state["optimizer"]})
    assert {f".shared{name}": leaf for name, leaf in found.items()}.items() <= expected.items()
    assert bits(state["dataloader"], ".own.1.dataloader").items() <= expected.items()


PARTS = {"trainer": RANKS, "orchestrator": 1}


def orchestrate(last: int, expected: int | None, **block: Any) -> None:
    """An orchestrator that ships ``last`` batches, and ends when it has waited enough for the trainer."""
    quiet: dict[str, Any] = {"console": False, "system_metrics": False, "environment": False}
    state = {"progress": {"step": 0}}
    run = runtree.init("ranks", run_id="rl", resume="allow", **quiet)
    checkpoints = runtree.Checkpointer(run, block, component="orchestrator", parts=PARTS)
    assert checkpoints.resume(state) == expected
    assert state["progress"]["step"] == (expected or 0)
    saves = []
    for step in range((expected or 0) + 1, last + 1):
        state["progress"]["step"] = step
        saves.append(checkpoints.save(step, state))
    # Of the first launch nobody trains on the last batch.
    for each in saves[: -1 if expected is None else None]:
        assert each is not None
        each.result(timeout=100)
    with warnings.catch_warnings(), contextlib.suppress(runtree.LostData):
        warnings.simplefilter("ignore")
        run.finish(timeout=1)


def test_ranks_and_an_orchestrator_go_on_from_the_newest_step_that_all_of_them_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (block, start, last, shipped) in enumerate((({}, None, 2, 3), ({"resume_step": -1}, 2, 4, 4))):
        monkeypatch.setenv("RUNTREE_ATTEMPT", f"launch-{number}")
        body = f"train_with_an_orchestrator({last}, **{block})"
        codes, printed = launch(
            tmp_path,
            number,
            body,
            lambda: orchestrate(shipped, start, **block),  # noqa: B023
        )
        assert codes == [0] * RANKS
        for rank in range(RANKS):
            weight, step = float(rank + (start or 0)), start or 0
            assert f"rl rank {rank} from {start}, {[weight] * 3}, {{'step': {step}}}" in printed[rank]
    run = runtree.Store().run("rl")
    assert [each.step for each in run.checkpoints()] == [1, 2, 3, 4]
    assert run.attempt == 2
