"""Orbax: what its managers write comes into a run byte for byte; arrays go straight into it and come back where they are wanted."""

from __future__ import annotations

import collections
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtree

jax = pytest.importorskip("jax")
ocp = pytest.importorskip("orbax.checkpoint")
import numpy as np  # noqa: E402
from jax import numpy as jnp  # noqa: E402

from runtree.integrations import orbax  # noqa: E402

from . import trees  # noqa: E402

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(300)


def program(name: str, *arguments: str, devices: int, **environ: str) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-W", "error::runtree.errors.RuntreeWarning", str(HERE / name), *arguments],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **environ},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str], code: int = 0) -> Any:
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture
def run(start: Callable[..., runtree.Run]) -> Iterator[runtree.Run]:
    with start() as run:
        yield run


def state(value: float) -> dict[str, Any]:
    return {"w": jnp.full((4, 3), value), "half": jnp.ones(5, jnp.bfloat16) * value, "n": {"count": jnp.array(3)}}


def same(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


# ---- Real trainings on four devices.


def test_a_training_on_four_devices_is_killed_resumed_and_forked() -> None:
    first = answer(program("orbax_trainer.py", "first", devices=4), -signal.SIGKILL)
    second = answer(program("orbax_trainer.py", "second", devices=4))
    for plug in ("files", "arrays"):
        # A save that was on its way may have been lost, the one before it never.
        assert second[f"{plug} from"] in (6, 8)
        assert second[plug] == first[plug]
        run = runtree.Store().run(f"cut-{plug}")
        # The manager kept one.
        assert [each.step for each in run.checkpoints() if each.effective] == [2, 4, 6, 8, 10, 12]
        assert run.attempt == 2
        whole = runtree.Store().run(f"whole-{plug}").history("loss")
        history = dict(zip(run.history("loss").steps.tolist(), run.history("loss").values.tolist(), strict=True))
        # Where a step was finalised that the run had not, training goes on after it.
        assert set(whole.steps.tolist()) - history.keys() <= ({7, 8} if second[f"{plug} from"] == 6 else set())
        assert all(whole.values[whole.steps == step] == value for step, value in history.items())
        [fork] = run.children()
        best = int(whole.steps[1::2][np.argmin(whole.values[1::2])])
        assert fork.fork_step == second[f"{plug} fork"][0] == best
        assert fork.history("loss").values[:best].tolist() == whole.values[:best].tolist()
        assert [each.step for each in fork.checkpoints(inherited=False)] == list(range(best + 2, 17, 2))
    # Both plugs hold the same training.
    assert second["files fork"] == second["arrays fork"]
    # What four devices saved is restored on this process's one, and is what Orbax has in its files.
    files = runtree.Store().run("cut-files")
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = {"w1": (16, 8), "w2": (16,)}
    model = {name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here) for name, shape in shapes.items()}
    one = {"model": model, "momentum": model, "key": jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=here), "step": 0}
    with ocp.StandardCheckpointer() as checkpointer:
        read = checkpointer.restore(files.dir(12) / "default", one)
    restored = orbax.restore(runtree.Store().run("cut-arrays").checkpoint(12), one)
    assert same(restored["model"], read["model"])
    assert same(restored["momentum"], read["momentum"])
    assert restored["model"]["w1"].sharding == here
    assert restored["step"] == read["step"] == 12


