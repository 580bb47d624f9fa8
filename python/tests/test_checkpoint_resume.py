"""Where a trainer goes on as its checkpoint block says: whole checkpoints alone, without the parts that are skipped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trainer import Start, fresh, steps, train, trained

import runtree
from runtree import CheckpointConfig, Checkpointer

pytestmark = pytest.mark.usefixtures("launch")


def test_a_split_run_ends_where_an_unsplit_one_does(start: Start, again: Callable[..., runtree.Run]) -> None:
    with start("whole") as whole:
        expected = fresh()
        train(whole, expected, 1, 40, Checkpointer(whole, None))
    trained(start, CheckpointConfig(), 20)
    with again() as run:
        checkpoints = CheckpointConfig(resume_step=20).bind(run)
        state = fresh()
        assert checkpoints.resume(state) == 20
        assert state["progress"] == {"step": 20, "total_samples": 160, "total_tokens": 2000}
        assert not checkpoints.should_save(20, is_last=True)
        train(run, state, 21, 40, checkpoints)
    assert np.array_equal(state["model"]["w"], expected["model"]["w"])
    assert state["optimizer"].state_dict()["moment"].tolist() == expected["optimizer"].moment.tolist()
    assert {**state, "model": 0, "optimizer": 0} == {**expected, "model": 0, "optimizer": 0}
    assert steps(run) == [20, 40]
    assert run.history("loss").steps.tolist() == list(range(1, 41))


def test_minus_one_is_the_newest_and_a_step_is_that_one(start: Start, again: Callable[..., runtree.Run]) -> None:
    trained(start, {"interval": 4})
    with again() as run:
        assert CheckpointConfig(resume_step=-1, load_only=True).bind(run).resume(fresh()) == 10
    with again() as run:
        state = fresh()
        assert CheckpointConfig(resume_step=8, interval=1).bind(run).resume(state) == 8
        assert state["optimizer"].steps == 8
        # What comes next is step 9, and the 10 of before leaves the history.
        train(run, state, 9, 9, CheckpointConfig().bind(run))
    assert [each.step for each in run.checkpoints() if each.effective] == [4, 8, 9]
    # prime-rl goes on from the 10 of the old history here.
    with again() as run:
        assert CheckpointConfig(resume_step=-1).bind(run).resume(fresh()) == 9


def test_a_step_that_is_not_there_is_an_error_that_lists_those_that_are(
    start: Start, again: Callable[..., runtree.Run]
) -> None:
    trained(start, {"interval": 4})
    with again() as run, pytest.raises(runtree.NotFound, match="4, 8, 10"):
        CheckpointConfig(resume_step=7).bind(run).resume(fresh())


def test_the_same_script_starts_and_restarts(
    start: Start, launch: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for expected in (None, 3, 6):
        launch()
        with start(run_id="same", resume="allow") as run:
            checkpoints = CheckpointConfig(resume_step=-1).bind(run)
            state = fresh()
            assert checkpoints.resume(state) == expected
            train(run, state, (expected or 0) + 1, (expected or 0) + 3, checkpoints)
    said = capsys.readouterr().err
    assert "has no whole checkpoint yet: training starts from scratch" in said
    assert "goes on from checkpoint DIG-1@6" in said


def test_without_a_resume_training_starts_from_scratch_and_says_so(
    start: Start, again: Callable[..., runtree.Run], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(start, CheckpointConfig())
    with again() as run:
        state = fresh()
        assert CheckpointConfig().bind(run).resume(state) is None
        assert state["progress"]["step"] == 0
    assert "starts from scratch; --resume would go on from checkpoint DIG-1@10" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("skip", "left"),
    [("skip_progress", "progress"), ("skip_scheduler", "scheduler"), ("skip_dataloader", "dataloader"),
     ("skip_optimizer", "optimizer")],
)  # fmt: skip
def test_a_part_that_is_skipped_stays_as_it_is(
    start: Start, again: Callable[..., runtree.Run], capsys: pytest.CaptureFixture[str], skip: str, left: str
) -> None:
    trained(start, CheckpointConfig())
    with again() as run:
        state = fresh()
        step = CheckpointConfig(resume_step=-1, **{skip: True}).bind(run).resume(state)
    expected = {
        "progress": state["progress"]["step"], "scheduler": state["scheduler"]["epoch"], "dataloader": state["dataloader"]["at"],
        "optimizer": state["optimizer"].steps,
    }  # fmt: skip
    assert expected == {name: 0 if name == left else 10 for name in expected}
    assert state["model"]["w"][0] == 55
    # Counted anew from 0.
    assert step == (0 if skip == "skip_progress" else 10)
    assert f"goes on from checkpoint DIG-1@10; not restored: {left}" in capsys.readouterr().err


def test_everything_may_be_skipped_and_other_names_are_known(start: Start, again: Callable[..., runtree.Run]) -> None:
    with start(run_id="sft") as run:
        CheckpointConfig().bind(run).save(
            5, {"w": 1, "opt": {"m": 1}, "lr_scheduler": 3, "train_dataloader": 4, "step": 5}
        )
    with again() as run:
        state: dict[str, Any] = {"w": 0, "opt": {"m": 0}, "lr_scheduler": 0, "train_dataloader": 0, "step": 0}
        everything = CheckpointConfig(
            resume_step=-1, skip_progress=True, skip_scheduler=True, skip_dataloader=True, skip_optimizer=True
        )  # fmt: skip
        assert everything.bind(run).resume(state) == 0
    assert state == {"w": 1, "opt": {"m": 0}, "lr_scheduler": 0, "train_dataloader": 0, "step": 0}


def test_a_skip_that_skips_nothing_is_told(start: Start, again: Callable[..., runtree.Run]) -> None:
    with start(run_id="sft") as run:
        CheckpointConfig().bind(run).save(5, {"w": 1, "adam": 2})
    with (
        again() as run,
        pytest.warns(runtree.RuntreeWarning, match="skip_optimizer skips nothing: the state has w, adam"),
    ):
        CheckpointConfig(resume_step=-1, skip_optimizer=True).bind(run).resume({"w": 0, "adam": 0})


def test_only_what_the_state_has_is_read_and_what_is_missing_is_told(
    start: Start, again: Callable[..., runtree.Run]
) -> None:
    trained(start, CheckpointConfig())
    with again() as run:
        state = {"model": {"w": np.zeros(4, "f4")}, "ema": 7}
        with pytest.warns(runtree.RuntreeWarning, match="has no ema: left as it is"):
            assert CheckpointConfig(resume_step=-1).bind(run).resume(state) == 10
    assert list(state) == ["model", "ema"]
    assert state["ema"] == 7


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(start: Start, again: Callable[..., runtree.Run]) -> None:
    with start(run_id="sft") as run:
        checkpoints = CheckpointConfig(interval=1).bind(run)
        for step in (1, 2):
            checkpoints.save(step, {"w": np.full(300_000, step, "f8")})
    chunks = [each for each in Path(".runtree").rglob("*") if "chunks" in each.parts and each.is_file()]
    newest = max(chunks, key=lambda each: each.stat().st_mtime_ns)
    newest.chmod(0o644)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    state = {"w": np.zeros(300_000, "f8")}
    with again() as run, pytest.warns(runtree.RuntreeWarning, match="was loaded instead"):
        assert CheckpointConfig(resume_step=-1).bind(run).resume(state) == 1
    assert state["w"][0] == 1
    runtree._warn._seen.clear()  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with again(resume_from=1) as run, pytest.raises((runtree.Corrupt, runtree.NotFound)):
            CheckpointConfig(resume_step=2).bind(run).resume(state)


def test_a_disabled_run_does_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = start()
    checkpoints = CheckpointConfig(resume_step=-1, interval=1, keep_last=2, output_dir=Path("out")).bind(run)
    assert checkpoints.resume(fresh()) is None
    pending = checkpoints.save(1, fresh())
    assert pending is not None
    assert pending.result().id == "disabled"
    checkpoints.close()
    assert not Path("out").exists()


def test_what_torch_has_is_restored_and_skipped(start: Start, again: Callable[..., runtree.Run]) -> None:
    import torch

    def made() -> dict[str, Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "progress": {"step": 0}}

    def steps_of(state: dict[str, Any], count: int) -> None:
        for _ in range(count):
            state["model"](torch.ones(4, 3)).square().sum().backward()
            state["optimizer"].step()
            state["optimizer"].zero_grad()
            state["scheduler"].step()
            state["progress"]["step"] += 1

    whole, half = made(), made()
    steps_of(whole, 6)
    with start(run_id="sft") as run:
        steps_of(half, 3)
        CheckpointConfig().bind(run).save(3, half)
    with again() as run:
        state = made()
        assert CheckpointConfig(resume_step=-1, load_only=True).bind(run).resume(state) == 3
        steps_of(state, 3)
    assert torch.equal(state["model"].weight, whole["model"].weight)
    assert state["scheduler"].get_last_lr() == whole["scheduler"].get_last_lr()
    with again() as run:
        state = made()
        CheckpointConfig(resume_step=-1, load_only=True, skip_optimizer=True, skip_scheduler=True).bind(run).resume(
            state
        )
    assert torch.equal(state["model"].weight, half["model"].weight)
    assert (state["optimizer"].state, state["scheduler"].last_epoch) == ({}, 0)


def test_what_a_run_is_based_on_is_not_gone_on_from(
    start: Start, launch: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(start, CheckpointConfig())
    # The same script starts and restarts: first with weights of another training alone, then where it was.
    for expected in (None, 3):
        launch()
        with start(run_id="rl", base="sft@10", resume="allow") as run:
            checkpoints = CheckpointConfig(resume_step=-1).bind(run)
            state = fresh()
            assert checkpoints.resume(state) == expected
            assert state["progress"]["step"] == (expected or 0)
            train(run, state, (expected or 0) + 1, (expected or 0) + 3, checkpoints)
    assert steps(run) == [3, 6]
    launch()
    with start(run_id="other", base="sft@10") as run:
        assert CheckpointConfig().bind(run).resume(fresh()) is None
    assert "--resume would go on" not in capsys.readouterr().err
