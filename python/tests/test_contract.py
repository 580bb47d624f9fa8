"""What a script may rely on beyond the paths of success: what it reads of its own run, what is said when it errs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import runtree


def test_a_live_run_reads_what_it_has_just_logged(start: Any) -> None:
    run = start()
    for value in range(5):
        run.log({"loss": float(value)})
    assert list(run.history("loss").values) == [0.0, 1.0, 2.0, 3.0, 4.0]
    run.log({"late": 1.0})
    assert run.metrics == ["late", "loss"]
    assert run.last_step == 5


def test_steps_of_a_history_may_be_open_or_a_range(start: Any) -> None:
    run = start()
    for value in range(10):
        run.log({"loss": float(value)})
    assert list(run.history("loss", steps=(7, None)).steps) == [7, 8, 9]
    assert list(run.history("loss", steps=(None, 1)).steps) == [0, 1]
    assert list(run.history("loss", steps=range(3, 5)).steps) == [3, 4]
    for wrong in (3, "ab", (1, 2, 3), (0.5, 2)):
        with pytest.raises(TypeError, match="neither"):
            run.history("loss", steps=wrong)
    with pytest.raises(ValueError, match="one step after another"):
        run.history("loss", steps=range(0, 10, 2))


def test_scalars_of_numpy_are_numbers_in_a_config(start: Any) -> None:
    run = start(
        config={"lr": np.float64(0.1), "n": np.int64(3), "on": np.bool_(True), "deep": {"rate": np.float32(0.5)}}
    )
    expected = {"lr": 0.1, "n": 3, "on": True, "deep": {"rate": 0.5}}
    assert dict(run.config) == expected
    run.update_config({"n": np.int32(4)})
    assert run.config["n"] == 4
    run.flush()
    assert runtree.Store().run(run.display_id).config == {**expected, "n": 4}


def test_a_resumed_run_keeps_its_config_and_says_what_init_was_given_instead(start: Any) -> None:
    start(run_id="k", config={"lr": 0.1, "model": {"width": 8}}).finish()
    with pytest.warns(runtree.RuntreeWarning, match=r"lr 0\.1, not 0\.01.*update_config"):
        run = start(run_id="k", resume="allow", config={"lr": 0.01, "model": {"width": 8, "depth": 2}})
    assert dict(run.config) == {"lr": 0.1, "model": {"width": 8, "depth": 2}}
    run.flush()
    assert runtree.Store().run(run.display_id).config == dict(run.config)


@pytest.mark.filterwarnings("error::runtree.RuntreeWarning")
def test_the_same_config_again_is_nothing_to_speak_of(start: Any) -> None:
    config = {"lr": np.float32(0.1), "shape": (1, 2), "nan": float("nan")}
    start(run_id="k", config=config).finish()
    start(run_id="k", resume="allow", config=config)


def test_a_key_with_a_fork_resumes_its_child_without_being_told(start: Any) -> None:
    parent = start()
    parent.save({"w": 1}, step=0).result()
    keywords = {"run_id": "child", "fork": f"{parent.display_id}@0"}
    first = start(**keywords)
    first.log({"loss": 1.0})
    first.finish()
    second = start(**keywords)
    assert (second.id, second.attempt, second.next_step) == (first.id, 2, 1)


def test_calls_after_finish_say_that_it_is_finished(start: Any, tmp_path: Any) -> None:
    run = start()
    run.finish()
    (tmp_path / "notes").write_text("x")
    with pytest.warns(runtree.RuntreeWarning, match="is finished: log does nothing"):
        run.log({"loss": 1.0})
    for call in (
        lambda: run.update_config({"a": 1}),
        lambda: run.add_tags("x"),
        lambda: run.set_name("x"),
        lambda: run.set_notes("x"),
        lambda: run.log_file(tmp_path / "notes"),
        lambda: run.rewind(0),
    ):
        with pytest.raises(ValueError, match="is finished"):
            call()


def test_a_status_that_is_none_leaves_the_run_as_it_was(start: Any) -> None:
    run = start()
    with pytest.raises(ValueError, match="'bogus' is not how a run ends"):
        run.finish("bogus")
    run.log({"loss": 1.0})
    assert run.finish("stopped").last_step == 0


def test_wrong_arguments_are_named(start: Any) -> None:
    run = start()
    with pytest.raises(TypeError, match="log takes a dict"):
        run.log("loss")
    with pytest.raises(TypeError, match="config is a int, not a mapping"):
        run.update_config(3)
    with pytest.raises(ValueError, match="points 0 is less than one"):
        run.history("loss", points=0)
    with pytest.raises(TypeError, match="step '3' is not a whole number"):
        run.save({"w": 1}, step="3")
    with pytest.raises(TypeError, match="metric 'val' is a str"):
        run.save({"w": 1}, step=3, metrics={"val": "low"})
    checkpoint = run.save({"w": 1}, step=np.int64(3)).result()
    with pytest.raises(TypeError, match="metric 'val' is a list"):
        checkpoint.add_metrics({"val": [1]})


@pytest.mark.parametrize(("name", "value", "kind"), [
    ("RUNTREE_MODE", "offline", runtree.Invalid),
    ("RUNTREE_RESUME", "always", runtree.Invalid),
])  # fmt: skip
def test_an_environment_that_asks_for_what_there_is_not_is_refused(
    name: str, value: str, kind: type[Exception], start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=name.partition("_")[2].lower() if name == "RUNTREE_RESUME" else name):
        start()


def test_a_script_that_prints_its_run_goes_on_when_runtree_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = runtree.init("digits", "sweep", run_id="k", tags=["a", "a"], fork_run_id="MMP-42", fork_step=500)
    for each in (run, pickle.loads(pickle.dumps(run))):
        assert (each.project, each.name, each.key, each.experiment) == ("digits", "sweep", "k", "sweep")
        assert (each.parent, each.fork_run_id, each.fork_step, each.tags) == ("MMP-42", "MMP-42", 500, ["a"])
        assert (each.display_id, each.number, each.base, each.last_step) == ("disabled", 0, None, None)
        assert (each.status, each.status_reason, each.notes, each.metrics) == ("running", None, None, [])
        assert each.checkpoints() == each.lineage() == each.children() == each.console() == []
        assert len(each.history("loss")) == 0
        assert each.history() == {}
        assert each.resume_report() is None
        with pytest.raises(LookupError, match="disabled"):
            each.checkpoint()


def test_cancelled_saves_leave_the_writing_threads_alone(start: Any, capfd: pytest.CaptureFixture[str]) -> None:
    run = start()
    for step in range(10):
        pending = run.save({"w": np.full(2_000_000, step)}, step=step)
        pending.cancel()
        try:
            pending.result()
        except runtree.Conflict:
            pass
    assert run.load(run.save({"w": np.arange(5)}, step=99).result())["w"][4] == 4
    assert "panicked" not in capfd.readouterr().err


def test_runs_can_be_searched_by_words(start: Any) -> None:
    start("digits", "low-rate")
    start("digits", "high-rate")
    assert [run.name for run in runtree.Store().runs("low")] == ["low-rate"]


@pytest.mark.filterwarnings("ignore:run .* has no checkpoint at or before:runtree.RuntreeWarning")
def test_runs_are_filtered_by_config_metrics_and_relatives(start: Any) -> None:
    for name, rate in (("slow", 1e-5), ("fast", 1e-2)):
        with start("digits", name, config={"lr": rate}) as run:
            for step, loss in enumerate([3.0, rate, 2.0]):
                run.log({"val/loss": loss}, step=step)
    with start("digits", "child", fork_run_id="fast", fork_step=1, config={"lr": 1e-3}):
        pass
    store = runtree.Store()

    def names(text: str, **options: Any) -> list[str]:
        return sorted(run.name for run in store.runs(text, **options))

    assert names("config.lr < 5e-3") == ["child", "slow"]
    assert names("val/loss = 2") == ["fast", "slow"]
    assert names("val/loss = 0.01") == ["child"], "what is inherited is its last value"
    assert names("min(val/loss) < 1e-3 or descendants(fast)") == ["child", "slow"]
    assert names("ancestors(child) status = completed created > -1h") == ["fast"]
    assert names("not (name ~ SLOW or fork_step >= 0)") == ["fast"]
    assert store.runs(sort="min:val/loss", descending=False)[0].name == "slow"
    with pytest.raises(runtree.Invalid, match="a value was expected at the end of the filter"):
        store.runs("config.lr <")
    with pytest.raises(runtree.NotFound):
        store.runs("descendants(nobody)")


# A flush may meet the newer launch before the save does: then it says so first.
# Which of the two calls is told first depends on who is faster.
@pytest.mark.filterwarnings("ignore:run .* continued elsewhere:runtree.RuntreeWarning")
@pytest.mark.filterwarnings("ignore:save .* is not durable:runtree.RuntreeWarning")
def test_the_older_of_two_launches_is_told_that_the_newer_goes_on(start: Any, tmp_path: Any) -> None:
    run = start(run_id="k")
    run.log({"loss": 1.0})
    run.save({"w": 1}).result()
    script = (
        "import runtree; run = runtree.init('digits', run_id='k', resume='allow', console=False, system_metrics=False); "
        "run.log({'loss': 2.0}); run.save({'w': 2}).result()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    with pytest.raises(runtree.Conflict, match="continued elsewhere as attempt 2"):
        run.save({"w": 3}, step=1).result()
    with pytest.raises(runtree.Conflict, match="continued elsewhere as attempt 2"):
        run.finish()
    stored = runtree.Store().run(run.display_id)
    assert [(each.step, each.load()["w"]) for each in stored.checkpoints()] == [(0, 1), (1, 2)]
    assert list(stored.history("loss").values) == [1.0, 2.0]
    assert (stored.attempt, stored.status) == (2, "completed")
