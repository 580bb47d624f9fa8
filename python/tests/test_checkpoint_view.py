"""Checkpoints as plain directories beside the store, and runs that go on from one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_trainer import Start, both, fresh, steps, train, trained

import runtree
from runtree import CheckpointConfig, Checkpointer

pytestmark = pytest.mark.usefixtures("launch")


def names(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir())


def test_an_output_dir_has_every_checkpoint_as_plain_files(start: Start) -> None:
    with start(run_id="sft") as run:
        checkpoints = CheckpointConfig(interval=2, keep_last=2, output_dir=Path("out")).bind(run)
        train(run, fresh(), 1, 7, checkpoints)
        checkpoints.close()
    root = Path("out/checkpoints")
    kept = [f"step_{step}" for step in steps(run)]
    assert kept == ["step_6", "step_7"]
    assert names(root) == kept
    assert names(root / "step_6") == ["runtree.json", "trainer"]
    assert names(root / "step_6" / "trainer") == ["state.json", "state.safetensors"]


def test_an_output_dir_has_each_component_in_a_folder(start: Start) -> None:
    with start(run_id="sft") as run:
        trainer, orchestrator = both(run, {"output_dir": "out"})
        orchestrator.save(3, {"progress": {"step": 3}})
        with trainer:
            trainer.save(3, fresh())
    assert names(Path("out/checkpoints/step_3")) == ["orchestrator", "runtree.json", "trainer"]


def test_ranks_of_a_component_have_folders_of_their_own(start: Start) -> None:
    with start(run_id="sft") as run:
        ranks = [Checkpointer(run, {"output_dir": "out"}, parts={"trainer": 2}, rank=rank) for rank in (1, 0)]
        for each in ranks:
            each.save(3, {"w": np.full(2, each._setup.rank, "f4")}, sharded=True)
        ranks[1].close()
    assert names(Path("out/checkpoints/step_3/trainer")) == ["rank_0", "rank_1"]


def test_what_another_wrote_into_the_output_dir_stays(start: Start) -> None:
    theirs = Path("out/checkpoints/step_3")
    theirs.mkdir(parents=True)
    (theirs / "mine.txt").write_text("x")
    with (
        start(run_id="sft") as run,
        pytest.warns(runtree.RuntreeWarning, match="step_3 is not of this run: it is left as it is"),
    ):
        CheckpointConfig(output_dir=Path("out")).bind(run).save(3, fresh())
    assert names(theirs) == ["mine.txt"]


def test_an_output_dir_that_can_not_be_written_is_a_warning(start: Start) -> None:
    Path("out").write_text("a file")
    with start(run_id="sft") as run, pytest.warns(runtree.RuntreeWarning, match="does not have all checkpoints"):
        CheckpointConfig(output_dir=Path("out")).bind(run).save(3, fresh())
    assert steps(run) == [3]


def test_a_run_goes_on_from_a_directory_of_another(start: Start) -> None:
    trained(start, CheckpointConfig(output_dir=Path("out"), interval=5))
    config = CheckpointConfig(resume_dir=Path("out/checkpoints/step_5"))
    # With its history.
    with start(run_id="fork", fork=config.fork) as run:
        state = fresh()
        assert config.bind(run).resume(state) == 5
        assert (run.parent, run.fork_step, state["progress"]["step"]) == ("DIG-1", 5, 5)
        train(run, state, 6, 7, config.bind(run))
    assert run.history("loss").steps.tolist() == list(range(1, 8))
    # With its state alone, from a store that is elsewhere.
    with start(run_id="new", store="elsewhere") as run:
        state = fresh()
        assert config.bind(run).resume(state) == 5
        assert state["optimizer"].steps == 5
    with start(run_id="third", store="third", fork=config.fork) as run:
        assert config.bind(run).resume(fresh()) == 5


def test_a_directory_that_is_none_of_ours_is_told(start: Start) -> None:
    run = start()
    with pytest.raises(runtree.NotFound, match="there is no directory step_3"):
        CheckpointConfig(resume_dir=Path("step_3")).bind(run).resume(fresh())
    Path("step_3/trainer").mkdir(parents=True)
    with pytest.raises(runtree.Invalid, match=r"has no runtree.json(?s:.*)runtree import DIR --layout prime-rl"):
        CheckpointConfig(resume_dir=Path("step_3")).bind(run).resume(fresh())
    Path("step_3/runtree.json").write_text("[1]")
    with pytest.raises(runtree.Invalid, match="has no runtree.json"):
        _ = CheckpointConfig(resume_dir=Path("step_3")).fork