def test_two_processes_save_the_shards_they_have_and_one_restores_them() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    both = [program("orbax_processes.py", devices=2, PROCESS=str(process), PORT=port) for process in range(2)]
    told = [answer(process) for process in both]
    assert told == [{"equal": True, "steps": [1, 2]}] * 2
    [run] = runtree.Store().runs()
    assert run.name == "both"
    checkpoint = run.checkpoint(2)
    assert len(checkpoint.parts) == 2
    shards = [each for each in checkpoint.tensors() if each["name"] == "rows"]
    # Four devices have a quarter each; of what is on two of them, one saves it.
    assert [each["shape"] for each in shards] == [[2, 4]] * 4
    assert sum(each["bytes"] for each in checkpoint.tensors() if each["name"] == "halves") == 8 * 4 * 4
    loaded = checkpoint.load()
    assert np.array_equal(loaded["rows"], np.arange(32.0, dtype="f4").reshape(8, 4) + 2)
    assert np.array_equal(loaded["halves"], np.arange(32.0, dtype="f4").reshape(8, 4) * 2)
    assert np.array_equal(loaded["all"], np.ones(3, "f4"))
    target = {"rows": jax.ShapeDtypeStruct((8, 4), jnp.float32), "halves": np.zeros((8, 4), "f4")}
    restored = orbax.restore(checkpoint, target)
    assert isinstance(restored["rows"], jax.Array)
    assert isinstance(restored["halves"], np.ndarray)
    assert np.array_equal(restored["rows"], loaded["rows"])


# ---- As they are: directories of Orbax.


def test_every_step_is_in_the_run_although_the_manager_removes_it_at_once(run: runtree.Run, tmp_path: Path) -> None:
    options = ocp.CheckpointManagerOptions(max_to_keep=1, best_fn=lambda metrics: metrics["loss"], best_mode="min")
    with orbax.CheckpointManager(tmp_path / "steps", run=run, options=options) as manager:
        for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
            manager.save(step, args=ocp.args.StandardSave(state(step)), metrics={"loss": loss})
    assert [path.name for path in (tmp_path / "steps").iterdir()] == ["2"]
    assert [each.step for each in run.checkpoints()] == [1, 2, 3]
    assert [each.metrics["loss"] for each in run.checkpoints()] == [3.0, 1.0, 2.0]
    assert run.history("loss").values.tolist() == [3.0, 1.0, 2.0]
    assert run.checkpoint("best:loss:min").step == 2
    assert trees.look(run.checkpoint(2).export(tmp_path / "out")) == trees.look(tmp_path / "steps" / "2")
    with ocp.StandardCheckpointer() as checkpointer:
        for step in (1, 2, 3):
            assert same(checkpointer.restore(run.dir(step) / "default", state(0)), state(step))


@pytest.mark.parametrize("is_async", [True, False])
def test_steps_are_taken_in_whatever_their_names_are(run: runtree.Run, tmp_path: Path, is_async: bool) -> None:
    options = ocp.CheckpointManagerOptions(
        step_prefix="ckpt", step_format_fixed_length=6, enable_async_checkpointing=is_async
    )
    with orbax.CheckpointManager(tmp_path / "steps", run=run, options=options) as manager:
        manager.save(7, args=ocp.args.StandardSave(state(7)))
        manager.save(8, args=ocp.args.StandardSave(state(8)))
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == ["ckpt_000007", "ckpt_000008"]
    assert [each.step for each in run.checkpoints()] == [7, 8]


def test_the_callback_of_orbax_takes_in_what_is_renamed_after_it(run: runtree.Run, tmp_path: Path) -> None:
    ingest = orbax.StepIngest(run, tmp_path / "steps")
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, async_options=ocp.AsyncOptions(post_finalization_callback=ingest)
    )
    with ocp.CheckpointManager(tmp_path / "steps", options=options) as manager:
        for step in (1, 2, 3):
            manager.save(step, args=ocp.args.StandardSave(state(step)))
            # As long as a step takes.
            manager.wait_until_finished()
            ingest.wait()
    assert [each.step for each in run.checkpoints()] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".runtree-")] == []
    assert trees.look(run.checkpoint(3).export(tmp_path / "out")) == trees.look(tmp_path / "steps" / "3")


