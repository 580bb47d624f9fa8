"""Deleting checkpoints from Python: policies, plans, the loop of seed 004."""

from __future__ import annotations

import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy
import pytest

import runtree
from runtree import BestN, EveryNSteps, LatestN, NewerThan, Retention


def trained(steps: range, every: int = 10, **init: Any) -> runtree.Run:
    run = runtree.init("p", **init)
    for step in steps:
        run.log({"loss": 1 / (step + 1), "val/reward": step % 30}, step=step)
        if step % every == 0:
            run.save({"w": numpy.full(64, step, "f4")}).result()
    return run


def steps(run: runtree.StoredRun) -> list[int]:
    return [each.step for each in run.checkpoints(inherited=False)]


def test_a_plan_is_a_table_with_reasons_and_changes_nothing_until_it_is_applied() -> None:
    run = trained(range(41))
    plan = run.prune(keep_last=1, keep_best="loss:min:2", dry_run=True)
    # Losses fall: the best two are the newest two.
    kept = [each.step for each in plan.decisions if each.keep]
    assert kept == [0, 10, 20, 30, 40][-2:]
    assert plan.decisions[-1].reasons[0] == "newest"
    lines = str(plan).splitlines()
    assert len(lines) == 6
    assert "no rule keeps it" in lines[1]
    assert "least loss" in lines[-1]
    assert plan.freed_bytes >= 0
    assert steps(run) == [0, 10, 20, 30, 40]
    assert plan.apply() == 3
    assert plan.apply() == 0
    assert steps(run) == [30, 40]
    assert plan.decisions[-1].checkpoint.step == 40
    run.finish()


def test_init_keeps_what_it_was_told_to_and_a_resumed_run_goes_on_with_it() -> None:
    run = trained(range(31), run_id="k", retention={"keep_last": 2})
    assert run.finish().warnings == []
    assert steps(run) == [20, 30]
    again = runtree.init("p", run_id="k", resume="must")
    assert again.retention == Retention(keep_last=2)
    again.log({"loss": 0.0}, step=40)
    again.save({"w": numpy.zeros(64, "f4")}).result()
    again.finish()
    assert steps(again) == [30, 40]
    store = runtree.Store()
    store.set_retention(None, run=again.id)
    store.set_retention(LatestN(7))
    assert again.retention == LatestN(7)
    store.set_retention(Retention(keep_best=("loss", "min", 2), keep_newer_than="2h"), project="p")
    assert again.retention == BestN(2, "loss", "min") | NewerThan(timedelta(hours=2))


def test_best_and_latest_in_the_loop_also_before_the_metric_appears() -> None:
    run = runtree.init("p")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(8):
            run.log({"loss": 1.0}, step=step)
            if step >= 4:
                run.log({"val/reward": 1.0 if step == 5 else 0.5}, step=step)
            run.save({"w": numpy.full(64, step, "f4")}).result()
            plan = run.delete_checkpoints()
            if step < 4:
                assert plan.unranked is not None
                assert all(each.keep for each in plan.decisions)
        run.finish()
    [warning] = [str(each.message) for each in caught if issubclass(each.category, runtree.RuntreeWarning)]
    assert "val/reward" in warning
    assert steps(run) == [5, 7]


def test_the_other_end_of_a_metric_is_said() -> None:
    run = trained(range(41))
    run.delete_checkpoints(best_checkpoint_metric="loss:max")
    assert steps(run) == [0, 40]
    with pytest.raises(runtree.Invalid, match="loss:min or loss:max"):
        run.delete_checkpoints(best_checkpoint_metric="loss")
    run.finish()


def test_an_unknown_metric_is_an_error_where_nobody_trains() -> None:
    run = trained(range(21))
    run.finish()
    store = runtree.Store()
    with pytest.raises(runtree.NotFound, match="did you mean val/reward"):
        store.prune(run.id, keep_best="val/rewrad")
    with pytest.raises(runtree.Invalid, match="nothing says"):
        store.prune(run.id)
    plan = store.prune(run.id, LatestN(1))
    assert plan.applied
    assert steps(run) == [20]
    assert plan.decisions[0].checkpoint.state == "deleted"


def test_what_a_fork_starts_from_stays() -> None:
    run = trained(range(41))
    fork = run.fork(10)
    run.checkpoint(20).pin()
    run.checkpoint(30).tag("paper")
    run.prune(keep_last=1)
    assert steps(run) == [10, 20, 30, 40]
    assert fork.fork_step == 10
    run.finish()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (LatestN(2) | EveryNSteps(1000), "keep the last 2, every 1000 steps"),
        (LatestN(2) | LatestN(3) | EveryNSteps(4) | EveryNSteps(8), "keep the last 3, every 4 steps"),
        (BestN(3, "val/loss", "min"), "keep the best by val/loss:min:3 and what has no value of it"),
        (BestN(1, "acc", keep_checkpoints_without_metrics=False), "keep the best by acc:max"),
        (Retention(keep_best={"acc": "max", "val/loss": "min"}, keep_without_metric=False),
         "keep the best by acc:max, the best by val/loss:min"),
        (NewerThan(90), "keep what is younger than 90 s"),
        (Retention.of({"max_to_keep": 5, "keep_period": 100}), "keep the last 5, every 100 steps"),
        (Retention.of({"keep_every": 100}), "keep every 100 steps"),
    ],
)  # fmt: skip
def test_rules_say_what_they_are(policy: Retention, words: str) -> None:
    assert str(policy) == words


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({}, "no rule"),
        ({"keep_last": 0}, "at least 1"),
        ({"keep_last": True}, "not a whole number"),
        ({"keep_lst": 2}, "no rule of a retention policy"),
        ({"keep_last": 2, "max_to_keep": 3}, "another name"),
        ({"keep_best": "val/loss"}, "val/loss:min or val/loss:max"),
        ({"keep_best": [("acc", "up")]}, "neither 'min' nor 'max'"),
        ({"keep_best": [3]}, "is no rule"),
        ({"keep_newer_than": "soon"}, "no length of time"),
        (7, "not a int"),
    ],
)
def test_a_policy_that_can_not_be_meant_is_refused_before_anything_is_written(rules: Any, words: str) -> None:
    with pytest.raises(runtree.Invalid, match=words):
        runtree.init("p", retention=rules)
    assert not Path(".runtree").exists()


def test_two_intervals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(runtree.Invalid, match="two intervals"):
        _ = EveryNSteps(3) | EveryNSteps(5)


def test_a_disabled_run_deletes_nothing_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = runtree.init("p", retention={"keep_last": 2})
    assert run.delete_checkpoints().decisions == []
    assert run.prune(keep_last=1).apply() == 0
