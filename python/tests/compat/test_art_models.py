"""Models and backends: registering, steps, training, logging, gathering."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree.compat import art
from runtree.compat.art.local import LocalBackend
from runtree.compat.art.serverless import ServerlessBackend

from .made import BASE, QUIET, add_one, model, safetensors, value_at, value_of, write_adapter, write_art, write_run

Make = Callable[..., LocalBackend]


def test_registering_and_asking_write_nothing(backend: Make) -> None:
    async def script() -> None:
        agent = model("agent")
        await agent.register(backend())
        assert await agent.get_step() == 0
        assert agent.checkpoint() is None
        assert agent.run is None

    asyncio.run(script())
    assert list(Path().iterdir()) == []


def test_a_model_that_is_not_registered_says_so() -> None:
    for ask in (lambda agent: agent.get_step(), lambda agent: agent.train([]), lambda agent: agent.log(metrics={})):
        with pytest.raises(runtree.Invalid, match="not registered"):
            asyncio.run(ask(model("agent")))


def test_another_base_model_is_refused_where_the_model_is_registered(backend: Make) -> None:
    write_run("agent", {5: 5.5})
    with pytest.raises(runtree.Conflict, match=f"{BASE}, not from other/Model") as refused:
        asyncio.run(model("agent", base_model="other/Model").register(backend()))
    assert "force=True" in str(refused.value)

    async def script() -> None:
        async with backend() as here:
            agent = model("agent", base_model="other/Model")
            await agent.register(here, force=True)
            assert agent.run is not None
            assert agent.run.config["base_model"] == "other/Model"

    asyncio.run(script())


def test_a_model_is_the_run_of_its_key(backend: Make) -> None:
    # Neither a display id, a number, a RunId's beginning nor a name of another run is the model.
    others = [write_run(key, {9: 9.5}) for key in ("first", "agent-10", "agent:x")]
    for name in ("1", "P-1", others[0].id[:8], "agent"):
        agent = model(name)
        asyncio.run(agent.register(backend()))
        assert agent.run is None
    write_run('a "quoted" \\name'.replace("\\", "~"), {4: 4.5})
    agent = model('a "quoted" ~name')
    asyncio.run(agent.register(backend()))
    assert asyncio.run(agent.get_step()) == 4


def test_training_saves_the_next_step_with_its_metrics(backend: Make) -> None:
    @dataclass
    class Settings:
        temperature: float

    async def script() -> art.TrainableModel:
        async with backend() as here:
            agent = model("agent", config=Settings(0.7), _internal_config={"peft_args": {"r": 8}})
            await agent.register(here)
            groups = [
                art.TrajectoryGroup([art.Trajectory(1.0, {"turns": 2}), art.Trajectory(0.0, {"won": True})]),
                art.TrajectoryGroup([art.Trajectory(0.5)], exceptions=[ValueError("x")]),
            ]
            first = await agent.train(groups, config=art.TrainConfig(learning_rate=5e-5))
            assert (first.step, await agent.get_step()) == (1, 1)
            assert first.metrics == {
                "train/reward": 0.5,
                "train/turns": 2.0,
                "train/won": 1.0,
                "train/reward_std_dev": 0.25,
                "train/exception_rate": 0.25,
                "train/learning_rate": 5e-5,
            }
            assert first.checkpoint.metrics["train/reward"] == 0.5
            second = await agent.train(groups)
            assert second.step == 2
            assert value_at(agent) == 2.0
        return agent

    agent = asyncio.run(script())
    assert agent.run is not None
    assert agent.run.status == "completed"
    assert agent.run.config == {"temperature": 0.7, "base_model": BASE, "internal_config": {"peft_args": {"r": 8}}}
    assert agent.run.history("train/reward").steps.tolist() == [1, 2]


def test_training_goes_on_where_it_stopped(backend: Make) -> None:
    async def script(updates: int) -> float:
        async with backend() as here:
            agent = model("agent")
            await agent.register(here)
            for _ in range(updates):
                await agent.train([])
            return value_at(agent)

    assert asyncio.run(script(2)) == 2.0
    assert asyncio.run(script(3)) == 5.0
    assert runtree.Store().run("agent").attempt == 2


def test_evaluating_what_was_trained_before_takes_nothing_back(backend: Make) -> None:
    async def script() -> int:
        async with backend() as here:
            agent = model("agent")
            await agent.register(here)
            await agent.log([art.Trajectory(0.5)], split="val")
            await agent.train([])
            return await agent.get_step()

    assert asyncio.run(script()) == 1
    assert asyncio.run(script()) == 2
    run = runtree.Store().run("agent")
    assert [each.step for each in run.checkpoints()] == [1, 2]
    assert run.history("val/reward").steps.tolist() == [0, 1]


def test_logging_names_and_averages_as_art_does(backend: Make) -> None:
    async def script() -> runtree.StoredRun:
        async with backend() as here:
            agent = model("agent")
            await agent.register(here)
            await agent.log([art.Trajectory(1.0), art.TrajectoryGroup([art.Trajectory(0.0)])], step=3)
            await agent.log(metrics={"reward": 0.2, "test/x": 1, "a/b": 2}, split="val", step=3)
            await agent.log(metrics={"mine/x": 1}, split="mine", step=4)
            assert agent.run is not None
            return agent.run

    run = asyncio.run(script())
    found = {
        name: each.values.tolist() for name, each in run.history("val/reward", "test/x", "val/a/b", "mine/x").items()
    }
    assert found == {"val/reward": [0.35], "test/x": [1], "val/a/b": [2], "mine/x": [1]}


def test_a_skipped_update_takes_no_byte(backend: Make) -> None:
    def skip(update: art.Update) -> None:
        if update.current is None:
            write_adapter(update.target, 1.5)
        else:
            update.skip()

    async def script() -> None:
        async with backend(trainer=skip) as here:
            agent = model("agent")
            await agent.register(here)
            await agent.train([])
            before = here.home().stats()["stored_bytes"]
            for _ in range(5):
                await agent.train([])
            assert await agent.get_step() == 6
            assert value_at(agent) == 1.5
            assert here.home().stats()["stored_bytes"] == before

    asyncio.run(script())


def test_trainers_may_be_coroutines_and_of_all(backend: Make) -> None:
    @art.trainer
    async def train(update: art.Update) -> None:
        await asyncio.sleep(0)
        write_adapter(update.target, 3.5)

    async def script(here: LocalBackend) -> None:
        agent = model("agent")
        await agent.register(here)
        await agent.train([])
        assert value_at(agent) == 3.5
        await here.close()

    asyncio.run(script(backend(trainer=None)))


def test_without_a_trainer_train_says_what_to_pass(backend: Make) -> None:
    async def script() -> None:
        agent = model("agent")
        await agent.register(backend(trainer=None))
        await agent.train([])

    with pytest.raises(runtree.Unsupported, match="nothing is here that trains") as refused:
        asyncio.run(script())
    assert "LocalBackend(trainer=" in str(refused.value)
    assert list(Path().iterdir()) == []


def torn(update: art.Update) -> None:
    write_adapter(update.target, 1.0)
    (update.target / "adapter_model.safetensors").write_bytes(safetensors(1.0)[:-4])


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (lambda update: None, "no whole adapter for step 1: empty"),
        (torn, "is torn"),
        (lambda update: update.skip(), "can not be skipped"),
        (lambda update: write_adapter(update.target, 1.0), "returns metrics or None"),
    ],
)
def test_a_trainer_that_does_not_do_its_part_saves_nothing(backend: Make, trainer: Any, words: str) -> None:
    async def script() -> None:
        async with backend(trainer=trainer) as here:
            agent = model("agent")
            await agent.register(here)
            with pytest.raises(runtree.Invalid, match=words):
                await agent.train([])
            assert agent.checkpoint() is None

    asyncio.run(script())


def test_an_exception_in_the_loop_is_how_the_run_ends(backend: Make) -> None:
    async def script() -> None:
        async with backend() as here:
            agent = model("agent")
            await agent.register(here)
            await agent.train([])
            raise ZeroDivisionError("in the loop")

    with pytest.raises(ZeroDivisionError):
        asyncio.run(script())
    run = runtree.Store().run("agent")
    assert (run.status, run.status_reason) == ("failed", "ZeroDivisionError: in the loop")
    assert [each.step for each in run.checkpoints()] == [1]


# ---- Gathering.


async def rollout(reward: float, log: list[str] | None = None) -> art.Trajectory:
    if log is not None:
        log.append(f"begins {reward}")
    await asyncio.sleep(0.01)
    if log is not None:
        log.append(f"ends {reward}")
    if reward < 0:
        raise ValueError(f"rollout {reward}")
    return art.Trajectory(reward)


def test_rollouts_run_beside_each_other() -> None:
    log: list[str] = []

    async def script() -> list[art.TrajectoryGroup]:
        return await art.gather_trajectory_groups(
            (art.TrajectoryGroup(rollout(scenario * 10 + k, log) for k in range(2)) for scenario in range(2)),
            pbar_desc="gather",
        )

    groups = asyncio.run(script())
    assert [[each.reward for each in group] for group in groups] == [[0, 1], [10, 11]]
    assert [line.split()[0] for line in log] == ["begins"] * 4 + ["ends"] * 4


@pytest.mark.parametrize(("allowed", "passes"), [(0, False), (1, True), (0.5, True), (0.2, False)])
def test_rollouts_that_fail(allowed: float, passes: bool) -> None:
    async def script() -> list[art.TrajectoryGroup]:
        groups = (art.TrajectoryGroup(rollout(reward) for reward in pair) for pair in [(1, -1), (2, 3)])
        return await art.gather_trajectory_groups(groups, max_exceptions=allowed)

    if not passes:
        with pytest.raises(ValueError, match="rollout -1"):
            asyncio.run(script())
        return
    groups = asyncio.run(script())
    assert [len(group) for group in groups] == [1, 2]
    assert [str(error) for error in groups[0].exceptions] == ["rollout -1"]


def test_groups_from_coroutines_and_what_comes_after_each() -> None:
    async def group(reward: float) -> art.TrajectoryGroup:
        return art.TrajectoryGroup([rollout(reward)])

    async def without_zeros(group: art.TrajectoryGroup) -> art.TrajectoryGroup | None:
        return group if group.trajectories[0].reward else None

    async def script() -> list[art.TrajectoryGroup]:
        return await art.gather_trajectory_groups([group(0), group(1)], after_each=without_zeros)

    assert [[each.reward for each in group] for group in asyncio.run(script())] == [[1]]


def test_groups_that_were_not_awaited_are_not_trained_with(backend: Make) -> None:
    waiting = rollout(1.0)

    async def script() -> None:
        agent = model("agent")
        await agent.register(backend())
        await agent.train([art.TrajectoryGroup([waiting])])

    with pytest.raises(runtree.Invalid, match="not awaited"):
        asyncio.run(script())
    waiting.close()


def test_what_is_no_trajectory_is_refused() -> None:
    with pytest.raises(runtree.InvalidType, match="a group has trajectories"):
        art.TrajectoryGroup([1.0])  # pyright: ignore[reportArgumentType]

    async def script() -> None:
        async def wrong() -> float:
            return 1.0

        await art.TrajectoryGroup([wrong()])  # pyright: ignore[reportArgumentType]

    with pytest.raises(runtree.InvalidType, match="a rollout returned a float"):
        asyncio.run(script())


def test_a_reward_that_is_no_number_spreads_to_nothing_else(backend: Make) -> None:
    from runtree.compat.art.trajectories import averages

    found = averages([art.TrajectoryGroup([art.Trajectory(math.nan), art.Trajectory(1.0, {"turns": 2})])])
    assert math.isnan(found["reward"])
    assert math.isnan(found["reward_std_dev"])
    assert found["turns"] == 2


# ---- Backends.


def test_a_model_that_art_trained_goes_on(tmp_path: Path, backend: Make, capfd: pytest.CaptureFixture[str]) -> None:
    history = [{"step": step, "val/reward": step / 10} for step in range(13)]
    left = write_art(tmp_path / "work" / ".art", "agent", {5: 5.5, 12: 12.5}, history=history)
    before = {path: path.read_bytes() for path in left.rglob("*") if path.is_file()}

    async def script(begins: int) -> art.TrainableModel:
        async with backend() as here:
            agent = model("agent")
            await agent.register(here)
            assert await agent.get_step() == begins
            await agent.train([])
            return agent

    agent = asyncio.run(script(12))
    assert value_at(agent) == 13.5
    assert agent.run is not None
    assert agent.run.history("val/reward").values.tolist() == [step / 10 for step in range(13)]
    assert "forked from" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in left.rglob("*") if path.is_file()} == before
    # The next start finds the run, and asks ART's directory nothing.
    asyncio.run(script(13))
    assert value_at(agent) == 14.5


def test_a_path_has_arts_models_and_the_store(tmp_path: Path) -> None:
    write_art(tmp_path / "mine", "old", {5: 5.5})

    async def script() -> None:
        async with LocalBackend(path=str(tmp_path / "mine"), trainer=add_one, init=QUIET) as here:
            agent = model("agent")
            assert await here._experimental_fork_checkpoint(agent, "old") == 5
            await agent.register(here)
            await agent.train([])

    asyncio.run(script())
    assert [each.step for each in runtree.Store(tmp_path / "mine" / ".runtree").run("agent").checkpoints()] == [5, 6]

    # A path that is a store is the store.
    async def again() -> int:
        agent = model("agent")
        await agent.register(LocalBackend(path=tmp_path / "mine" / ".runtree"))
        return await agent.get_step()

    assert asyncio.run(again()) == 6


def test_serverless_without_a_place_says_what_to_set() -> None:
    with pytest.raises(runtree.Invalid, match="nothing says where that is") as refused:
        ServerlessBackend()
    assert "RUNTREE_REMOTE=s3://" in str(refused.value)


def test_serverless_is_the_remote_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_REMOTE", str(tmp_path / "remote"))

    async def script() -> None:
        async with ServerlessBackend(trainer=add_one, init=QUIET) as here:
            agent = model("agent")
            await agent.register(here)
            await agent.train([])

    asyncio.run(script())
    assert [each.step for each in runtree.Store(tmp_path / "remote").run("agent").checkpoints()] == [1]
    assert list(Path().iterdir()) == []


def test_a_script_runs_the_same_where_runtree_is_disabled(backend: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")

    async def script() -> list[float]:
        seen: list[float] = []

        def watched(update: art.Update) -> None:
            add_one(update)
            seen.append(value_of(update.target))

        async with backend(trainer=watched) as here:
            agent = model("agent")
            assert await here._experimental_fork_checkpoint(agent, "old", not_after_step=5) == 0
            await agent.register(here)
            for _ in range(await agent.get_step(), 3):
                await agent.train([art.TrajectoryGroup([art.Trajectory(1.0)])])
                await agent.log(metrics={"reward": 1.0})
                assert await agent.delete_checkpoints() is None
            assert await agent.get_step() == 3
        return seen

    assert asyncio.run(script()) == [1.0, 2.0, 3.0]
    assert list(Path().iterdir()) == []


def test_two_models_of_one_backend_live_beside_each_other(backend: Make) -> None:
    async def script() -> None:
        async with backend() as here:
            first, second = model("first"), art.TrainableModel[dict](name="second", project="p", base_model=BASE)
            for each in (first, second):
                await each.register(here)
            await asyncio.gather(first.train([]), second.train([]))
            await first.train([])
            assert (await first.get_step(), await second.get_step()) == (2, 1)

    asyncio.run(script())
    assert {run.status for run in runtree.Store().runs()} == {"completed"}


def test_the_directory_of_a_checkpoint_is_what_was_saved(backend: Make) -> None:
    def whole(update: art.Update) -> None:
        write_adapter(update.target, 1.5)
        (update.target / "tokenizer").mkdir()
        (update.target / "tokenizer" / "vocab.json").write_text("{}")

    async def script() -> None:
        async with backend(trainer=whole) as here:
            agent = model("agent")
            await agent.register(here)
            await agent.train([])
            assert agent.run is not None
            directory = agent.run.dir()
            assert value_of(directory) == 1.5
            assert (directory / "tokenizer" / "vocab.json").read_text() == "{}"
            assert not os.access(directory / "adapter_config.json", os.W_OK) or os.geteuid() == 0

    asyncio.run(script())
