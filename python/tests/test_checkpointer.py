"""What a trainer saves as its checkpoint block says, and what is kept of it; without a block nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_trainer import Start, fresh, steps, trained

import runtree
from runtree import CheckpointConfig, Checkpointer, Retention

pytestmark = pytest.mark.usefixtures("launch")


# ---- Saving.


def test_nothing_is_written_without_a_block(start: Start, again: Callable[..., runtree.Run]) -> None:
    run = trained(start, None)
    assert run.checkpoints(pending=True) == []
    chunks = [each for each in Path(".runtree").rglob("*") if each.is_file() and "chunks" in each.parts]
    assert chunks == []
    with again() as more:
        checkpoints = Checkpointer(more, None)
        assert not checkpoints.writes
        assert checkpoints.save(1, fresh()) is None
        assert checkpoints.resume(fresh()) is None
        assert not checkpoints.should_save(1, is_last=True)
    assert more.checkpoints(pending=True) == []


def test_ckpt_alone_writes_the_final_checkpoint(start: Start) -> None:
    assert steps(trained(start, CheckpointConfig())) == [10]


def test_interval_writes_every_so_many_steps_and_the_last(start: Start) -> None:
    assert steps(trained(start, {"interval": 4})) == [4, 8, 10]


def test_no_step_is_saved_twice(start: Start) -> None:
    run = start()
    checkpoints = CheckpointConfig(interval=5).bind(run)
    asked = [step for step in range(11) if checkpoints.should_save(step)]
    assert asked == [5, 10]
    checkpoints.save(10, fresh())
    # A call after the loop is none too many.
    assert not checkpoints.should_save(10, is_last=True)
    assert checkpoints.should_save(11, is_last=True)


@pytest.mark.parametrize("save_async", [False, True])
def test_save_waits_until_it_is_durable_unless_it_is_async(
    start: Start, save_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    result = runtree.PendingSave.result
    monkeypatch.setattr(
        runtree.PendingSave, "result", lambda self, *a, **k: (waited.append(True), result(self, *a, **k))[1]
    )
    with start() as run:
        pending = CheckpointConfig(save_async=save_async).bind(run).save(3, fresh(), metrics={"acc": 0.5}, name="best")
        assert waited == ([] if save_async else [True])
        assert pending is not None
        assert save_async or pending.done()
        checkpoint = pending.result()
    assert (checkpoint.metrics, checkpoint.name) == ({"acc": 0.5}, "best")


def test_what_is_saved_is_a_dict_with_text_keys(start: Start) -> None:
    with start() as run:
        checkpoints = CheckpointConfig().bind(run)
        for wrong in ([], {1: 2}, {"": 2}):
            with pytest.raises(runtree.InvalidType, match="a trainer's state "):
                checkpoints.save(1, wrong)  # type: ignore[arg-type]
            with pytest.raises(runtree.InvalidType, match="a trainer's state "):
                checkpoints.resume(wrong)  # type: ignore[arg-type]


def test_a_disk_that_fails_does_not_end_the_training(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise runtree.Unavailable("no space left on device")

    run = start()
    monkeypatch.setattr(runtree.PendingSave, "result", fail)
    assert CheckpointConfig().bind(run).save(3, fresh()) is not None


# ---- What is kept.


@pytest.mark.parametrize(
    ("config", "expected"),
    [({"interval": 1, "keep_last": 2}, [9, 10]), ({"interval": 1, "keep_last": 2, "keep_interval": 4}, [4, 8, 9, 10]),
     # prime-rl deletes each checkpoint that is no multiple right after it was written, the final one too.
     ({"interval": 1, "keep_interval": 4}, [4, 8, 10]), ({"interval": 3}, [3, 6, 9, 10])],
)  # fmt: skip
def test_what_is_kept_is_the_union_of_both_and_the_newest(
    start: Start, config: dict[str, int], expected: list[int]
) -> None:
    run = trained(start, config)
    assert steps(run) == expected


def test_keep_interval_alone_never_leaves_a_run_without_a_checkpoint(start: Start) -> None:
    with start() as run:
        checkpoints = CheckpointConfig(interval=1, keep_interval=100).bind(run)
        for step in range(1, 5):
            checkpoints.save(step, fresh())
            assert step in steps(run)
    assert steps(run) == [4]


def test_a_step_that_is_saved_twice_counts_once(start: Start) -> None:
    with start() as run:
        checkpoints = CheckpointConfig(keep_last=2).bind(run)
        for step in (1, 2, 2, 2):
            checkpoints.save(step, fresh())
    assert sorted({each.step for each in run.checkpoints() if each.effective}) == [1, 2]


def test_a_policy_that_somebody_set_stays_where_the_block_has_none(start: Start) -> None:
    with start(retention={"keep_last": 3}) as run:
        CheckpointConfig(interval=1).bind(run)
        assert run.retention == Retention(keep_last=3)
        CheckpointConfig(interval=1, keep_interval=2).bind(run)
        assert run.retention == Retention(keep_interval=2)
        CheckpointConfig(resume_step=-1, load_only=True).bind(run)
        assert run.retention == Retention(keep_interval=2)
