"""A trainer and an orchestrator that make one checkpoint together."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_trainer import PARTS, Start, both, fresh, steps

import runtree
from runtree import Checkpointer, Retention

pytestmark = pytest.mark.usefixtures("launch")


def test_a_checkpoint_is_whole_when_both_parts_are_there(start: Start, again: Callable[..., runtree.Run]) -> None:
    progress = {"step": 4, "total_tokens": 400, "total_samples": 32, "total_problems": 4}
    with start(run_id="sft") as run:
        trainer, orchestrator = both(run, {"interval": 4})
        # Neither waits for the other.
        orchestrator.save(4, {"progress": progress})
        assert steps(run) == []
        pending = trainer.save(4, fresh())
        assert pending is not None
        pending.result(timeout=30)
        assert steps(run) == [4]
    with again() as run:
        trainer, orchestrator = both(run, {"resume_step": -1})
        state: dict[str, Any] = {"progress": dict.fromkeys(progress, 0)}
        assert (orchestrator.resume(state), trainer.resume(fresh())) == (4, 4)
        assert state == {"progress": progress}


def test_a_step_of_the_orchestrator_alone_is_never_picked(start: Start, again: Callable[..., runtree.Run]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = start(run_id="sft")
        trainer, orchestrator = both(run, {"interval": 1})
        for step in (12, 13):
            orchestrator.save(step, {"progress": {"step": step}})
            if step == 12:
                trainer.save(step, fresh())
        # The crash: batch 13 was shipped, and nobody has trained on it.
        with pytest.raises(runtree.LostData):
            run.finish(timeout=3)
    for step in (-1, 12):
        with again() as run:
            state = {"progress": {"step": 0}}
            trainer, orchestrator = both(run, {"resume_step": step})
            assert (trainer.resume(fresh()), orchestrator.resume(state)) == (12, 12)
            assert state == {"progress": {"step": 12}}
    with again() as run, pytest.raises(runtree.NotFound, match="12"):
        both(run, {"resume_step": 13})[1].resume({"progress": {}})


PROCESS = """
    import os, sys, runtree
    component, last = sys.argv[1], int(sys.argv[2])
    run = runtree.init("p", run_id="rl", resume="allow", console=False, system_metrics=False)
    config = {"interval": 1, "keep_last": 2, "resume_step": -1}
    checkpoints = runtree.Checkpointer(run, config, component=component, parts={"trainer": 1, "orchestrator": 1})
    state = {"progress": {"step": 0}}
    start = checkpoints.resume(state)
    print(start, state["progress"]["step"], flush=True)
    saves = []
    for step in range((start or 0) + 1, last + 1):
        state["progress"]["step"] = step
        saves.append(checkpoints.save(step, state))
    for each in saves[: 12 - (start or 0)]:
        each.result()
    os._exit(0)
"""


def test_processes_that_crashed_apart_go_on_from_the_same_whole_step(
    tmp_path: Path, launch: Callable[[], None]
) -> None:
    script = tmp_path / "process.py"
    script.write_text(textwrap.dedent(PROCESS))
    for expected, lasts in (("None 0\n", (12, 13)), ("12 12\n", (12, 12))):
        launch()
        processes = [
            subprocess.Popen([sys.executable, str(script), component, str(last)], stdout=subprocess.PIPE, text=True)
            for component, last in zip(PARTS, lasts, strict=True)
        ]
        assert [process.communicate(timeout=100)[0] for process in processes] == [expected] * 2
    [run] = runtree.Store().runs()
    assert steps(run) == [11, 12]


def test_a_checkpoint_without_a_part_that_is_declared_is_not_taken(
    start: Start, again: Callable[..., runtree.Run]
) -> None:
    with start(run_id="sft") as run:
        both_parts = both(run, {})
        for each in both_parts:
            each.save(5, {"progress": {"step": 5}})
        Checkpointer(run, {}).save(6, fresh())
    with (
        again() as run,
        pytest.raises(runtree.NotFound, match="no part of orchestrator\nhint: whole ones are at steps 5"),
    ):
        both(run, {"resume_step": 6})[0].resume(fresh())
    with again() as run:
        trainer, orchestrator = both(run, {"resume_step": -1})
        assert (trainer.resume({"progress": {}}), orchestrator.resume({"progress": {}})) == (5, 5)


def test_one_of_all_sets_the_retention(start: Start) -> None:
    with start() as run:
        Checkpointer(run, {"keep_last": 2}, component="orchestrator", parts=PARTS)
        assert run.retention is None
        Checkpointer(run, {"keep_last": 2}, parts=PARTS)
        assert run.retention == Retention(keep_last=2)


def test_a_skip_that_is_the_trainers_is_no_news_to_the_orchestrator(
    start: Start, again: Callable[..., runtree.Run]
) -> None:
    with start(run_id="sft") as run:
        for each in both(run, {}):
            each.save(5, {"progress": {"step": 5}, "optimizer": {"m": 1}})
    with again() as run:
        state = {"progress": {"step": 0}}
        assert both(run, {"resume_step": -1, "skip_optimizer": True})[1].resume(state) == 5
        assert state == {"progress": {"step": 5}}


def test_parts_that_contradict_each_other_are_refused(start: Start) -> None:
    with start() as run:
        for wrong, said in (
            (
                {"component": "orchestrator"},
                "component 'orchestrator' alone is no checkpoint\nhint: say what makes one: parts=",
            ),
            ({"component": "critic", "parts": PARTS}, "component 'critic' is not one of parts"),
            ({"rank": 1, "parts": PARTS}, "this is rank 1 of 1 of trainer, and parts says that there are 1"),
            ({"world_size": 2, "parts": PARTS}, "this is rank 0 of 2 of trainer, and parts says that there are 1"),
        ):
            with pytest.raises(runtree.Invalid, match=said):
                Checkpointer(run, {}, **wrong)  # type: ignore[arg-type]
        with pytest.raises(runtree.Invalid, match="interval 0"):
            Checkpointer(run, {"interval": 0})
