"""Deleting checkpoints of models: each row of what ART's released code was seen to do, with the right outcome."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree.compat import art
from runtree.compat.art.local import LocalBackend
from runtree.compat.art.serverless import ServerlessBackend

from .made import QUIET, add_one, model, write_adapter, write_art, write_run

Make = Callable[..., LocalBackend]
Rows = list[tuple[int, dict[str, Any]]]


class Kept:
    """What :func:`delete` left."""

    def __init__(self, agent: art.TrainableModel, plan: runtree.PrunePlan | None, warned: list[str]) -> None:
        assert agent.run is not None
        self.steps = [each.step for each in agent.run.checkpoints(inherited=False)]
        self.plan = plan
        self.warned = warned


def delete(backend: LocalBackend | ServerlessBackend, metric: str = "val/reward", **how: Any) -> Kept:
    """Registers the model ``agent`` and deletes, with nobody training it."""

    async def script() -> Kept:
        agent = model("agent")
        await agent.register(backend)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            plan = await agent.delete_checkpoints(best_checkpoint_metric=metric, **how)
        return Kept(agent, plan, [str(each.message) for each in caught])

    return asyncio.run(script())


def logged(backend: LocalBackend, rows: Rows, steps: Iterable[int] = range(4)) -> None:
    """The model ``agent``, with checkpoints at steps, and rows logged as ART's ``model.log`` does, in order."""

    async def script() -> None:
        async with backend:
            agent = model("agent")
            await agent.register(backend)
            run = backend.launch(agent)
            for step in sorted({*steps, *(at for at, _ in rows)}):
                for at, values in rows:
                    if at == step:
                        await agent.log(metrics=values, step=at)
                if step in steps:
                    await run.save_dir(write_adapter(Path("adapter"), step), step=step)

    asyncio.run(script())


@pytest.fixture(params=["idle", "live"])
def kept(request: pytest.FixtureRequest, backend: Make) -> Callable[..., Kept]:
    """Logs rows, deletes, and says what is kept: after the training, or in the middle of it."""

    def after(rows: Rows, metric: str = "val/reward", steps: Iterable[int] = range(4), **how: Any) -> Kept:
        logged(backend(), rows, steps)
        here = backend()
        if request.param == "live":
            here.launch(model("agent"))
        found = delete(here, metric, **how)
        asyncio.run(here.close())
        return found

    return after


REWARDS: Rows = [(1, {"val/reward": 0.1}), (2, {"val/reward": 0.9}), (3, {"val/reward": 0.5})]


def test_row_best_and_newest_are_kept(kept: Callable[..., Kept]) -> None:
    found = kept(REWARDS)
    assert found.steps == [2, 3]
    assert found.warned == []


def test_row_several_rows_of_one_step_count_as_their_mean(kept: Callable[..., Kept]) -> None:
    rows: Rows = [
        (1, {"val/reward": 0.0}),
        (1, {"val/reward": 0.9}),
        (2, {"val/reward": 0.5}),
        (3, {"val/reward": 0.1}),
    ]
    assert kept(rows).steps == [2, 3]


def test_row_a_tie_goes_to_the_later_step(kept: Callable[..., Kept]) -> None:
    rows: Rows = [(step, {"val/reward": 0.5}) for step in range(20)]
    assert kept([*rows, (20, {"val/reward": 0.1})], steps=range(21)).steps == [19, 20]


def test_row_a_metric_that_nothing_has_deletes_nothing(kept: Callable[..., Kept]) -> None:
    found = kept([(step, {"val/rewrad": 0.5}) for step in range(4)])
    assert found.steps == [0, 1, 2, 3]
    [warning] = found.warned
    assert "val/reward" in warning
    assert "val/rewrad" in warning
    assert found.plan is not None
    assert found.plan.unranked is not None
    assert all(each.keep for each in found.plan.decisions)


def test_row_a_metric_that_nothing_has_keeps_the_newest_if_it_must_be(kept: Callable[..., Kept]) -> None:
    assert kept([], force=True).steps == [3]


def test_row_a_metric_that_appears_after_a_hundred_rows_is_seen(kept: Callable[..., Kept]) -> None:
    rows: Rows = [(step, {"train/reward": 0.1}) for step in range(120)]
    rows += [(110, {"val/reward": 0.9}), (115, {"val/reward": 0.2})]
    assert kept(rows, steps=[5, 110, 115, 119]).steps == [110, 119]


def test_row_the_best_that_is_there_is_kept_not_the_best_that_was(kept: Callable[..., Kept]) -> None:
    rows: Rows = [
        (1, {"val/reward": 9.0}),
        (2, {"val/reward": 0.9}),
        (3, {"val/reward": 0.1}),
        (4, {"val/reward": 0.5}),
    ]
    assert kept(rows, steps=[2, 3, 4]).steps == [2, 4]