def test_what_a_launch_left_finalised_is_taken_in_by_the_next(
    again: Callable[..., runtree.Run], start: Callable[..., runtree.Run], tmp_path: Path
) -> None:
    with start(run_id="sft") as first, orbax.CheckpointManager(tmp_path / "steps", run=first) as manager:
        manager.save(1, args=ocp.args.StandardSave(state(1)))
    # It died after Orbax had finalised a step, and before it was taken in. Another was half written.
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(2, args=ocp.args.StandardSave(state(2)))
    (tmp_path / "steps" / "3.orbax-checkpoint-tmp").mkdir()
    with start() as other:
        assert orbax.StepIngest(other, tmp_path / "steps").take_in() == []
        taken = orbax.StepIngest(other, tmp_path / "steps", existing=True).take_in()
        assert [each.result().step for each in taken] == [1, 2]
    with again() as second:
        taken = orbax.StepIngest(second, tmp_path / "steps").take_in()
        assert [each.result().step for each in taken] == [2]
        assert orbax.StepIngest(second, tmp_path / "steps").take_in() == []
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(4, args=ocp.args.StandardSave(state(4)))
    with again() as third, orbax.CheckpointManager(tmp_path / "steps", run=third) as manager:
        assert third.resumed_from is not None
        assert third.resumed_from.step == 2
        # What Orbax has is not trained again.
        assert manager.bring() == 4
        assert manager.bring(1) == 1
        manager.save(5, args=ocp.args.StandardSave(state(5)))
    assert [each.step for each in third.checkpoints()] == [1, 2, 4, 5]


def test_a_fork_begins_with_the_files_of_its_parent(start: Callable[..., runtree.Run], tmp_path: Path) -> None:
    with start() as parent, orbax.CheckpointManager(tmp_path / "parent", run=parent) as manager:
        for step in (1, 2):
            manager.save(step, args=ocp.args.StandardSave(state(step)))
    with start(fork=f"{parent.display_id}@1") as fork, orbax.CheckpointManager(tmp_path / "fork", run=fork) as manager:
        assert manager.bring() == 1
        assert manager.all_steps() == [1]
        assert same(manager.restore(1, args=ocp.args.StandardRestore(state(0))), state(1))
        manager.save(2, args=ocp.args.StandardSave(state(20)))
    assert trees.look(tmp_path / "fork" / "1") == trees.look(tmp_path / "parent" / "1")
    assert [each.step for each in fork.checkpoints(inherited=False)] == [2]


