"""What a lineage says of itself: launches and what they left, own and effective values, siblings, heads."""

from __future__ import annotations

from typing import Any

import pytest

import runtree


def finished(
    start: Any, *, steps: range, save: tuple[int, ...] = (), scale: float = 1.0, **options: Any
) -> runtree.Run:
    run = start(**options)
    for step in steps:
        run.log({"loss": scale / (step + 1), "reward": scale * step}, step=step)
        if step in save:
            run.save({"step": step}, step=step).result()
    run.finish()
    return run


def test_own_and_effective_values_of_a_fork(start: Any) -> None:
    parent = finished(start, steps=range(11), save=(5,))
    child = finished(start, steps=range(6, 9), fork=f"{parent.display_id}@5", scale=0.5)
    loss = child.summary()["loss"]
    assert loss.points == 9
    assert loss.max == (0, 1.0)
    assert loss.last == loss.min == (8, 0.5 / 9)
    own = child.summary(inherited=False)["loss"]
    assert (own.points, own.max, own.last) == (3, (6, 0.5 / 7), (8, 0.5 / 9))
    # A fork that logged nothing inherits everything and has nothing of its own.
    waiting = child.store.fork(f"{parent.display_id}@5")
    assert waiting.summary()["loss"].last == (5, 1 / 6)
    assert waiting.summary(inherited=False) == {}


def test_a_ghost_tail_can_be_read(start: Any) -> None:
    first = start(run_id="r", resume="allow")
    for step in range(8):
        first.log({"loss": float(step)}, step=step)
        if step == 3:
            first.save({"step": 3}, step=3).result()
    first.finish()
    second = start(run_id="r", resume="allow")
    second.log({"loss": 40.0}, step=4)
    second.finish()
    old, new = second.attempts()
    assert (old.number, old.kind, old.ghost_from, old.steps) == (1, "start", 4, (0, 7))
    assert (new.number, new.kind, new.ghost_from, new.base) == (2, "resume", None, (second.display_id, 1, 3))
    ghost = second.history("loss", attempt=1, steps=(old.ghost_from, None))
    assert ghost.values.tolist() == [4.0, 5.0, 6.0, 7.0]
    assert second.history("loss").values.tolist() == [0.0, 1.0, 2.0, 3.0, 40.0]


def test_siblings_of_a_checkpoint_as_a_table(start: Any) -> None:
    parent = finished(start, steps=range(10), save=(4, 9), config={"lr": 0.1, "data": {"seed": 1}})
    ref = f"{parent.display_id}@4"
    for lr in (0.01, 0.02):
        finished(start, steps=range(5, 7), fork=ref, config={"lr": lr}, scale=lr)
    finished(start, steps=range(10, 12), fork=f"{parent.display_id}@9", config={"data": {"seed": 2}})
    sweep = parent.store.sweep(ref)
    assert sweep.reference == ref
    assert sweep.config_keys == ["lr"], "the seed differs in a fork of another checkpoint"
    assert sweep.metrics == {"loss": "min", "reward": "max"}
    assert [run.config["lr"] for run in sweep] == [0.01, 0.02]
    rows = sweep.rows()
    assert [row["config.lr"] for row in rows] == [0.1, 0.01, 0.02], "the parent comes first"
    assert rows[1]["last(loss)"] == pytest.approx(0.01 / 7)
    assert rows[1]["min(loss)"] == pytest.approx(0.01 / 7)
    assert rows[1]["max(reward)"] == 4.0, "an inherited value is the best one"
    assert sweep.to_pandas()["last_step"].tolist() == [9, 6, 6]
    assert sweep.to_arrow().column("config.lr").to_pylist() == [0.1, 0.01, 0.02]
    assert "0.01" in repr(sweep)


def test_what_was_not_forked_says_what_was(start: Any) -> None:
    parent = finished(start, steps=range(10), save=(4, 9))
    parent.store.fork(f"{parent.display_id}@4")
    with pytest.raises(runtree.NotFound, match="nothing was forked") as refused:
        parent.store.sweep(parent.display_id)
    assert refused.value.hint == f"there are forks of {parent.display_id}@4"


def test_the_head_of_an_experiment(start: Any) -> None:
    parent = finished(start, steps=range(6), save=(5,))
    child = parent.store.fork(f"{parent.display_id}@5")
    other = parent.store.fork(f"{parent.display_id}@5")
    assert parent.head() in (parent, child, other), "the one that was active last"
    child.make_head()
    assert parent.head() == other.head() == child
    with pytest.warns(runtree.RuntreeWarning, match="own history"):
        grandchild = finished(start, steps=range(6, 8), fork_run_id=child.display_id, fork_step=5, save=(7,))
    assert grandchild.head() == child, "it stays what it was made"
    grandchild.make_head()
    assert parent.head() == grandchild, "the later word counts"


def test_a_fork_is_born_in_another_project(start: Any) -> None:
    parent = finished(start, steps=range(6), save=(5,), config={"lr": 0.1})
    child = parent.store.fork(f"{parent.display_id}@5", into="another", config={"lr": 0.2}, run_id="k")
    assert (child.project, child.number) == ("another", 1)
    assert child.fork_run_id == parent.display_id
    assert child.history("loss").steps.tolist() == list(range(6))
    assert child.config == {"lr": 0.2}
    assert child.load()["step"] == 5
    assert parent.children() == [child]
    assert parent.store.fork(f"{parent.display_id}@5", into="another", run_id="k") == child, "one key, one run"
    with runtree.init("another", run_id="k", resume="must", system_metrics=False, console=False) as live:
        assert live.next_step == 6
        assert live.load()["step"] == 5
