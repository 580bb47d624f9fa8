"""Forking models: each row of what ART's released code was seen to do, with the right outcome."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtree
from runtree.compat import art
from runtree.compat.art.local import LocalBackend

from .conftest import Origin
from .made import BASE, QUIET, add_one, model, safetensors, value_at, value_of, write_adapter, write_art, write_run

Make = Callable[..., LocalBackend]


def fork(backend: LocalBackend, to: art.TrainableModel, from_model: str, **arguments: Any) -> int:
    return asyncio.run(backend._experimental_fork_checkpoint(to, from_model=from_model, **arguments))


def step_of(to: art.TrainableModel, backend: LocalBackend) -> int:
    async def ask() -> int:
        await to.register(backend)
        return await to.get_step()

    return asyncio.run(ask())


@pytest.mark.parametrize(("not_after", "taken"), [(None, 10), (5, 5), (7, 5), (0, 0)])
def test_row_the_newest_or_the_last_not_after_a_step(
    origin: Origin, backend: Make, not_after: int | None, taken: int
) -> None:
    origin.put("old", {0: 0.5, 1: 1.5, 5: 5.5, 10: 10.5})
    here, new = backend(), model("new")
    assert fork(here, new, "old", not_after_step=not_after, **origin.arguments) == taken
    assert step_of(new, here) == taken
    assert value_at(new) == taken + 0.5
    assert new.run is not None
    assert new.run.fork_step == taken
    # Step 0 and none are two things, which get_step alone does not tell.
    assert new.checkpoint() is not None


def test_row_nothing_is_early_enough(origin: Origin, backend: Make) -> None:
    origin.put("old", {0: 0.5, 5: 5.5})
    here, new = backend(), model("new")
    with pytest.raises(art.NoCheckpoint, match="not after step -1") as refused:
        fork(here, new, "old", not_after_step=-1, **origin.arguments)
    assert "0, 5" in str(refused.value)
    # What ART raises, and what runtree does.
    assert isinstance(refused.value, (ValueError, FileNotFoundError))
    assert isinstance(refused.value, runtree.NotFound)
    assert step_of(new, here) == 0
    assert new.run is None


def test_row_the_step_is_there_with_other_files(origin: Origin, backend: Make) -> None:
    origin.put("old", {5: 5.5})
    mine = write_run("new", {5: 7.0})
    here, new = backend(), model("new")
    with pytest.raises(runtree.Conflict, match="another checkpoint at step 5") as refused:
        fork(here, new, "old", **origin.arguments)
    assert "force=True" in str(refused.value)
    assert value_of(mine.dir()) == 7.0
    # Forced, the model is another run; nothing of the one before is lost.
    assert fork(here, new, "old", force=True, **origin.arguments) == 5
    assert step_of(new, here) == 5
    assert value_at(new) == 5.5
    assert value_of(runtree.Store().run(mine.id).dir(5)) == 7.0


def test_row_the_step_is_there_with_the_same_files(origin: Origin, backend: Make) -> None:
    origin.put("old", {5: 5.5})
    mine = write_run("new", {5: 5.5})
    here, new = backend(), model("new")
    assert fork(here, new, "old", **origin.arguments) == 5
    assert step_of(new, here) == 5
    assert new.run == mine


def test_row_a_later_step_is_there(origin: Origin, backend: Make) -> None:
    origin.put("old", {10: 10.5})
    write_run("new", {20: 7.0})
    here, new = backend(), model("new")
    with pytest.raises(runtree.Conflict, match="step 20, later than step 10") as refused:
        fork(here, new, "old", **origin.arguments)
    assert "another name" in str(refused.value)
    assert step_of(new, here) == 20
    assert fork(here, new, "old", force=True, **origin.arguments) == 10
    assert step_of(new, here) == 10
    assert value_at(new) == 10.5


def test_row_a_model_that_is_only_behind_goes_on_as_the_fork(origin: Origin, backend: Make) -> None:
    origin.put("old", {10: 10.5})
    before = write_run("new", {3: 3.5})
    here, new = backend(), model("new")
    assert fork(here, new, "old", **origin.arguments) == 10
    assert step_of(new, here) == 10
    assert new.run != before
    assert [each.step for each in runtree.Store().run(before.id).checkpoints()] == [3]


def test_row_a_model_onto_itself(beside: Origin, backend: Make) -> None:
    beside.put("same", {3: 3.5, 5: 5.5})
    here, same = backend(), model("same")
    for force in (False, True):
        with pytest.raises(runtree.Conflict, match="onto itself") as refused:
            fork(here, same, "same", not_after_step=3, force=force)
        assert "another name" in str(refused.value)
    assert step_of(same, here) == 5
    assert value_at(same) == 5.5


@pytest.mark.parametrize("torn", ["empty", "no config", "no weights", "half a header", "half the tensors", "no JSON"])
def test_row_the_newest_of_art_is_empty_or_half_written(tmp_path: Path, backend: Make, torn: str) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5})
    newest = root / "checkpoints" / "0012"
    newest.mkdir()
    if torn != "empty":
        write_adapter(newest, 12.5)
        weights, config = newest / "adapter_model.safetensors", newest / "adapter_config.json"
        whole = safetensors(12.5)
        {
            "no config": config.unlink,
            "no weights": weights.unlink,
            "half a header": lambda: weights.write_bytes(whole[:40]),
            "half the tensors": lambda: weights.write_bytes(whole[:-100]),
            "no JSON": lambda: config.write_text('{"r": 8'),
        }[torn]()
    here, new = backend(), model("new")
    with pytest.warns(runtree.RuntreeWarning, match=r"checkpoint 0005 of old is taken, as not whole are 0012 \("):
        assert fork(here, new, "old") == 5
    assert step_of(new, here) == 5
    assert value_at(new) == 5.5
    # Where it was not asked for, nothing has to be said.
    assert fork(here, model("early"), "old", not_after_step=11) == 5
    with pytest.raises(art.NoCheckpoint, match="no whole checkpoint") as refused:
        fork(here, model("other"), "old", not_after_step=4)
    assert "checkpoints there: 5" in str(refused.value)


def test_row_a_save_that_was_killed_is_no_checkpoint(backend: Make) -> None:
    write_run("old", {5: 5.5})
    write_adapter(Path("half"), 9.5)
    # One of two parts is written; the process dies before the other comes.
    script = (
        "import os, runtree\n"
        "run = runtree.init('p', run_id='old', resume='must', system_metrics=False, environment=False)\n"
        "save = run.save_dir('half', step=9, parts={'trainer': 1, 'orchestrator': 1})\n"
        "assert save._native.wait_part(30)\n"
        "os._exit(9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "RUNTREE_ATTEMPT": "one"}, check=False, timeout=60
    )
    assert killed.returncode == 9
    here, new = backend(), model("new")
    assert fork(here, new, "old") == 5
    assert step_of(model("old"), here) == 5


@pytest.mark.parametrize("directory", ["7", "²", "00012", "0007.tmp", "latest", "-001"])
def test_row_directories_that_are_no_steps(tmp_path: Path, backend: Make, directory: str) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {})
    write_adapter(root / "checkpoints" / directory, 7.5)
    here, new = backend(), model("new")
    with pytest.raises(art.NoCheckpoint) as refused:
        fork(here, new, "old")
    assert f"{directory} (not called as ART calls a step" in str(refused.value)
    assert step_of(new, here) == 0
    assert new.run is None
    write_adapter(root / "checkpoints" / "0003", 3.5)
    (root / "checkpoints" / "0099").write_text("a file")
    write_adapter(root / "checkpoints" / "100000", 9.5)
    assert fork(here, new, "old", not_after_step=99) == 3
    assert fork(here, model("wide"), "old") == 100000


def test_row_a_link_inside_a_checkpoint_stays_a_link(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5, 6: 6.5})
    (root / "checkpoints" / "0005" / "same.safetensors").symlink_to("adapter_model.safetensors")
    here, new = backend(), model("new")
    fork(here, new, "old", not_after_step=5)
    step_of(new, here)
    assert new.run is not None
    assert (new.run.dir() / "same.safetensors").readlink() == Path("adapter_model.safetensors")
    # One that leaves it would bring what nobody asked for.
    (tmp_path / "secret").write_text("x")
    (root / "checkpoints" / "0006" / "other").symlink_to(tmp_path / "secret")
    with pytest.raises(runtree.Invalid, match="outside the saved directory"):
        fork(here, model("other"), "old")


@pytest.mark.parametrize("not_after", [None, 7])
def test_rows_the_prefix_of_a_bucket_is_honoured(tmp_path: Path, backend: Make, not_after: int | None) -> None:
    bucket = tmp_path / "bucket"
    write_art(bucket, "old", {5: 1.0, 6: 1.0})
    write_art(bucket / "team" / "a", "old", {3: 2.0})
    here, new = backend(), model("new")
    arguments = {"from_s3_bucket": str(bucket), "not_after_step": not_after}
    assert fork(here, new, "old", prefix="team/a/", **arguments) == 3
    step_of(new, here)
    assert value_at(new) == 2.0
    (bucket / "team" / "b").mkdir()
    with pytest.raises(art.NoCheckpoint, match="team/b"):
        fork(here, model("other"), "old", prefix="team/b", **arguments)
    assert step_of(model("other"), here) == 0


def test_row_the_bucket_has_5_and_here_is_12(elsewhere: Origin, backend: Make) -> None:
    elsewhere.put("old", {5: 5.5})
    mine = write_run("old", {12: 12.5})
    here, new = backend(), model("new")
    assert fork(here, new, "old", **elsewhere.arguments) == 5
    step_of(new, here)
    assert value_at(new) == 5.5
    # And the model that is here is what it was, also for who forks it next.
    other = model("other")
    assert fork(here, other, "old") == 12
    step_of(other, here)
    assert value_at(other) == 12.5
    assert other.run is not None
    assert other.run.parent == mine.display_id
    assert step_of(model("old"), here) == 12


def test_row_the_bucket_is_empty_and_here_is_3(elsewhere: Origin, backend: Make) -> None:
    elsewhere.put("another", {3: 3.5})
    write_run("old", {3: 3.5})
    new = model("new")
    with pytest.raises(art.NoCheckpoint, match="old"):
        fork(backend(), new, "old", **elsewhere.arguments)
    assert step_of(new, backend()) == 0


def test_row_a_stale_file_of_here_is_not_forked(elsewhere: Origin, backend: Make, tmp_path: Path) -> None:
    elsewhere.put("old", {5: 5.5})
    stale = write_art(tmp_path / "work" / ".art", "old", {5: 5.5}) / "checkpoints" / "0005" / "stale.bin"
    stale.write_bytes(b"of another time")
    here, new = backend(), model("new")
    fork(here, new, "old", **elsewhere.arguments)
    step_of(new, here)
    assert new.run is not None
    assert sorted(path.name for path in new.run.dir().iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("registered", ["after", "before", "before and logged"])
def test_row_the_order_of_fork_and_register_does_not_matter(origin: Origin, backend: Make, registered: str) -> None:
    origin.put("old", {10: 10.5})

    async def script() -> art.TrainResult:
        async with backend() as here:
            new = model("new")
            if registered != "after":
                await new.register(here)
            if registered == "before and logged":
                await new.log(metrics={"reward": 0.1}, step=0)
            step = await here._experimental_fork_checkpoint(new, from_model="old", **origin.arguments)
            if registered == "after":
                await new.register(here)
            assert step == await new.get_step() == 10
            return await new.train([])

    trained = asyncio.run(script())
    assert trained.step == 11
    assert value_of(trained.checkpoint.dir()) == 11.5


@pytest.mark.parametrize("differs", ["base model", "rank"])
def test_row_another_base_model_or_rank(origin: Origin, backend: Make, differs: str) -> None:
    origin.put("old", {5: 5.5}, rank=16)
    fields: dict[str, Any] = (
        {"base_model": "other/Model-7B"} if differs == "base model" else {"_internal_config": {"peft_args": {"r": 8}}}
    )
    here, new = backend(), model("new", **fields)
    with pytest.raises(runtree.Conflict, match=BASE if differs == "base model" else "rank 16") as refused:
        fork(here, new, "old", **origin.arguments)
    assert "force=True" in str(refused.value)
    assert step_of(new, here) == 0
    assert fork(here, new, "old", force=True, **origin.arguments) == 5
    assert step_of(new, here) == 5


def test_a_rank_that_the_model_has_already_counts(backend: Make) -> None:
    write_run("old", {5: 5.5}, rank=16)
    write_run("new", {1: 1.5}, rank=8)
    with pytest.raises(runtree.Conflict, match="rank 16"):
        fork(backend(), model("new"), "old")


@pytest.mark.parametrize(
    ("says", "fits"), [("unsloth/Qwen3-14B-Instruct-unsloth-bnb-4bit", True), ("other/Qwen3-8B", False)]
)
def test_without_a_record_the_adapter_says_what_it_was_made_for(
    tmp_path: Path, backend: Make, says: str, fits: bool
) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {}, base_model=None)
    write_adapter(root / "checkpoints" / "0005", 5.5, base_model=says)
    if fits:
        assert fork(backend(), model("new"), "old") == 5
    else:
        with pytest.raises(runtree.Conflict, match="Qwen3-8B"):
            fork(backend(), model("new"), "old")


# ---- What ART does not have.


def test_the_lineage_is_recorded_and_the_history_goes_on(origin: Origin, backend: Make) -> None:
    rows = {step: {"val/reward": step / 10} for step in range(13)}
    history = [{"step": step, **values} for step, values in rows.items()]
    origin.put("old", {5: 5.5}, **({"history": history} if "art" in origin.kind else {"points": rows}))
    here, new = backend(), model("new")
    fork(here, new, "old", **origin.arguments)
    step_of(new, here)
    assert new.run is not None
    parent = new.run.store.run(str(new.run.parent))
    assert parent.name == "old"
    assert parent.config["base_model"] == BASE
    assert new.run.history("val/reward").steps.tolist() == [0, 1, 2, 3, 4, 5]
    assert next(segment.last for segment in new.run.lineage()) == 5
    assert new.run in parent.children()


def test_a_script_that_is_started_again_goes_on_with_its_fork(origin: Origin, backend: Make) -> None:
    origin.put("old", {5: 5.5})

    async def script() -> list[int]:
        async with backend() as here:
            new = model("new")
            forked = await here._experimental_fork_checkpoint(new, from_model="old", **origin.arguments)
            await new.register(here)
            await new.train([])
            return [forked, await new.get_step()]

    assert asyncio.run(script()) == [5, 6]
    # The parent goes on, too: the fork that was made is the fork.
    origin.put("old", {9: 9.5})
    assert asyncio.run(script()) == [5, 7]
    # So is the same fork, asked for in other words; an earlier one is refused.
    assert fork(backend(), model("new"), "old", not_after_step=8, **origin.arguments) == 5
    assert step_of(model("new"), backend()) == 7
    origin.put("older", {3: 3.5})
    with pytest.raises(runtree.Conflict, match="step 7, later than step 3"):
        fork(backend(), model("new"), "older", **origin.arguments)


def test_the_same_fork_in_other_words_is_the_same(backend: Make) -> None:
    write_run("old", {5: 5.5, 9: 9.5})
    here, new = backend(), model("new")
    assert fork(here, new, "old", not_after_step=5) == 5
    assert step_of(new, here) == 5
    asyncio.run(new.train([]))
    first = new.run
    assert fork(here, new, "old", not_after_step=6) == 5
    assert step_of(new, here) == 6
    assert new.run == first
    asyncio.run(here.close())


def test_a_model_that_lives_here_is_replaced_only_as_a_whole(backend: Make) -> None:
    write_run("old", {5: 5.5})

    async def script() -> None:
        async with backend() as here:
            new = model("new")
            await new.register(here)
            await new.train([])
            before = new.run
            assert await here._experimental_fork_checkpoint(new, from_model="old") == 5
            assert (await new.train([])).step == 6
            assert value_at(new) == 6.5
            assert before is not None
            assert runtree.Store().run(before.id).status == "stopped"

    asyncio.run(script())


def test_a_step_that_the_parent_saves_again_is_not_the_forks(backend: Make) -> None:
    old = runtree.init("p", "old", run_id="old", **QUIET)
    old.save_dir(write_adapter(Path("first"), 5.5), step=5).result()

    async def script() -> float:
        async with backend() as here:
            new = model("new")
            await here._experimental_fork_checkpoint(new, from_model="old")
            old.save_dir(write_adapter(Path("again"), 7.5), step=5).result()
            await new.register(here)
            await new.train([])
            return value_at(new)

    assert asyncio.run(script()) == 6.5


def test_what_was_asked_for_a_parent_was_not_asked_for_its_heir(backend: Make) -> None:
    write_run("old", {5: 5.5, 9: 9.5})
    here = backend()
    fork(here, model("middle"), "old", not_after_step=5)
    # It inherits the config of the middle one, with what stands there.
    runtree.Store().fork("middle@5", run_id="new", name="new")
    assert fork(here, model("new"), "old", not_after_step=5, verbose=True) == 5
    assert fork(here, model("new"), "old") == 9


def test_a_name_that_is_no_unicode_is_told(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {})
    write_adapter(Path(os.fsdecode(os.fsencode(root / "checkpoints") + b"/00\xff5")), 5.5)
    with pytest.raises(art.NoCheckpoint) as refused:
        fork(backend(), model("new"), "old")
    assert "not called as ART calls a step" in str(refused.value).encode().decode()


def test_a_fork_into_another_project(backend: Make) -> None:
    write_run("old", {5: 5.5}, project="first")
    here, new = backend(), model("new", "second")
    assert fork(here, new, "old", from_project="first") == 5
    assert step_of(new, here) == 5
    assert new.run is not None
    assert new.run.project == "second"
    with pytest.raises(art.NoCheckpoint, match="'second'"):
        fork(here, model("other", "second"), "old")


def test_a_fork_of_a_fork_that_was_not_trained(other_store: Origin, backend: Make) -> None:
    other_store.put("old", {5: 5.5})
    there = backend(store=other_store.store)
    assert fork(there, model("middle"), "old") == 5
    here, new = backend(), model("new")
    assert fork(here, new, "middle", **other_store.arguments) == 5
    step_of(new, here)
    assert value_at(new) == 5.5


def test_only_the_missing_chunks_of_one_checkpoint_come(other_store: Origin, backend: Make) -> None:
    other_store.put("old", {step: step + 0.5 for step in range(6)})
    here, new = backend(), model("new")
    fork(here, new, "old", not_after_step=3, **other_store.arguments)
    step_of(new, here)
    assert new.run is not None
    assert [each.step for each in new.run.checkpoints()] == [3]
    chunks = list((new.run.store.path / "chunks").rglob("*"))
    assert sum(path.is_file() for path in chunks) <= 3


def test_of_a_fork_that_was_trained_comes_what_it_saved_itself(other_store: Origin, backend: Make) -> None:
    other_store.put("old", {5: 5.5})

    async def there() -> None:
        async with backend(store=other_store.store) as place:
            middle = model("middle")
            await place._experimental_fork_checkpoint(middle, "old")
            await middle.register(place)
            await middle.train([])

    asyncio.run(there())
    here, new = backend(), model("new")
    assert fork(here, new, "middle", **other_store.arguments) == 6
    step_of(new, here)
    assert value_at(new) == 6.5
    assert new.run is not None
    assert [segment.run for segment in new.run.lineage()] == ["P-1", "P-2", "P-2", "P-3"]
    chunks = list((new.run.store.path / "chunks").rglob("*"))
    assert sum(path.is_file() for path in chunks) <= 3


def test_a_model_is_restored_from_where_it_was_kept(elsewhere: Origin, backend: Make) -> None:
    elsewhere.put("mine", {3: 3.5, 5: 5.5})
    here, mine = backend(), model("mine")
    assert fork(here, mine, "mine", not_after_step=3, **elsewhere.arguments) == 3
    assert step_of(mine, here) == 3
    assert value_at(mine) == 3.5
    asyncio.run(mine.train([]))
    assert value_at(mine) == 4.5
    asyncio.run(here.close())


def test_a_checkpoint_that_was_deleted_here_comes_again_if_it_is_asked_for(other_store: Origin, backend: Make) -> None:
    other_store.put("old", {3: 3.5, 5: 5.5})
    here = backend()
    assert fork(here, model("old"), "old", **other_store.arguments) == 5
    runtree.Store().checkpoint("p/old@5").delete()
    new = model("new")
    assert fork(here, new, "old", **other_store.arguments) == 5
    assert step_of(new, here) == 5


def test_a_trained_parent_goes_on_and_its_forks_stay(backend: Make) -> None:
    async def script() -> None:
        async with backend() as here:
            old, new = model("old"), model("new")
            await old.register(here)
            for _ in range(3):
                await old.train([])
            # Forked while it lives: what was saved a moment ago is there.
            assert await here._experimental_fork_checkpoint(new, from_model="old") == 3
            await new.register(here)
            await old.train([])
            await new.train([], art.TrainConfig(learning_rate=1e-7))
            assert (await old.get_step(), await new.get_step()) == (4, 4)
            assert new.run is not None
            assert new.run.history("train/learning_rate").values.tolist()[-1] == 1e-7

    asyncio.run(script())


@pytest.mark.parametrize("name", ["../../../esc", "..", "a/b", "a\\b", "", "a\nb", "/etc", "."])
def test_names_never_leave_their_directory(tmp_path: Path, backend: Make, name: str) -> None:
    write_art(tmp_path, "esc", {5: 5.5}, project="")
    before = sorted(tmp_path.rglob("*"))
    for what in ("name", "project"):
        with pytest.raises(runtree.Invalid, match="leave its directory"):
            art.TrainableModel(**{"name": "n", "project": "p", "base_model": BASE, what: name})
    with pytest.raises(runtree.Invalid, match="leave its directory"):
        fork(backend(), model("new"), name)
    if name:
        with pytest.raises(runtree.Invalid, match="leave its directory"):
            fork(backend(), model("new"), "old", from_project=name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"not_after_step": "5"}, "not a step"),
        ({"not_after_step": True}, "not a step"),
        ({"prefix": "x"}, "of no bucket"),
        ({"from_s3_bucket": ""}, "neither a bucket"),
        ({"from_s3_bucket": "./b", "prefix": "../x"}, "leaves its bucket"),
        ({"from_entity": "others"}, "no entities"),
    ],
)
def test_what_can_not_be_meant_is_refused(backend: Make, arguments: dict[str, Any], words: str) -> None:
    write_run("old", {5: 5.5})
    with pytest.raises(runtree.Invalid, match=words):
        fork(backend(), model("new"), "old", **arguments)


def test_a_directory_that_is_not_there_says_so(backend: Make) -> None:
    with pytest.raises(runtree.NotFound, match="no directory"):
        fork(backend(), model("new"), "old", from_s3_bucket="./nowhere")


def test_a_model_that_is_not_there_lists_those_that_are(backend: Make) -> None:
    write_run("my-model-v1", {5: 5.5})
    with pytest.raises(art.NoCheckpoint, match="no model 'my-model'") as refused:
        fork(backend(), model("new"), "my-model")
    assert "my-model-v1" in str(refused.value)


def test_verbose_tells_what_happens(backend: Make, capfd: pytest.CaptureFixture[str]) -> None:
    write_run("old", {5: 5.5, 9: 9.5})
    fork(backend(), model("new"), "old", not_after_step=8, verbose=True)
    told = capfd.readouterr().err
    assert "old: step 5" in told
    assert "forked from" in told
    fork(backend(), model("quiet"), "old")
    assert capfd.readouterr().err == ""


def test_no_byte_is_copied(backend: Make) -> None:
    write_run("old", {5: 5.5})
    store = runtree.Store()
    before = store.stats()["stored_bytes"]
    fork(backend(), model("new"), "old")
    assert store.stats()["stored_bytes"] == before


def test_json_of_a_model_that_is_no_object_is_no_record(tmp_path: Path, backend: Make) -> None:
    root = write_art(tmp_path / "work" / ".art", "old", {5: 5.5})
    (root / "model.json").write_text(json.dumps(["not", "an", "object"]))
    assert fork(backend(trainer=add_one), model("new"), "old") == 5