def test_row_a_text_is_no_value(kept: Callable[..., Kept]) -> None:
    found = kept([(step, {"val/reward": "good"}) for step in range(4)])
    assert found.steps == [0, 1, 2, 3]
    assert len(found.warned) == 1


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_row_what_is_no_finite_number_is_not_the_best_and_stops_nothing(kept: Callable[..., Kept], odd: float) -> None:
    rows: Rows = [(0, {"val/reward": odd}), (1, {"val/reward": 0.9}), (2, {"val/reward": 0.1}), (3, {"x": odd})]
    assert kept(rows).steps == [1, 3]


def test_row_of_a_loss_the_least_is_the_best(kept: Callable[..., Kept]) -> None:
    rows: Rows = [(step, {"val/loss": value}) for step, value in enumerate([3.0, 0.5, 2.0, 1.0])]
    with pytest.raises(runtree.Invalid, match="val/loss:min or val/loss:max"):
        kept(rows, "val/loss")
    assert kept(rows, "val/loss", mode="min").steps == [1, 3]


def test_of_a_loss_the_other_end_may_be_asked_for(kept: Callable[..., Kept]) -> None:
    rows: Rows = [(step, {"val/loss": value}) for step, value in enumerate([3.0, 0.5, 2.0, 1.0])]
    assert kept(rows, "val/loss:max").steps == [0, 3]


def test_row_any_metric_ranks(kept: Callable[..., Kept]) -> None:
    # A later version of ART turns the names around.
    rows: Rows = [(step, {"train/eval_1_score": -step, "reward/val": step % 2}) for step in range(4)]
    assert kept(rows, "train/eval_1_score").steps == [0, 3]


def test_row_no_table_reader_no_gpu_no_service(backend: Make) -> None:
    logged(backend(), REWARDS)
    script = (
        "import asyncio, sys\n"
        "from runtree.compat import art\n"
        "async def main():\n"
        "    agent = art.TrainableModel(name='agent', project='p', base_model='OpenPipe/Qwen3-14B-Instruct')\n"
        "    await agent.register(art.LocalBackend())\n"
        "    await agent.delete_checkpoints()\n"
        "    print([each.step for each in agent.run.checkpoints()], agent.run.attempt)\n"
        "asyncio.run(main())\n"
        "assert not {'polars', 'torch', 'numpy', 'boto3', 'vllm'} & set(sys.modules)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    # No launch was begun for it, either: the one that trained is the only one.
    assert told.stdout == "[2, 3] 1\n", told.stderr


def test_row_any_machine_deletes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_REMOTE", str(tmp_path / "remote"))
    trained = ServerlessBackend(init=QUIET)
    logged(trained, REWARDS)  # pyright: ignore[reportArgumentType]
    # Another machine has neither files nor an index of the first.
    other = tmp_path / "other machine"
    other.mkdir()
    monkeypatch.chdir(other)
    monkeypatch.setenv("XDG_CACHE_HOME", str(other / "cache"))
    runtree.store._open.clear()
    assert delete(ServerlessBackend()).steps == [2, 3]
    assert list(other.iterdir()) == [other / "cache"]


def test_row_what_is_in_use_stays(backend: Make) -> None:
    logged(backend(), REWARDS, steps=range(6))
    run = runtree.Store().run("agent")
    # A reference of a penalty, an evaluation that is going on, a fork.
    run.checkpoint(0).pin("kl reference")
    run.checkpoint(1).tag("evaluating")
    run.fork(4)
    found = delete(backend())
    assert found.steps == [0, 1, 2, 4, 5]
    assert found.plan is not None
    reasons = {each.step: " ".join(each.reasons) for each in found.plan.decisions}
    assert "no rule keeps it" in reasons[3]


def test_row_what_is_deleted_can_come_back(backend: Make) -> None:
    logged(backend(), REWARDS)
    found = delete(backend())
    assert found.plan is not None
    gone = {each.step: each.checkpoint for each in found.plan.decisions if not each.keep}
    assert sorted(gone) == [0, 1]
    gone[1].undelete()
    assert [each.step for each in runtree.Store().run("agent").checkpoints()] == [1, 2, 3]


def test_row_a_look_changes_nothing(kept: Callable[..., Kept]) -> None:
    found = kept(REWARDS, dry_run=True)
    assert found.steps == [0, 1, 2, 3]
    assert found.plan is not None
    assert [each.step for each in found.plan.decisions if not each.keep] == [0, 1]
    assert found.plan.apply() == 2


def test_row_deletion_reaches_the_bucket(tmp_path: Path) -> None:
    remote = str(tmp_path / "remote")
    logged(ServerlessBackend(remote, init=QUIET), REWARDS)  # pyright: ignore[reportArgumentType]
    assert delete(ServerlessBackend(remote)).steps == [2, 3]
    # Nothing brings back what was deleted: a pull takes what is there.
    home = runtree.Store(tmp_path / "home", create=True)
    home.pull(remote)
    assert [each.step for each in home.run("agent").checkpoints()] == [2, 3]


def test_only_what_the_model_itself_saved_is_deleted(backend: Make) -> None:
    write_run("old", {step: step for step in range(4)}, points={1: {"val/reward": 9.0}})

    async def script() -> art.TrainableModel:
        async with backend() as here:
            agent = model("agent")
            await here._experimental_fork_checkpoint(agent, "old")
            await agent.register(here)
            for reward in (0.1, 0.9, 0.2):
                await agent.train([art.TrajectoryGroup([art.Trajectory(reward)])])
            await agent.delete_checkpoints(best_checkpoint_metric="train/reward")
            return agent

    agent = asyncio.run(script())
    assert agent.run is not None
    assert [each.step for each in agent.run.checkpoints(inherited=False)] == [5, 6]
    assert [each.step for each in runtree.Store().run("old").checkpoints()] == [0, 1, 2, 3]


def test_a_model_without_checkpoints_has_nothing_to_delete(backend: Make) -> None:
    agent = model("agent")

    async def script() -> None:
        await agent.register(backend())
        assert await agent.delete_checkpoints() is None

    asyncio.run(script())


@pytest.mark.parametrize("mode", ["up", "MIN"])
def test_a_mode_that_is_none_is_refused(backend: Make, mode: str) -> None:
    logged(backend(), REWARDS)
    with pytest.raises(runtree.Invalid, match="neither 'min' nor 'max'"):
        delete(backend(), mode=mode)


# ---- The same rows where ART itself wrote the history, and the model goes on here.


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([{"val/reward": 0.1}, {"val/reward": 0.9}, {"val/reward": 0.5}], 1),
        ([{"val/reward": 0.5}] * 3, 2),
        ([{"train/reward": 0.5}] * 110 + [{"val/reward": 0.9}, {"val/reward": 0.1}], 110),
        ([{"val/reward": 0.9}, '{"step": 1, "val/reward": Infinity}', '{"step": 2, "val/rew'], 0),
        ([{"val/reward": 0.9}, {"val/reward": True}, {"val/reward": "9"}, {"val/reward": None}], 0),
        (["", "[1]", "null", {"val/reward": 0.9}], 3),
    ],
    ids=["plain", "tie", "late", "torn and infinite", "bools, texts, nulls", "no rows"],
)
def test_rows_of_a_history_that_art_wrote(tmp_path: Path, backend: Make, rows: list[Any], best: int) -> None:
    last = len(rows)
    history: list[str | Mapping[str, Any]] = [
        row if isinstance(row, str) else {"step": step, "recorded_at": "2026-01-02T03:04:05+00:00", **row}
        for step, row in enumerate(rows)
    ]
    directory = write_art(tmp_path / "work" / ".art", "agent", {last: 1.0}, history=history)

    async def script() -> runtree.StoredRun:
        here = backend()
        agent = model("agent")
        await agent.register(here)
        assert agent.run is not None
        return agent.run

    run = asyncio.run(script())
    ranked = {
        step: value
        for step, value in zip(run.history("val/reward").steps, run.history("val/reward").values, strict=True)
        if math.isfinite(value)
    }
    assert max(ranked, key=lambda step: (ranked[step], step)) == best
    assert (directory / "history.jsonl").exists()


