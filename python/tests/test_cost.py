"""The line at the second save that says what checkpoints will cost, and the limits a launch may be given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from runtree._cost import line
from runtree.errors import Invalid, InvalidType

GB = 1_000_000_000


def estimate(**given: int) -> dict[str, int]:
    return {
        "bytes": 1_200_000_000,
        "new_bytes": 1_200_000_000,
        "encoded_bytes": 300_000_000,
        "step": 200,
        "steps_apart": 100,
    } | given


def test_the_line_adds_up_and_says_when_the_disk_is_full() -> None:
    told = line(estimate(), {"optim": {"lr": 1e-3, "max_steps": 100_000}}, 180 * GB)
    assert told == (
        "1.2 GB a checkpoint, at least ~300 MB once encoded; every 100 steps to 100,000 = ~299 GB more; "
        "180 GB free: full at about step 60,200; retention={'keep_last': 5}?"
    )
    assert "full" not in str(line(estimate(), {"max_steps": 100_000}, 900 * GB))


def test_without_a_number_of_steps_it_says_what_there_is_room_for() -> None:
    told = str(line(estimate(new_bytes=60_000_000, encoded_bytes=20_000_000), {"epochs": 3}, 180 * GB))
    assert told.startswith(
        "1.2 GB a checkpoint, 60 MB of it new, at least ~20 MB once encoded; every 100 steps = ~20 GB for 1,000"
    )
    assert "room for about 9,000" in told
    # A number that is reached already, a bool, a text: not how long the training is.
    for config in ({"max_steps": 150}, {"max_steps": True}, {"steps": "many"}, {"warmup": {"steps": 2000}}):
        assert "for 1,000 checkpoints" in str(line(estimate(), config, GB))


def test_saves_at_one_step_and_small_ones_tell_nothing() -> None:
    assert line(estimate(steps_apart=0), {}, GB) is None
    assert line(estimate(bytes=999_999), {}, GB) is None
    assert line(estimate(), {"max_steps": 250}, GB) is None
    assert line(estimate(encoded_bytes=0), {}, GB) is None
    both = {"eval": {"max_steps": 5000}, "max_steps": 100_000}
    assert "to 100,000" in str(line(estimate(encoded_bytes=99_600_000), both, GB))
    assert "~100 MB once" in str(line(estimate(encoded_bytes=99_600_000), both, GB))
    assert "every step = " in str(line(estimate(steps_apart=1), {}, GB))


def test_it_is_told_once_at_the_second_save_and_is_about_right(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    state = {
        "w": rng.standard_normal(1 << 20).astype(np.float32),
        "frozen": rng.standard_normal(1 << 20).astype(np.float32),
    }
    told = ""
    with runtree.init(
        "p", store=str(tmp_path / "s"), config={"total_steps": 1000}, system_metrics=False, console=False
    ) as run:
        for step in range(0, 40, 10):
            # A few items change in their last bits: next to nothing once encoded.
            state["w"][:1000] *= 1 + 1e-6
            run.save(state, step=step).result()
            deadline = time.monotonic() + 20
            while step == 10 and "a checkpoint" not in told and time.monotonic() < deadline:
                time.sleep(0.05)
                told += capfd.readouterr().err
    told += capfd.readouterr().err
    assert told.count("a checkpoint") == 1
    assert "8.4 MB a checkpoint, 4.2 MB of it new" in told
    assert "every 10 steps to 1,000" in told
    cold: Any = runtree.Store(str(tmp_path / "s")).native.estimate_cost(*(each._name for each in run.checkpoints()[:2]))
    assert cold["encoded_bytes"] < 100_000


WRONG = [(0, Invalid), (-5, Invalid), (True, InvalidType), ("4g", InvalidType), (1 << 70, Invalid)]


@pytest.mark.parametrize(("value", "error"), WRONG)
def test_staging_bytes_that_are_none_are_refused(tmp_path: Path, value: Any, error: Any) -> None:
    with pytest.raises(error, match="staging_bytes"):
        runtree.init("p", store=str(tmp_path / "s"), staging_bytes=value)


def test_limits_from_the_environment_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wrong in [
        ("RUNTREE_STAGING_BYTES", "4GiB"),
        ("RUNTREE_GRACE_SECONDS", "soon"),
        ("RUNTREE_GRACE_SECONDS", "-1"),
    ]:
        monkeypatch.setenv(name, wrong)
        with pytest.raises(Invalid, match=name):
            runtree.init("p", store=str(tmp_path / "s"))
        monkeypatch.delenv(name)


def test_a_state_larger_than_the_staging_memory_is_saved_in_turns(tmp_path: Path) -> None:
    state = {"w": np.arange(40 << 20, dtype=np.float32)}
    with runtree.init(
        "p", store=str(tmp_path / "s"), system_metrics=False, console=False, staging_bytes=1 << 20
    ) as run:
        run.save(state, step=0).result()
        assert np.array_equal(run.load(0)["w"], state["w"])


STOPPED = """
import sys, time
import numpy as np, runtree
run = runtree.init("p", store=sys.argv[1], run_id="r", system_metrics=False, console=False)
run.log({"x": 1.0}, step=0)
with run.guard():
    run.save({"w": np.ones(8 << 20)}, step=0)
    print("saved", flush=True)
    time.sleep(60)
"""


def test_sigterm_finishes_what_is_staged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "s")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"RUNTREE_GRACE_SECONDS": "60"}
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "saved\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == -signal.SIGTERM
    run = runtree.Store(str(tmp_path / "s")).run("r")
    assert run.status == "stopped"
    assert bool((run.checkpoint(0).load()["w"] == 1).all())


def test_a_finish_with_a_timeout(tmp_path: Path) -> None:
    run = runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False)
    with pytest.raises(Invalid, match="seconds"):
        run.finish(timeout=float("nan"))
    run.save({"w": np.ones(1 << 20)}, step=0)
    # As long as it takes: more than a lock can be asked to wait.
    assert run.finish(timeout=float("inf")).saves == 1
