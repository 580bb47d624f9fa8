"""Forking: seed 001's contract row by row, owners, ranges, gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import runtree


def _logged(start: Any, steps: range, **keywords: Any) -> runtree.Run:
    run = start(**keywords)
    for step in steps:
        run.log({"loss": 1 / (step + 1)}, step=step)
    return run


@pytest.mark.filterwarnings("ignore:run MMP-42 has no checkpoint")
def test_the_sample_of_seed_001_runs_with_only_its_import_changed(
    start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runtree.Store(create=True).set_project_prefix("my-project", "MMP")
    for _ in range(41):
        start("my-project").finish()
    parent = _logged(start, range(501), project="my-project", name="lr-sweep", config={"lr": 0.1, "depth": 4})
    assert parent.display_id == "MMP-42"
    parent.finish()

    import runtree as pluto

    run = pluto.init(
        project="my-project",
        name="lr-sweep-v2",
        fork_run_id="MMP-42",  # Display ID or numeric ID of the parent run
        fork_step=500,  # Step to fork at
        inherit_config=True,  # Inherit parent's config (default: True)
        inherit_tags=False,  # Inherit parent's tags (default: False)
        config={"lr": 0.001},  # Override specific config keys
    )

    # Check fork metadata
    print(f"Forked from run {run.fork_run_id} at step {run.fork_step}")

    # Continue training from the fork point
    for step in range(500, 1000):  # noqa: B007
        run.log({"loss": 0.4, "lr": 0.001})

    run.finish()

    assert "Forked from run MMP-42 at step 500" in capsys.readouterr().out
    history = run.history("loss")
    assert history.steps.tolist() == list(range(1001))
    assert set(history.values[501:]) == {0.4}
    assert len(run.history("loss", inherited=False)) == 500
    assert dict(run.config) == {"lr": 0.001, "depth": 4}
    assert run.experiment == "lr-sweep"


def test_one_fork_argument_without_the_other_is_a_value_error(start: Any) -> None:
    with pytest.raises(ValueError, match="together or not at all"):
        start(fork_run_id="MMP-42")
    with pytest.raises(ValueError, match="together or not at all"):
        start(fork_step=500)
    with pytest.raises(ValueError, match="two ways to say one thing"):
        start(fork="MMP-42", fork_run_id="MMP-42", fork_step=5)
    with pytest.raises(ValueError, match="contradict each other"):
        start(fork="MMP-42", base="MMP-41")


@pytest.mark.parametrize(("run", "step"), [(True, 5), (1.5, 5), ("DIG-1", 1.5), ("DIG-1", "5"), ("DIG-1", True)])
def test_fork_arguments_of_the_wrong_type_are_type_errors(run: Any, step: Any, start: Any) -> None:
    with pytest.raises(TypeError):
        start(fork_run_id=run, fork_step=step)


@pytest.mark.filterwarnings("ignore:run DIG-1 has no checkpoint")
def test_a_step_out_of_range_is_refused_with_the_range(start: Any) -> None:
    parent = _logged(start, range(10, 21))
    parent.finish()
    for step in (9, 22, -1):
        with pytest.raises(ValueError, match="10") as raised:
            start(fork_run_id=parent.display_id, fork_step=step)
        assert "2" in str(raised.value)
        assert isinstance(raised.value, runtree.Invalid)
    assert start(fork_run_id=parent.display_id, fork_step=21).fork_step == 21


@pytest.mark.filterwarnings("ignore:run DIG-1 has no checkpoint")
def test_a_parent_is_named_by_number_name_key_or_id(start: Any) -> None:
    parent = _logged(start, range(3), name="first", run_id="my-key")
    parent.finish()
    for name in (1, "DIG-1", "first", "my-key", parent.id):
        assert start(fork_run_id=name, fork_step=2).parent == "DIG-1"
    with pytest.raises(LookupError):
        start(fork_run_id="DIG-99", fork_step=1)


@pytest.mark.filterwarnings("ignore:run DIG-. has no checkpoint")
@pytest.mark.filterwarnings("ignore:step .* own history")
def test_the_owner_of_the_fork_step_is_resolved_as_in_the_seed(start: Any) -> None:
    a = _logged(start, range(101), name="a")
    a.finish()
    b = _logged(start, range(51, 201), name="b", fork_run_id="a", fork_step=50)
    b.finish()
    c = _logged(start, range(151, 301), name="c", fork_run_id="b", fork_step=150)
    c.finish()
    for step, owner in [(75, b), (30, a), (50, a), (150, b), (151, c)]:
        fork = start(fork_run_id="c", fork_step=step)
        assert (fork.fork_run_id, fork.fork_step, fork.parent) == (owner.display_id, step, c.display_id)
        assert fork.history("loss").steps.tolist() == list(range(step + 1))
        fork.finish()


@pytest.mark.filterwarnings("ignore:run DIG-. has no checkpoint")
def test_init_says_when_the_owner_is_not_the_declared_parent(start: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _logged(start, range(11), name="a").finish()
    _logged(start, range(6, 11), name="b", fork_run_id="a", fork_step=5).finish()
    with pytest.warns(runtree.RuntreeWarning, match="DIG-1's own history"):
        start(fork_run_id="b", fork_step=3)
    assert "forked from DIG-2 at step 3 (which DIG-1 owns)" in capsys.readouterr().err


class TestInheritance:
    """The table of seed 001, row by row."""

    @pytest.fixture
    def parent(self, start: Any, tmp_path: Any) -> runtree.Run:
        run = start(config={"lr": 0.1, "model": {"depth": 4, "width": 8}, "layers": [1, 2]}, tags=["base", "good"])
        for step in range(11):
            run.log({"loss": 1.0 / (step + 1)}, step=step)
        run._writer.log_system({"sys/cpu_percent": 50.0})
        run._writer.console("stdout", ["hello from the parent"])
        (tmp_path / "notes.txt").write_text("the parent's file")
        run.log_file(tmp_path / "notes.txt")
        run.save({"w": np.zeros(1)}, step=10).result()
        run.finish()
        return run

    def test_config_is_inherited_by_default_and_merged_deeply(self, parent: runtree.Run, start: Any) -> None:
        fork = start(fork=parent.display_id, config={"lr": 0.01, "model": {"width": 16}, "layers": [3]})
        expected = {"lr": 0.01, "model": {"depth": 4, "width": 16}, "layers": [3]}
        assert fork.config == expected
        assert runtree.Store().run(fork.display_id).config == expected
        assert start(fork=parent.display_id).config == parent.config
        alone = start(fork=parent.display_id, inherit_config=False, config={"lr": 1})
        assert alone.config == {"lr": 1}

    def test_tags_are_not_inherited_unless_asked_for(self, parent: runtree.Run, start: Any) -> None:
        assert start(fork=parent.display_id, tags=["new"]).tags == ["new"]
        assert start(fork=parent.display_id, tags=["new", "good"], inherit_tags=True).tags == ["base", "good", "new"]

    def test_metrics_are_stitched_at_query_time(self, parent: runtree.Run, start: Any) -> None:
        fork = start(fork=f"{parent.display_id}@10")
        fork.log({"loss": 5.0})
        fork.flush()
        assert fork.history("loss").values.tolist() == [*(1.0 / (step + 1) for step in range(11)), 5.0]
        assert set(fork.history("loss").runs) == {parent.id, fork.id}
        assert fork.history("loss", inherited=False).steps.tolist() == [11]

    def test_logs_files_and_system_metrics_are_not(self, parent: runtree.Run, start: Any) -> None:
        assert parent.console() == ["hello from the parent"]
        assert parent.file("notes.txt") == b"the parent's file"
        fork = start(fork=parent.display_id)
        assert fork.console() == []
        with pytest.raises(LookupError):
            fork.file("notes.txt")
        assert "sys/cpu_percent" not in fork.metrics

    def test_config_comes_from_the_owner_not_from_the_declared_parent(self, parent: runtree.Run, start: Any) -> None:
        child = start(fork=parent.display_id, config={"lr": 0.5, "only": "child"})
        child.log({"loss": 0.0}, step=11)
        child.finish()
        with pytest.warns(runtree.RuntreeWarning, match="own history"):
            fork = start(fork_run_id=child.display_id, fork_step=10)
        assert fork.config == parent.config


def test_a_child_continues_after_the_fork_step_and_its_own_point_there_wins(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 1}, step=10).result()
    fork = start(fork=parent.display_id)
    assert (fork.step, fork.next_step) == (10, 11)
    fork.log({"loss": 7.0}, step=10)
    fork.log({"loss": 8.0})
    fork.flush()
    assert fork.history("loss").values[-2:].tolist() == [7.0, 8.0]
    with pytest.raises(ValueError, match="10"):
        start(fork=parent.display_id).log({"loss": 1.0}, step=9)


def test_the_parent_never_changes_a_fork_again(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 1}, step=10).result()
    fork = start(fork=parent.display_id)
    before = fork.history("loss").values.tolist()
    parent.rewind(5)
    parent.log({"loss": 99.0}, step=6)
    parent.flush()
    assert fork.history("loss").values.tolist() == before
    assert parent.history("loss").values[-1] == 99.0


def test_a_gap_between_fork_step_and_checkpoint_is_warned_of_and_not_loaded_silently(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 8}, step=8).result()
    with pytest.warns(runtree.RuntreeWarning, match="nearest before it is at 8"):
        fork = start(fork_run_id=parent.display_id, fork_step=10)
    with pytest.raises(ValueError, match="nearest checkpoint is at 8") as raised:
        fork.load()
    assert f'run.load("{parent.display_id}@8")' in str(raised.value)
    assert fork.load(f"{parent.display_id}@8")["w"] == 8


def test_a_fork_at_a_checkpoint_needs_one(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 8}, step=8).result()
    with pytest.raises(LookupError, match="8"):
        start(fork=f"{parent.display_id}@9")
    assert start(fork=f"{parent.display_id}@<=9").fork_step == 8
    assert start(fork=parent.display_id).fork_step == 8


def test_a_fork_without_a_process_waits_for_its_launch(start: Any) -> None:
    parent = _logged(start, range(11), config={"lr": 0.1})
    parent.save({"w": 1}, step=10).result()
    fork = parent.fork(10, name="later", run_id="later", config={"lr": 0.2}, tags=["x"])
    assert (fork.status, fork.name, fork.config["lr"], fork.tags, fork.fork_step) == (
        "created",
        "later",
        0.2,
        ["x"],
        10,
    )
    assert parent.children() == [fork]
    run = start(run_id="later", resume="allow")
    assert run == fork
    assert run.load()["w"] == 1
    assert run.next_step == 11


def test_key_and_fork_together_fork_once_and_then_resume(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 1}, step=5).result()
    parent.save({"w": 2}, step=10).result()
    keywords = {"run_id": "child", "resume": "allow", "fork": f"{parent.display_id}@10"}
    first = start(**keywords)
    first.log({"loss": 0.0})
    first.save({"w": 3}).result()
    first.finish()
    second = start(**keywords)
    assert second.id == first.id
    assert second.attempt == 2
    assert second.load()["w"] == 3
    second.finish()
    with pytest.raises(runtree.Conflict):
        start(run_id="child", resume="allow", fork=f"{parent.display_id}@5")


def test_a_base_is_a_start_without_history(start: Any) -> None:
    parent = _logged(start, range(11))
    parent.save({"w": 1}, step=10).result()
    run = start("rl", base=f"digits/{parent.display_id}@10")
    assert run.load()["w"] == 1
    assert (run.next_step, run.fork_run_id, run.parent) == (0, None, None)
    assert run.base is not None
    run.log({"reward": 1.0})
    run.flush()
    assert run.metrics == ["reward"]


def test_a_fork_reads_and_writes_no_chunk(start: Any) -> None:
    parent = _logged(start, range(3))
    parent.save({"w": np.random.default_rng(0).standard_normal(1 << 20)}, step=2).result()
    chunks = sorted((parent.path / "chunks").rglob("*"))
    before = runtree.Store().stats()["stored_bytes"]
    fork = start(fork=parent.display_id)
    assert sorted((parent.path / "chunks").rglob("*")) == chunks
    assert runtree.Store().stats()["stored_bytes"] == before
    assert np.array_equal(fork.load()["w"], parent.load()["w"])