def test_a_history_is_read_line_by_line() -> None:
    from runtree.compat.art.history import parse

    found = parse(
        [
            json.dumps({"step": 1, "a": 1, "training_step": 1, "recorded_at": "2026-01-02T03:04:05Z"}),
            '{"step": 1, "a": 2.0, "b": NaN}',
            '{"step": 2, "a": -Infinity, "c": 1' + "0" * 400 + "}",
            '{"step": true, "a": 1}',
            '{"step": "3", "a": 1}',
            '{"a": 1}',
            "[" * 100_000,
            b"\xff\xfe",
            '{"step": 9, "a": 1',
        ]
    )
    assert found.points[1]["a"] == 1.5
    assert math.isnan(found.points[1]["b"])
    assert found.points[2] == {"a": -math.inf, "c": math.inf}
    assert list(found.points) == [1, 2]
    assert found.times == {1: 1767323045.0}
    assert found.bad_lines == 6


def test_in_the_loop_nothing_goes_before_the_metric_appears(backend: Make) -> None:
    async def script() -> list[list[int]]:
        seen: list[list[int]] = []
        async with backend(trainer=add_one) as here:
            agent = model("agent")
            await agent.register(here)
            for step in range(1, 7):
                await agent.train([])
                if step >= 4:
                    await agent.log(metrics={"reward": -step}, split="val")
                await agent.delete_checkpoints()
                assert agent.run is not None
                seen.append([each.step for each in agent.run.checkpoints()])
        return seen

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen = asyncio.run(script())
    assert seen == [[1], [1, 2], [1, 2, 3], [4], [4, 5], [4, 6]]
    assert len([each for each in caught if issubclass(each.category, runtree.RuntreeWarning)]) == 1
