"""The examples of the first week run as they are shown, and are short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runtree

EXAMPLES = Path(__file__).parents[2] / "examples" / "first_week"


def run(name: str, *arguments: str, code: int = 0) -> str:
    # torchdata calls something that newer torch warns of; everything else is an error.
    flags = ["-W", "error", "-W", "ignore:'set_vital' is deprecated"]
    command = [sys.executable, *flags, str(EXAMPLES / name), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == code, result.stderr
    return result.stdout


def only_run() -> runtree.StoredRun:
    [found] = runtree.Store().runs()
    return found


def test_every_example_is_at_most_forty_lines() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert len(lengths) == 8
    assert max(lengths.values()) <= 40


def test_the_quickstart_logs_and_saves() -> None:
    out = run("01_quickstart.py")
    assert "100 points" in out
    assert [checkpoint.step for checkpoint in only_run().checkpoints()] == [24, 49, 74, 99]


def test_a_stopped_run_resumes_bit_for_bit() -> None:
    run("02_resume.py", "--stop-at", "45", code=1)
    assert only_run().status == "failed"
    out = run("02_resume.py")
    assert "2 attempts" in out
    assert "bit-equal for 5 steps" in out
    assert only_run().history("distance").steps.tolist() == list(range(100))


def test_a_diverged_run_recovers_in_its_fork() -> None:
    out = run("03_fork_lower_lr.py")
    assert "FW-2 forked from FW-1 at step 49" in out
    fork = runtree.Store().run("FW-2")
    assert fork.config["lr"] == 0.05
    assert fork.history("loss").values[-1] < fork.history("loss").values[49]


def test_a_torch_run_goes_on_with_everything() -> None:
    pytest.importorskip("torchdata")
    assert "attempt 1, 159 steps" in run("04_torch_everything.py")
    assert "attempt 2, 319 steps" in run("04_torch_everything.py")


def test_a_hugging_face_trainer_goes_on_and_its_fork_trains_at_its_own_rate() -> None:
    pytest.importorskip("transformers")
    run("06_hf_trainer.py", "--stop-at", "12", code=1)
    out = run("06_hf_trainer.py")
    assert "attempt 2, 4 checkpoints" in out
    # Linear, from 1e-4 to nothing in twenty steps: half of it is over.
    assert "FW-2 forked at step 10, trained at 5.0e-05" in out
    assert runtree.Store().run("FW-1").history("train/loss").steps.tolist() == list(range(1, 21))


def test_four_ranks_train_and_two_go_on() -> None:
    pytest.importorskip("torch")
    for ranks in (4, 2):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        result = subprocess.run(
            [*command, str(EXAMPLES / "05_fsdp.py")],
            capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        # torch's gloo threads abort the interpreter's exit now and then, with or without runtree; everything is done by then.
        aborted = "terminate called without an active exception" in result.stderr
        assert result.returncode == 0 or aborted, result.stderr
        assert f"attempt {1 if ranks == 4 else 2}, {ranks} ranks, step {19 if ranks == 4 else 39}" in result.stdout
    losses = only_run().history("loss").values
    # Without the optimizer's moments it would jump.
    assert abs(losses[20] - losses[19]) < 0.1
    assert losses[39] < losses[0] / 10


def test_the_best_of_a_sweep_of_forks_goes_on() -> None:
    out = run("07_sweep.py")
    store = runtree.Store()
    sweep = store.sweep("FW-1@49")
    assert [fork.config["lr"] for fork in sweep] == [0.2, 0.1, 0.05, 0.01]
    last = {fork.display_id: fork.summary()["val/loss"].last.value for fork in sweep}
    [next_one] = [each for each in store.runs() if each.parent in last]
    assert next_one.parent == min(last, key=lambda each: last[each])
    assert f"{next_one.display_id} goes on from {store.run(next_one.parent).name}" in out
    assert store.run("FW-1").head().display_id == next_one.parent
    assert next_one.last_step == 149


def test_the_best_checkpoint_alone_is_served_elsewhere() -> None:
    out = run("08_serve_best.py")
    assert "1 checkpoint pulled" in out
    # Weights that fit: 0 + 1 + … + 7.
    assert "prediction: 28.0" in out
    [served] = runtree.Store("serving-store").runs()
    assert [each.step for each in served.checkpoints()] == [29]
    assert [each.step for each in only_run().checkpoints()] == [9, 19, 29, 39]
