"""The code of ART's two documents runs: with the import lines changed, these repairs, and nothing else.

``samples/`` has it as it stands there. Its buckets and models are made here, and what trains is told to ``art.trainer``.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree.compat import art
from runtree.compat.art import places
from runtree.compat.art.training import Update

from . import made

SAMPLES = Path(__file__).parent / "samples"

IMPORTS = [
    ("import art\n", "from runtree.compat import art\n"),
    ("from art.local import LocalBackend", "from runtree.compat.art.local import LocalBackend"),
    ("from art.serverless.backend import ServerlessBackend", "from runtree.compat.art.serverless.backend import ServerlessBackend"),
]  # fmt: skip

#: What is wrong in the documents themselves: (document, heading) → (as it stands there, as it is meant).
REPAIRS = {
    # `model` is not defined there.
    ("forking", "Example: lowering the learning rate"): [("await model.register(", "await low_lr_model.register(")],
    ("deleting", "A training loop"): [
        ("from .scenarios load_train_scenarios", "from .scenarios import load_train_scenarios"),
        # The loop's own body says `step`.
        ("for _step in range(", "for step in range("),
    ],
    ("deleting", "Deleting within the training loop"): [("for _step in range(", "for step in range(")],
}


def sample(document: str, heading: str) -> str:
    """A block of code, repaired."""
    text = (SAMPLES / f"{document}.md").read_text()
    [code] = re.findall(rf"## {re.escape(heading)}\n```python\n(.*?)```", text, re.DOTALL)
    for there, meant in REPAIRS.get((document, heading), []):
        assert code.count(there) == 1, there
        code = code.replace(there, meant)
    for there, here in IMPORTS:
        code = code.replace(there, here)
    return code


class Script:
    """Names that blocks of code share, in a package that has ``rollout`` and ``scenarios``."""

    def __init__(self, **names: Any) -> None:
        self.names: dict[str, Any] = {"__name__": "sample.script", "__package__": "sample", **names}

    async def run(self, code: str) -> None:
        """Runs a block, with ``await`` outside of functions, as in a notebook."""
        compiled = compile(code, "sample", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(compiled, self.names)
        if waiting is not None:
            await waiting


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """``from .rollout import rollout``, ``from .scenarios import load_train_scenarios``."""

    async def rollout(model: art.TrainableModel, scenario: int, step: int) -> art.Trajectory:
        await asyncio.sleep(0)
        # Best where 30 updates were made.
        return art.Trajectory(reward=scenario - abs(step - 29) / 10)

    modules: dict[str, dict[str, Any]] = {
        "sample": {"__path__": []},
        "sample.rollout": {"rollout": rollout},
        "sample.scenarios": {"load_train_scenarios": lambda: [1, 2]},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


def updates(seen: list[Update]) -> Any:
    """A trainer that says what it was given."""

    def train(update: Update) -> None:
        seen.append(update)
        made.add_one(update)

    return train


# ---- Forking.


def test_forking_at_or_before_a_step() -> None:
    made.write_run("my-model-v1", {100: 1.5, 480: 4.5, 520: 9.5}, project="my-project")

    async def main() -> None:
        script = Script()
        await script.run(sample("forking", "Basic usage"))
        await script.names["train"]()

    asyncio.run(main())
    new = runtree.Store().run("my-model-v2", project="my-project")
    assert (new.fork_step, new.checkpoint().step) == (480, 480)
    assert made.value_of(new.dir()) == 4.5
    assert new.config["base_model"] == made.BASE
    assert new.parent == runtree.Store().run("my-model-v1").display_id


@pytest.mark.parametrize("kind", ["store", "art"])
def test_forking_from_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    bucket: Path | str = tmp_path / "bucket"
    if os.environ.get("RUNTREE_TEST_BUCKET"):
        # The sample names the bucket itself; each kind has one prefix of it, which the sample does not name.
        bucket = f"s3://my-backup-bucket-{kind}-{os.getpid()}"
        made.put(bucket.removeprefix("s3://"), "")
    monkeypatch.setattr(places, "locate", lambda name, prefix: {"my-backup-bucket": bucket}[name])
    if kind == "store":
        made.write_run("my-model-v1", {480: 4.5, 520: 9.5}, project="my-project", store=bucket)
    else:
        made.write_art(tmp_path / "sent", "my-model-v1", {480: 4.5, 520: 9.5}, project="my-project")
        if isinstance(bucket, str):
            made.put_tree(bucket.removeprefix("s3://"), "", tmp_path / "sent")
        else:
            (tmp_path / "sent").rename(bucket)
    # What is here under that name is another's.
    made.write_run("my-model-v1", {490: 0.0}, project="my-project")

    async def main() -> art.TrainableModel:
        async with art.LocalBackend(init=made.QUIET) as backend:
            model = made.model("my-model-v2", "my-project")
            await Script(model=model, backend=backend).run(sample("forking", "Forking from S3"))
            await model.register(backend)
            assert await model.get_step() == 480
            return model

    assert made.value_at(asyncio.run(main())) == 4.5


def test_forking_to_lower_the_learning_rate() -> None:
    made.write_run("summarizer-base", {500: 0.5, 1000: 1.5, 1500: 9.5}, project="experiments")
    seen: list[Update] = []
    art.trainer(updates(seen))

    async def main() -> None:
        script = Script()
        # The example goes on from the first one, with its imports.
        await script.run(sample("forking", "Basic usage"))
        await script.run(sample("forking", "Example: lowering the learning rate"))
        await script.names["experiment"]()
        # "Now train with a lower learning rate".
        model = script.names["low_lr_model"]
        await model.train([], config=art.TrainConfig(learning_rate=1e-6))
        assert await model.get_step() == 1001

    asyncio.run(main())
    [update] = seen
    assert update.config.learning_rate == 1e-6
    run = runtree.Store().run("summarizer-low-lr")
    assert run.fork_step == 1000
    assert made.value_of(run.dir()) == 2.5


# ---- Deleting.


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runtree.Store:
    """Where ``ServerlessBackend()`` keeps things: beside ``scripts/with-s3`` a bucket."""
    bucket = os.environ.get("RUNTREE_TEST_BUCKET")
    place = f"{bucket}/samples-{os.getpid()}-{tmp_path.name}" if bucket else str(tmp_path / "remote")
    monkeypatch.setenv("RUNTREE_REMOTE", place)
    return runtree.Store(place, create=True)


def steps(store: runtree.Store) -> list[int]:
    return [each.step for each in store.run("agent-001").checkpoints()]


def test_deleting_all_but_the_best_and_the_newest(remote: runtree.Store) -> None:
    rewards = {step: {"val/reward": -abs(step - 2), "train/eval_1_score": -step} for step in range(1, 6)}
    made.write_run(
        "agent-001", dict.fromkeys(range(1, 6), 1.0), project="checkpoint-deletion-demo", store=remote.location, points=rewards
    )  # fmt: skip

    async def main() -> None:
        script = Script()
        await script.run(sample("deleting", "Deleting"))
        assert steps(remote) == [2, 5]
        await script.run(sample("deleting", "Another metric"))
        # Of those that there are, the one with the highest score.
        assert steps(remote) == [2, 5]

    asyncio.run(main())


def test_training_without_deleting_keeps_everything(remote: runtree.Store) -> None:
    seen: list[Update] = []
    art.trainer(updates(seen))
    asyncio.run(Script().run(sample("deleting", "A training loop")))
    assert steps(remote) == list(range(1, 51))
    assert {update.config.learning_rate for update in seen} == {5e-5}
    assert [len(update.groups) for update in seen] == [2] * 50
    assert {len(group) for update in seen for group in update.groups} == {8}


def test_deleting_in_the_loop_keeps_two(remote: runtree.Store) -> None:
    art.trainer(updates([]))

    async def main() -> None:
        script = Script()
        # `...` stands for what comes before the loop in the sample before.
        await script.run(sample("deleting", "A training loop").partition("# training loop")[0])
        await script.run(sample("deleting", "Deleting within the training loop"))
        assert made.value_at(script.names["model"]) == 50.0

    asyncio.run(main())
    # After update 30 the reward was best.
    assert steps(remote) == [30, 50]


def test_a_loop_that_is_killed_goes_on_where_it_was(remote: runtree.Store) -> None:
    killed: list[int] = []

    @art.trainer
    def train(update: Update) -> None:
        if update.step == 20 and not killed:
            killed.append(update.step)
            raise KeyboardInterrupt
        made.add_one(update)

    async def main() -> None:
        script = Script()
        await script.run(sample("deleting", "A training loop").partition("# training loop")[0])
        await script.run(sample("deleting", "Deleting within the training loop"))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    for run in list(runtree._live._runs.values()):
        run.finish("stopped")
    asyncio.run(main())
    assert steps(remote) == [30, 50]
    assert made.value_of(remote.run("agent-001").dir()) == 50.0
