"""The live run: log, save, resume, rewind, finish."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import math
import pickle
import time
import warnings
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import runtree


def test_nested_dicts_become_paths_and_steps_count_from_zero(start: Any) -> None:
    run = start()
    for value in range(3):
        run.log({"loss": value, "train": {"acc": value / 2, "by": {"class": np.float32(1.5)}}})
    assert (run.step, run.next_step) == (2, 3)
    run.log({"loss": 9}, step=10)
    assert run.next_step == 11
    run.flush()
    assert run.metrics == ["loss", "train/acc", "train/by/class"]
    assert run.history("loss").steps.tolist() == [0, 1, 2, 10]
    assert run.history("train/acc").values.tolist() == [0, 0.5, 1]
    assert set(run.history("loss", "train/acc")) == {"loss", "train/acc"}
    assert set(run.history()) == set(run.metrics)


def test_values_of_many_kinds_are_numbers(start: Any) -> None:
    torch = pytest.importorskip("torch")
    run = start()
    values = {
        "bool": True, "int": 2**70, "np": np.int8(3), "np0d": np.array(4.5), "np1": np.array([5.5]), "torch": torch.tensor(6.5),
        "grad": torch.tensor(7.5, requires_grad=True), "half": torch.tensor([8.5], dtype=torch.bfloat16), "none": None,
        "nan": math.nan, "inf": math.inf, "huge": 10**400,
        "low": -(10**400), "nested": MappingProxyType({"by": 9.5}),
    }  # fmt: skip
    run.log(values)
    run.flush()
    found = {name: series.values[0] for name, series in run.history().items()}
    assert math.isnan(found.pop("nan"))
    assert found == {
        "bool": 1, "int": 2.0**70, "np": 3, "np0d": 4.5, "np1": 5.5, "torch": 6.5, "grad": 7.5, "half": 8.5, "inf": math.inf,
        "huge": math.inf, "low": -math.inf, "nested/by": 9.5,
    }  # fmt: skip


class OnDevice:
    """What torch shows of a tensor that is not in host memory; reading it takes a while."""

    is_cuda = True
    is_cpu = False
    device = argparse.Namespace(type="elsewhere")

    def __init__(self, value: float) -> None:
        self.value = value

    def detach(self) -> OnDevice:
        return self

    def numel(self) -> int:
        return 1

    def item(self) -> float:
        time.sleep(0.02)
        return self.value


def test_values_on_a_device_are_fetched_later_under_their_own_step(start: Any) -> None:
    pytest.importorskip("torch")
    run = start()
    began = time.perf_counter()
    for step in range(10):
        run.log({"device": OnDevice(float(step)), "host": step})
        run.log({"only": OnDevice(1.0)})
    assert time.perf_counter() - began < 0.2, "log does not wait for the device"
    run.log({"host": 99})
    run.flush()
    assert run.history("device").steps.tolist() == list(range(0, 20, 2))
    assert run.history("device").values.tolist() == list(range(10))
    assert run.history("only").steps.tolist() == list(range(1, 20, 2))
    assert run.history("host").steps.tolist() == [*range(0, 20, 2), 20]


def test_log_does_not_wait_for_what_jax_is_still_computing(start: Any) -> None:
    jax = pytest.importorskip("jax")
    run = start()

    @jax.jit
    def slow(x: Any) -> Any:
        return jax.lax.fori_loop(0, 400, lambda _, y: jax.numpy.tanh(y @ y), x).sum()

    x = jax.numpy.full((512, 512), 1e-3)
    slow(x).block_until_ready()
    pending = slow(x)
    run.log({"slow": pending, "host": 1.0})
    assert not pending.is_ready(), "log does not wait"
    run.log({"slow": pending + 1, "host": 2.0})
    run.flush()
    assert run.history("slow").steps.tolist() == [0, 1]
    assert run.history("slow").values.tolist() == [float(pending), float(pending) + 1]


@pytest.mark.parametrize("value", [[1, 2], object(), np.zeros(2), b"1"])
def test_what_is_not_a_number_is_refused_by_name(value: Any, start: Any) -> None:
    with pytest.raises(TypeError, match="metric `a/b` is a"):
        start().log({"a": {"b": value}})


@pytest.mark.parametrize("data", [{"a\ud800": 1.0}, {"a": {"\ud800": 1.0}}, {"\ud800": {"a": 1.0}}])
def test_a_metric_name_that_is_not_unicode_is_refused_with_a_way_out(data: Any, start: Any) -> None:
    with pytest.raises(runtree.Invalid, match=r"\\ud800") as refused:
        start().log(data)
    assert refused.value.hint


def test_names_that_are_not_unicode_are_refused_with_a_way_out(start: Any) -> None:
    odd = "a\ud800"
    run = start()
    for call in (
        lambda: runtree.init("p", name=odd),
        lambda: runtree.init("p", run_id=odd),
        lambda: runtree.init("p", tags=[odd]),
        lambda: run.save({"a": 1}, step=0, name=odd),
        lambda: run.set_name(odd),
        lambda: run.add_tags(odd),
    ):
        with pytest.raises(runtree.Invalid, match=r"\\ud800") as refused:
            call()
        assert refused.value.hint


def test_nothing_is_logged_by_itself_after_the_last_step_there_is(start: Any) -> None:
    run = start()
    last = 2**63 - 1
    run.log({"a": 1}, step=last)
    with pytest.raises(runtree.Invalid, match=str(last)):
        run.log({"a": 2})
    with pytest.raises(runtree.Invalid, match=str(last)):
        run.log({"a": OnDevice(2.0)})
    run.flush()
    assert run.history("a").values.tolist() == [1]


@pytest.mark.parametrize("step", [1.5, "3", object()])
def test_a_step_that_is_no_whole_number_is_refused(step: Any, start: Any) -> None:
    with pytest.raises(TypeError, match="is not a whole number"):
        start().log({"a": 1}, step=step)


def test_commit_false_gathers_one_step(start: Any) -> None:
    run = start()
    run.log({"a": 1}, commit=False)
    run.log({"b": 2})
    run.log({"a": 3})
    run.flush()
    assert run.history("a").steps.tolist() == [0, 1]
    assert run.history("b").steps.tolist() == [0]


def test_timestamps_are_seconds_or_datetimes(start: Any) -> None:
    run = start()
    when = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone.utc)
    run.log({"a": 1}, timestamp=when)
    run.log({"a": 1}, timestamp=when.timestamp())
    run.flush()
    assert [str(stamp) for stamp in run.history("a").timestamps] == ["2026-01-02T03:04:05.000600"] * 2
    with pytest.raises(TypeError, match="timestamp"):
        run.log({"a": 1}, timestamp="now")


def test_a_series_converts(start: Any) -> None:
    run = start()
    for step in range(5):
        run.log({"loss": step * 2.0})
    run.flush()
    series = run.history("loss", steps=(1, 3))
    assert np.asarray(series).tolist() == [2, 4, 6]
    assert len(series) == 3
    assert repr(series) == "Series('loss', 3 points, steps 1..3)"
    frame = pytest.importorskip("pandas") and series.to_pandas()
    assert frame.index.tolist() == [1, 2, 3]
    assert frame["value"].tolist() == [2, 4, 6]
    pytest.importorskip("pyarrow")
    assert series.to_arrow().column("step").to_pylist() == [1, 2, 3]
    with pytest.raises(LookupError, match="it has loss"):
        run.history("nothing")


def test_config_is_what_was_given_and_updated(start: Any) -> None:
    @dataclasses.dataclass
    class Options:
        lr: float
        nested: dict[str, Any]

    assert start(config=Options(0.1, {"a": (1, 2)})).config == {"lr": 0.1, "nested": {"a": [1, 2]}}
    assert start(config=argparse.Namespace(lr=0.1)).config == {"lr": 0.1}
    with pytest.raises(TypeError):
        start(config=3)
    run = start(config={"a": {"b": 1, "c": 2}})
    run.update_config({"a": {"b": 5}, "d": 6})
    run.add_tags("x", "y", "x")
    assert run.config == {"a": {"b": 5, "c": 2}, "d": 6}
    run.finish()
    stored = runtree.Store().run(run.display_id)
    assert stored.config == {"a": {"b": 5, "c": 2}, "d": 6}
    assert stored.tags == ["x", "y"]


def test_a_save_is_a_future(start: Any) -> None:
    run = start()
    run.log({"loss": 1.5}, step=3)
    pending = run.save({"w": np.ones(4)}, name="best", metrics={"acc": 0.9}, pin=True)
    pending.wait_staged()
    checkpoint = pending.result()
    assert pending.done()
    assert pending.exception() is None
    assert asyncio.run(_wait(pending)) == checkpoint
    assert (checkpoint.step, checkpoint.name, checkpoint.run, checkpoint.pinned) == (3, "best", run.display_id, True)
    assert checkpoint.metrics["acc"] == 0.9
    assert checkpoint.bytes == 32
    assert [tensor["name"] for tensor in checkpoint.tensors()] == ["w"]
    assert run.checkpoint("best") == run.checkpoint(3) == run.checkpoint(checkpoint.id) == checkpoint
    assert checkpoint.created.tzinfo is timezone.utc


async def _wait(pending: runtree.PendingSave) -> runtree.Checkpoint:
    return await pending


def test_the_state_may_change_as_soon_as_save_returns(start: Any) -> None:
    run = start()
    array = np.zeros(1 << 22)
    pending = run.save({"w": array}, step=0)
    array.fill(1)
    pending.result()
    assert run.load()["w"].sum() == 0


def test_checkpoints_can_be_tagged_pinned_measured_exported_and_deleted(start: Any, tmp_path: Any) -> None:
    run = start()
    checkpoint = run.save({"w": np.arange(3, dtype=np.float32)}, step=1).result()
    checkpoint.tag("good")
    checkpoint.pin()
    checkpoint.add_metrics({"acc": 0.5})
    assert (checkpoint.tags, checkpoint.pinned, checkpoint.metrics) == (["good"], True, {"acc": 0.5})
    assert run.checkpoint("best:acc:max") == checkpoint
    folder = checkpoint.export(tmp_path / "out")
    safetensors = pytest.importorskip("safetensors.numpy")
    [file] = folder.rglob("*.safetensors")
    assert next(iter(safetensors.load_file(file).values())).tolist() == [0, 1, 2]
    checkpoint.unpin()
    checkpoint.delete()
    assert checkpoint.state == "deleted"
    assert run.checkpoints() == []
    checkpoint.undelete()
    assert run.checkpoints() == [checkpoint]


def test_a_directory_comes_back_byte_for_byte(start: Any, tmp_path: Any) -> None:
    run = start()
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "a.bin").write_bytes(bytes(range(256)) * 100)
    (source / "sub" / "b.txt").write_text("text")
    run.save_dir(source, step=1).result()
    folder = run.dir()
    assert (folder / "a.bin").read_bytes() == bytes(range(256)) * 100
    assert (folder / "sub" / "b.txt").read_text() == "text"
    with pytest.raises(runtree.Unsupported, match="is a directory"):
        run.load()


def test_no_checkpoint_is_not_found_or_the_default(start: Any) -> None:
    run = start()
    with pytest.raises(LookupError):
        run.load()
    assert run.load(default=None) is None
    run.save({"w": 1}, step=3).result()
    with pytest.raises(runtree.NotFound, match="3"):
        run.checkpoint(4)


def test_the_same_key_again_is_refused_or_resumed(start: Any) -> None:
    run = start(run_id="mine")
    for step in range(8):
        run.log({"loss": float(step)}, step=step)
        if step % 3 == 0:
            run.save({"step": step}).result()
    run.finish()
    with pytest.raises(runtree.Conflict, match="mine"):
        start(run_id="mine")
    with pytest.raises(runtree.NotFound):
        start(run_id="other", resume="must")
    again = start(run_id="mine", resume=True)
    assert again.id == run.id
    assert again.attempt == 2
    assert again.resumed_from is not None
    assert again.resumed_from.step == 6
    assert again.load()["step"] == 6
    assert again.next_step == 7
    again.log({"loss": 7.0})
    again.log({"loss": 80.0})
    again.finish()
    assert again.history("loss").values.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 80]
    assert again.resume_report()["bit_equal_steps"] == 1


def test_resume_from_an_older_checkpoint_leaves_a_ghost_tail(start: Any) -> None:
    run = start(run_id="mine")
    for step in range(10):
        run.log({"loss": float(step)}, step=step)
        run.save({"step": step}).result()
    run.finish()
    again = start(run_id="mine", resume="must", resume_from=4)
    assert again.next_step == 5
    assert again.load()["step"] == 4
    again.log({"loss": -5.0})
    again.finish()
    assert again.history("loss").values.tolist() == [0, 1, 2, 3, 4, -5]
    assert [checkpoint.step for checkpoint in again.checkpoints() if checkpoint.effective] == [0, 1, 2, 3, 4]
    third = start(run_id="mine", resume="must")
    assert third.load(2)["step"] == 2
    assert third.next_step == 3, "loading an older one before anything is logged moves the start"


def test_rewind_starts_a_new_attempt_in_the_same_process(start: Any) -> None:
    run = start()
    for step in range(6):
        run.log({"loss": float(step)})
    run.save({"step": 5}).result()
    run.rewind(2)
    assert (run.attempt, run.next_step) == (2, 3)
    run.log({"loss": 30.0})
    run.flush()
    assert run.history("loss").values.tolist() == [0, 1, 2, 30]
    with pytest.raises(ValueError, match="100"):
        run.rewind(100)


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(start: Any) -> None:
    run = start()
    run.save({"w": np.full(1000, 1.0)}, step=1).result()
    before = set((run.path / "chunks").rglob("*.*"))
    run.save({"w": np.full(1000, 2.0)}, step=2).result()
    [chunk] = set((run.path / "chunks").rglob("*.*")) - before
    data = bytearray(chunk.read_bytes())
    data[17] ^= 1
    chunk.chmod(0o644)
    chunk.write_bytes(data)
    with pytest.raises(runtree.Corrupt, match="w"):
        run.load(2)
    with pytest.warns(runtree.RuntreeWarning, match=r"@2 is damaged .* was loaded instead"):
        assert run.load()["w"][0] == 1.0


def test_a_with_block_completes_or_fails_with_its_text(start: Any) -> None:
    with start() as run:
        run.log({"a": 1})
    assert runtree.Store().run(run.display_id).status == "completed"
    with pytest.raises(ZeroDivisionError), start() as run:
        _ = 1 / 0
    stored = runtree.Store().run(run.display_id)
    assert (stored.status, stored.status_reason) == ("failed", "ZeroDivisionError: division by zero")
    with pytest.raises(KeyboardInterrupt), start() as run:
        raise KeyboardInterrupt
    assert runtree.Store().run(run.display_id).status == "stopped"


def test_finish_reports_and_what_comes_after_is_refused(start: Any) -> None:
    run = start()
    run.log({"a": 1})
    run.save({"w": 1})
    report = run.finish()
    assert (report.display_id, report.status, report.last_step, report.saves) == (run.display_id, "completed", 0, 1)
    assert run.finish() == report
    with pytest.raises(ValueError, match="is finished"):
        run.save({"w": 2})
    assert start().finish("failed", "by hand").status == "failed"


def test_health_is_good_until_it_is_not(start: Any) -> None:
    run = start()
    run.log({"a": 1})
    run.flush()
    health = run.health()
    assert health.ok
    assert health.last_flush is not None
    assert health.queued_bytes == 0


def test_a_second_init_is_a_second_run_and_the_same_key_rejoins(start: Any) -> None:
    first, second = start(), start()
    assert first.id != second.id
    keyed = start(run_id="cell", config={"a": 1})
    assert start(run_id="cell", config={"b": 2}) is keyed
    assert keyed.config == {"a": 1, "b": 2}


def test_disabled_mode_does_nothing_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    with runtree.init("digits", config={"lr": 0.1}) as run:
        run.log({"a": 1})
        assert run.save({"w": object()}, step=3).result().step == 3
        assert run.load(default={"x": 1}) == {"x": 1}
        assert run.config["lr"] == 0.1
        run.add_tags("x")
        run.rewind(0)
        run.flush()
        assert run.disabled
        assert run.health().ok
        assert "disabled" in repr(run) + run._repr_html_()
    assert pickle.loads(pickle.dumps(run)).disabled
    assert not (tmp_path / "work" / ".runtree").exists()


def test_environment_stands_in_for_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, start: Any) -> None:
    monkeypatch.setenv("RUNTREE_STORE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("RUNTREE_PROJECT", "named")
    monkeypatch.setenv("RUNTREE_RUN_ID", "env-key")
    run = start(None)
    assert (run.project, run.key, run.path) == ("named", "env-key", tmp_path / "elsewhere")
    run.log({"a": 1})
    run.save({"w": 5}).result()
    run.finish()
    monkeypatch.setenv("RUNTREE_RESUME", "must")
    again = start(None)
    assert (again.id, again.attempt) == (run.id, 2)
    again.finish()
    monkeypatch.delenv("RUNTREE_RUN_ID")
    monkeypatch.delenv("RUNTREE_RESUME")
    monkeypatch.setenv("RUNTREE_FORK", run.display_id)
    assert start(None).fork_run_id == run.display_id


def test_wrong_words_are_value_errors(start: Any) -> None:
    for keywords in ({"resume": "perhaps"}, {"log_ranks": "some"}):
        with pytest.raises(ValueError, match="is not one of"):
            start(**keywords)
    with pytest.raises(ValueError, match="if_busy"):
        start().save({}, step=0, if_busy="drop")
    with pytest.raises(ValueError, match="project name"):
        start("a/b")


def test_a_store_lists_and_finds_runs(start: Any) -> None:
    for index in range(3):
        run = start(name=f"run-{index}", tags=["even"] if index % 2 == 0 else [], config={"lr": index})
        run.log({"loss": float(index)})
        run.finish()
    store = runtree.Store()
    assert [run.name for run in store.runs(sort="name", descending=False)] == ["run-0", "run-1", "run-2"]
    assert [run.name for run in store.runs(tags=["even"], limit=1)] == ["run-2"]
    assert [run.name for run in store.runs("name = run-1")] == ["run-1"]
    assert [run.name for run in store.runs(sort="metric:loss")] == ["run-2", "run-1", "run-0"]
    assert store.run("run-1").number == 2
    assert store.run(2, project="digits").name == "run-1"
    assert store.projects()[0]["name"] == "digits"
    diff = store.run("run-0").diff("run-2")
    assert [change["key"] for change in diff.config] == ["lr"]
    with pytest.raises(runtree.NotFound, match="no store at"):
        runtree.Store("/nonexistent")
    assert "run-1" in store.run("run-1")._repr_html_()


def test_warnings_are_shown_once_a_kind(start: Any) -> None:
    run = start()
    run.log({"a": 1.0}, step=5)
    run.save({"w": 1}).result()
    fork = start(fork=run.display_id)
    with pytest.raises(ValueError, match="5"):
        fork.log({"a": 1.0}, step=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            fork.log({"a": 1.0}, step=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert sum(fork.health().dropped_points.values()) >= 5
