"""Managers of prime-rl's shape: what its trainer, its orchestrator and its SFT call, on a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runtree
from runtree.integrations.prime_rl import (
    CheckpointNotFound,
    OrchestratorCheckpointManager,
    TrainerCheckpointManager,
    setup_ckpt_manager,
    setup_ckpt_managers,
)

from . import prime_rl_runs

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(300)
PARTS = {"trainer": 1, "orchestrator": 1}


@dataclass
class Progress:
    step: int = 0
    total_tokens: int = 0
    total_samples: int = 0


class Sampler:
    """Where the tasks come from, with a place in them."""

    def __init__(self, row: int = 0) -> None:
        self.row = row

    def state_dict(self) -> dict[str, Any]:
        return {"row": self.row, "envs": {"reverse-text": {"epoch": 0, "cursor": self.row}}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.row = state["row"]


class Trainer:
    """A model, its optimizer and all else that a trainer hands to its manager."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.optimizers = [torch.optim.AdamW(self.model.parameters(), lr=0.1)]
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizers[0], 8)
        self.progress = Progress()
        self.dataloader = Sampler()

    def all(self) -> tuple[Any, ...]:
        return self.model, self.optimizers, self.scheduler, self.progress

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.dataloader.row += 1
            inputs = torch.full((2, 4), float(self.dataloader.row))
            self.optimizers[0].zero_grad()
            self.model(inputs).square().mean().backward()
            self.optimizers[0].step()
            self.scheduler.step()
            self.progress.step += 1
            self.progress.total_samples += 2


def same(a: Trainer, b: Trainer) -> bool:
    weights = all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))
    moments = [
        [state[name] for state in each.optimizers[0].state.values() for name in ("exp_avg", "exp_avg_sq", "step")]
        for each in (a, b)
    ]
    rest = (a.scheduler.state_dict(), a.progress, a.dataloader.row) == (
        b.scheduler.state_dict(),
        b.progress,
        b.dataloader.row,
    )
    return weights and rest and all(torch.equal(x, y) for x, y in zip(*moments, strict=True))


@pytest.fixture
def run(start: Callable[..., runtree.Run]) -> Iterator[runtree.Run]:
    with start(run_id="sft") as run:
        yield run


def test_a_training_that_goes_on_equals_one_that_did_not_stop(run: runtree.Run) -> None:
    whole, first, second = Trainer(0), Trainer(0), Trainer(1)
    manager, weights = setup_ckpt_managers("outputs", SimpleNamespace(interval=3, keep_last=None), run=run)
    assert manager is not None
    assert weights is None
    whole.train(6)
    first.train(3)
    manager.save(3, *first.all(), first.dataloader)
    manager.mark_stable(3)
    assert (manager.ckpt_steps, manager.get_latest_step()) == ([3], 3)
    manager.load(3, *second.all(), dataloader=second.dataloader)
    assert same(first, second)
    second.train(3)
    assert same(whole, second)


def test_the_order_of_arguments_of_2025_does_too(run: runtree.Run) -> None:
    first, second = Trainer(0), Trainer(1)
    manager = TrainerCheckpointManager("outputs", {"interval": 1}, run=run)
    first.train(2)
    manager.save(*first.all(), 2, dataloader=first.dataloader)
    manager.load(*second.all(), 2, dataloader=second.dataloader)
    assert same(first, second)


def test_what_is_skipped_and_what_is_none_stays_as_it_is(run: runtree.Run) -> None:
    first, second = Trainer(0), Trainer(1)
    first.train(2)
    TrainerCheckpointManager("outputs", {}, run=run).save(2, *first.all(), first.dataloader)
    skipping = TrainerCheckpointManager("outputs", {"skip_optimizer": True, "skip_progress": True}, run=run)
    skipping.load(2, second.model, second.optimizers, None, second.progress)
    assert torch.equal(second.model[0].weight, first.model[0].weight)
    # get_state_dict, which prime-rl calls, too, makes moments of nothing.
    assert all(not state["exp_avg"].any() for state in second.optimizers[0].state.values())
    assert second.progress == Progress()
    assert second.scheduler.last_epoch == 0
    assert second.dataloader.row == 0


def test_a_step_that_only_the_orchestrator_has_is_never_picked(launch: Any, start: Any) -> None:
    run = start(run_id="rl")
    trainer = Trainer(0)
    manager = TrainerCheckpointManager("outputs", {"interval": 5}, run=run, parts=PARTS)
    orchestrator = setup_ckpt_manager("outputs", {"interval": 5}, run=run)
    assert orchestrator is not None
    for step in (5, 10):
        # The orchestrator saves when it ships a batch, before the trainer has trained on it.
        orchestrator.save(Progress(step, step * 100, step * 8), Sampler(step), step)
        assert manager.get_latest_step() == (None if step == 5 else 5)
        trainer.train(5)
        manager.save(step, *trainer.all())
        manager.mark_stable(step)
    orchestrator.save(Progress(13), Sampler(13), 13)
    assert (manager.get_latest_step(), orchestrator.get_latest_step()) == (10, 10)
    assert orchestrator.ckpt_steps == [5, 10]
    progress, sampler = Progress(), Sampler()
    with pytest.raises(FileNotFoundError, match="whole ones are at steps: 5, 10") as missing:
        orchestrator.load(progress, sampler, 13)
    assert isinstance(missing.value, CheckpointNotFound)
    orchestrator.load(progress, sampler, 10)
    assert (progress, sampler.row) == (Progress(10, 1000, 80), 10)
    # What is missing of 13 never comes: who finishes is told.
    with pytest.raises(runtree.LostData):
        run.finish(timeout=1)