def test_a_directory_that_can_not_be_read_is_a_warning(run: runtree.Run, tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        manager.save(1, args=ocp.args.StandardSave(state(1)))
    (tmp_path / "steps" / "1" / "out").symlink_to("/etc/hostname")
    with pytest.warns(runtree.RuntreeWarning, match="was not taken in"):
        assert orbax.StepIngest(run, tmp_path / "steps", existing=True).take_in() == []


def test_disabled_it_saves_what_orbax_saves(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = start()
    with orbax.CheckpointManager(tmp_path / "steps", run=run) as manager:
        manager.save(1, args=ocp.args.StandardSave(state(1)), metrics={"loss": 1.0})
        assert manager.ingest.take_in() == []
    assert (tmp_path / "steps" / "1").is_dir()
    assert not Path(".runtree").exists()


# ---- Straight: arrays of a run.


class Moments(collections.namedtuple("Moments", "mu nu")):
    """As optax has them."""


@jax.tree_util.register_pytree_with_keys_class
class TrainState:
    """As flax has them: a node of its own class."""

    def __init__(self, params: Any, moments: Any) -> None:
        self.params, self.moments = params, moments

    def tree_flatten_with_keys(self) -> Any:
        key = jax.tree_util.GetAttrKey
        return ((key("params"), self.params), (key("moments"), self.moments)), None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> TrainState:
        return cls(*children)


def test_nodes_of_other_classes_come_back_as_they_were(run: runtree.Run, tmp_path: Path) -> None:
    whole = TrainState(state(1), (Moments(state(2), [state(3), None]), {"step": 4, "name": "sgd"}))
    with ocp.CheckpointManager(tmp_path / "steps", item_handlers=orbax.RuntreeCheckpointHandler(run)) as manager:
        manager.save(5, args=orbax.RuntreeSave(whole, metrics={"loss": 0.5}, name="five"))
        back = manager.restore(5, args=orbax.RuntreeRestore(whole))
        plain = manager.restore(5)
    assert isinstance(back, TrainState)
    assert isinstance(back.moments[0], Moments)
    assert jax.tree.structure(back) == jax.tree.structure(whole)
    assert same(back.params, whole.params)
    assert same(back.moments[0], whole.moments[0])
    assert back.moments[1] == {"step": 4, "name": "sgd"}
    # Without a target a node of another class is a dict of what it has.
    assert same(plain["params"], whole.params)
    assert (run.checkpoint("five").step, run.checkpoint(5).metrics["loss"]) == (5, 0.5)
    files = [path.name for path in (tmp_path / "steps" / "5").rglob("*") if path.is_file()]
    assert "runtree.json" in files
    assert sum(path.stat().st_size for path in (tmp_path / "steps" / "5").rglob("*")) < 32_000


def test_several_items_go_beside_those_of_orbax(run: runtree.Run, tmp_path: Path) -> None:
    handlers = {"state": orbax.RuntreeCheckpointHandler(run), "data": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(tmp_path / "steps", item_handlers=handlers) as manager:
        composite = ocp.args.Composite(state=orbax.RuntreeSave(state(1)), data=ocp.args.JsonSave({"row": 9}))
        manager.save(1, args=composite)
        found = manager.restore(1)
    assert same(found["state"], state(1))
    assert found["data"] == {"row": 9}
    assert run.checkpoint(1).parts[0]["component"] == "trainer"


def test_a_target_changes_dtypes_and_refuses_what_does_not_fit(run: runtree.Run) -> None:
    checkpoint = run.save(state(2), step=1).result()
    lower = orbax.restore(checkpoint, {"w": jax.ShapeDtypeStruct((4, 3), jnp.bfloat16)})
    assert lower["w"].dtype == jnp.bfloat16
    with pytest.raises(runtree.Invalid, match=r"`w` has shape \(3, 3\) in the target, \(4, 3\) in the checkpoint"):
        orbax.restore(checkpoint, {"w": jax.ShapeDtypeStruct((3, 3), jnp.float32)})
    with pytest.raises(runtree.NotFound, match=r"has no `n.lost`"):
        orbax.restore(checkpoint, {"n": {"lost": jnp.zeros(2)}})


def test_a_save_that_fails_leaves_no_step(run: runtree.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ocp.CheckpointManager(tmp_path / "steps", item_handlers=orbax.RuntreeCheckpointHandler(run)) as manager:
        manager.save(1, args=orbax.RuntreeSave(state(1)))
        manager.wait_until_finished()

        def full(self: Any, timeout: float | None = None) -> Any:
            raise runtree.Unavailable("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(runtree.PendingSave, "result", full)
            manager.save(2, args=orbax.RuntreeSave(state(2)))
            with pytest.raises(Exception, match="no space left"):
                manager.wait_until_finished()
        assert not (tmp_path / "steps" / "2").exists()
        manager.save(3, args=orbax.RuntreeSave({"w": object()}))
        with pytest.raises(runtree.InvalidType, match="`w`"):
            manager.wait_until_finished()
        assert manager.all_steps() == [1]


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(1, args=orbax.RuntreeSave(state(1)))
        with pytest.raises(runtree.Invalid, match="which run to save into"):
            manager.wait_until_finished()


def test_the_v1_api_saves_and_loads(run: runtree.Run, tmp_path: Path) -> None:
    v1 = pytest.importorskip("orbax.checkpoint.experimental.v1")
    with v1.training.Checkpointer(tmp_path / "steps") as checkpointer:
        checkpointer.save_checkpointables(3, {"state": orbax.Checkpointable(state(3)), "data": {"x": jnp.ones(2)}})
        wanted = orbax.Checkpointable(state(0))
        found = checkpointer.load_checkpointables(3, {"state": wanted})
    assert same(found["state"].value, state(3))
    assert same(wanted.value, state(3))
    v1.save_checkpointables(tmp_path / "alone", {"state": orbax.Checkpointable(state(4), run, step=4)})
    as_saved = v1.load_checkpointables(tmp_path / "alone", {"state": orbax.Checkpointable()})
    assert same(as_saved["state"].value, state(4))
    assert [each.step for each in run.checkpoints()] == [3, 4]