def test_an_orchestrator_can_skip_its_progress(run: runtree.Run) -> None:
    parts = {"orchestrator": 1}
    OrchestratorCheckpointManager("outputs", {}, run=run, parts=parts).save(Progress(4), Sampler(4), 4)
    progress, sampler = Progress(), Sampler()
    OrchestratorCheckpointManager("outputs", {"skip_progress": True}, run=run, parts=parts).load(progress, sampler, 4)
    assert (progress, sampler.row) == (Progress(), 0)


def test_a_buffer_that_writes_a_directory_comes_back(run: runtree.Run) -> None:
    class Buffer:
        rows: str = ""

        def save(self, path: Path) -> None:
            (path / "more").mkdir(parents=True)
            (path / "more" / "rows.jsonl").write_text(self.rows)

        def load(self, path: Path) -> None:
            self.rows = (path / "more" / "rows.jsonl").read_text()

    before, after = Buffer(), Buffer()
    before.rows = '{"problem": 1}\n'
    manager = OrchestratorCheckpointManager("outputs", {}, run=run, parts={"orchestrator": 1})
    manager.save(Progress(1), before, 1)
    manager.load(Progress(), after, 1)
    assert after.rows == before.rows
    with pytest.raises(runtree.InvalidType, match="neither state_dict nor save"):
        manager.save(Progress(2), object(), 2)


def test_keep_last_and_keep_interval_keep_their_union(run: runtree.Run) -> None:
    trainer = Trainer(0)
    manager = TrainerCheckpointManager("outputs", {"interval": 1, "keep_last": 2, "keep_interval": 4}, run=run)
    for step in range(1, 11):
        trainer.train(1)
        manager.save(step, *trainer.all())
        manager.maybe_clean()
        # prime-rl forgets the newest where only multiples are kept; here it stays.
        assert manager.get_latest_step() == step
    assert manager.ckpt_steps == [4, 8, 9, 10]


def test_files_are_written_where_the_block_says(run: runtree.Run, tmp_path: Path) -> None:
    trainer = Trainer(0)
    trainer.train(1)
    manager = TrainerCheckpointManager("outputs", {"output_dir": str(tmp_path / "files")}, run=run)
    manager.save(1, *trainer.all())
    manager.mark_stable(1)
    manager.maybe_clean()
    assert manager.get_ckpt_path(1) == tmp_path / "files" / "checkpoints" / "step_1" / "trainer"
    assert any(path.suffix == ".safetensors" for path in manager.get_ckpt_path(1).rglob("*"))


def test_two_processes_need_a_launch_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(runtree.Invalid, match="nothing says that they belong together"):
        TrainerCheckpointManager("outputs", {}, parts=PARTS)
    monkeypatch.setenv("RUNTREE_ATTEMPT", "1")
    manager = TrainerCheckpointManager("outputs/math", {}, parts=PARTS)
    assert manager.run.key == "math"
    manager.run.finish()
    assert setup_ckpt_managers("outputs", None) == (None, None)
    assert setup_ckpt_manager("outputs", None) is None
    with pytest.raises(runtree.InvalidType, match="is no checkpoint block"):
        TrainerCheckpointManager("outputs", object(), run=manager.run)


def test_what_two_ranks_saved_is_loaded_by_one(tmp_path_factory: pytest.TempPathFactory, start: Any) -> None:
    place = prime_rl_runs.written(tmp_path_factory)
    with start("rl", run_id="math", resume="must", store=place / "store") as run:
        manager = TrainerCheckpointManager("outputs", {}, run=run, parts=PARTS)
        assert manager.ckpt_steps == [1, 2]
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Linear(16, 3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
        progress, sampler, source = Progress(), Sampler(), Sampler()
        manager.load(2, model, [optimizer], scheduler, progress, sampler)
        OrchestratorCheckpointManager("outputs", {}, run=run, parts=PARTS).load(progress, source, 2)
    # The same as prime-rl's own files of that step have.
    import torch.distributed.checkpoint as dcp

    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    files = place / "outputs" / "checkpoints" / "step_2"
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.load({"app": {"model": weights}}, checkpoint_id=files / "trainer", no_dist=True)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert optimizer.state[model[0].weight]["step"] == 2
    assert (progress, sampler.row, source.row) == (Progress(2, 200, 16), 16, 2)
