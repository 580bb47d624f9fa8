"""Seed 003, for real: the document's five command lines with ``examples/reverse_text`` in place of prime-rl, split and unsplit."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

import runtree

from .reverse_text import (
    EXAMPLE,
    SECONDS,
    Inference,
    assert_equal_runs,
    begin,
    document,
    end,
    end_all,
    flat,
    run_of,
    states,
)

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(400)

PARTS = ("trainer", "orchestrator")
FILES = ["--trainer", "@", "path/to/train.toml", "--orchestrator", "@", "path/to/orch.toml"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    end_all()


def steps(run: runtree.StoredRun) -> list[int]:
    return [each.step for each in run.checkpoints()]


def test_two_halves_of_sft_are_the_whole_bit_for_bit() -> None:
    lines = [argv for program, argv in document() if program == "sft"]
    assert lines == [["--max-steps", "20", "--ckpt"], ["--max-steps", "40", "--ckpt.resume-step", "20"]]
    # 40 steps are the default.
    whole = begin("sft", "--ckpt", store="whole")
    for argv in lines:
        end(begin("sft", *argv, store="split"))
    end(whole)
    one, other = run_of("whole"), run_of("split")
    assert (steps(one), steps(other), other.attempt) == ([40], [20, 40], 2)
    assert_equal_runs(one, other, 40)
    state = states(other, 40)["trainer"]
    assert set(state) == {"model", "optimizer", "scheduler", "dataloader", "progress"}
    assert state["progress"]["step"] == 40
    assert state["progress"]["total_samples"] == 40 * 32
    # 512 texts are 16 batches: the second half began within an epoch, and went on in it.
    assert flat(states(other, 20)["trainer"]["dataloader"]) == {".epoch": 1, ".place": 4 * 32}
    assert flat(state["dataloader"]) == {".epoch": 2, ".place": 8 * 32}
    losses = other.history("loss").values
    assert losses[-1] < losses[0] / 1.5


BLOCKS = """
import sft
sft.main(["--run-id", "off", "--max-steps", "3"])
sft.main(["--run-id", "off-by-name", "--max-steps", "3", "--no-ckpt"])
sft.main(["--run-id", "last", "--max-steps", "10", "--ckpt.interval", "2", "--ckpt.keep-last", "2"])
sft.main(["--run-id", "every", "--max-steps", "10", "--ckpt.interval", "2", "--ckpt.keep-interval", "4"])
both = ["--ckpt.interval", "2", "--ckpt.keep-last", "2", "--ckpt.keep-interval", "4", "--ckpt.output-dir", "out"]
sft.main(["--run-id", "both", "--max-steps", "10", *both])
sft.main(["--run-id", "async", "--max-steps", "10", *both[:-2], "--ckpt.save-async"])
"""


def test_what_a_block_says_is_what_is_kept() -> None:
    Path("blocks.py").write_text(BLOCKS)
    end(begin(str(Path("blocks").absolute()), PYTHONPATH=os.pathsep.join([str(EXAMPLE), *sys.path])))
    store = runtree.Store("store")
    for key in ("off", "off-by-name"):
        run = store.run(key)
        assert run.checkpoints(pending=True) == []
        assert run.history("loss").steps.tolist() == [1, 2, 3]
    kept = {key: steps(store.run(key)) for key in ("last", "every", "both", "async")}
    # prime-rl would keep 4 and 8 alone of `every`: its final checkpoint would be gone.
    assert kept == {"last": [8, 10], "every": [4, 8, 10], "both": [4, 8, 10], "async": [4, 8, 10]}
    assert flat(states(store.run("async"), 10)) == flat(states(store.run("both"), 10))
    assert sorted(each.name for each in Path("out/checkpoints").iterdir()) == ["step_10", "step_4", "step_8"]


@pytest.fixture
def place_of_links() -> Iterator[str]:
    """A directory whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory() as place:
        yield place


@pytest.fixture(scope="module")
def inference() -> Iterator[Inference]:
    server = Inference()
    yield server
    server.kill()


def test_two_halves_of_rl_are_the_whole_bit_for_bit(inference: Inference) -> None:
    program, argv = document()[2]
    assert (program, argv) == ("inference", [])
    inference.write_files(Path("path/to"))
    lines = [argv for program, argv in document() if program == "rl"]
    assert [argv[6:] for argv in lines] == [
        ["--max-steps", "10", "--ckpt"],
        ["--max-steps", "20", "--ckpt.resume-step", "10"],
    ]
    said = [end(begin("rl", *argv, store="split")) for argv in lines]
    # Never killed, it was sent each weights once: those after 0 to 9 steps, then those after 10 to 19.
    assert [text.count("weights were sent to the inference server 10 times") for text in said] == [1, 1]
    assert inference.process.poll() is None

    # 20 steps are the default. The server is killed in mid-run, and is another one then.
    whole = begin("rl", *FILES, "--ckpt.save-async", "--ckpt.output-dir", "out", store="whole")
    assert whole.stdout is not None
    printed = [next(line for line in whole.stdout if line.startswith("step 7:"))]
    inference.kill()
    inference.start()
    printed.append(end(whole))
    assert "step 20: reward" in printed[-1]

    one, other = run_of("whole"), run_of("split")
    assert (steps(one), steps(other), other.attempt) == ([20], [10, 20], 2)
    assert_equal_runs(one, other, 20, *PARTS)
    parts = states(other, 20, PARTS)
    assert set(parts["trainer"]) == {"model", "optimizer", "scheduler", "progress"}
    assert set(parts["orchestrator"]) == {"progress"}
    trainer, orchestrator = (parts[each]["progress"] for each in PARTS)
    tokens = orchestrator["total_tokens"]
    assert tokens > 20 * 64 * 4
    assert trainer == {"step": 20, "total_samples": 20 * 64, "total_tokens": tokens}
    assert orchestrator == {
        "step": 20, "total_tokens": tokens, "total_samples": 20 * 64, "total_problems": 20 * 8,
    }  # fmt: skip
    assert sorted(str(each.relative_to("out")) for each in Path("out").glob("checkpoints/*/*/")) == [
        "checkpoints/step_20/orchestrator", "checkpoints/step_20/trainer",
    ]  # fmt: skip
    check_forks("split")


def check_forks(store: str) -> None:
    """Of a run at 10 of 20 steps: a fork at another rate, and another run that begins with its weights."""
    fork_at = "--run-id slow --fork rl@10 --learning-rate 1e-4 --resume --max-steps 11"
    begin_with = "--run-id new --base rl@10 --learning-rate 0 --max-steps 1 --ckpt"
    # Beside each other: each asks the server for its own weights, and sends them again where it has the other's.
    for each in [begin("rl", *FILES, *line.split(), store=store) for line in (fork_at, begin_with)]:
        end(each)
    parent, fork, new = (runtree.Store(store).run(key) for key in ("rl", "slow", "new"))
    assert (fork.parent, fork.fork_step, fork.config["learning_rate"]) == (parent.display_id, 10, 1e-4)
    rates = [run.history("lr").values[:11] for run in (parent, fork)]
    assert rates[1][:10].tolist() == rates[0][:10].tolist()
    assert rates[1][10] == pytest.approx(rates[0][10] / parent.config["learning_rate"] * 1e-4)
    # --resume without --ckpt writes nothing.
    assert fork.checkpoints(inherited=False, pending=True) == []
    # The same weights were asked with other problems, as steps begin anew; at a rate of 0 they stay.
    one, other = (states(run, step, PARTS)["trainer"] for run, step in ((parent, 10), (new, 1)))
    assert flat(one["model"]) == flat(other["model"])
    assert other["progress"]["step"] == 1
    assert new.base is not None


class Relay(threading.Thread):
    """Stands between the orchestrator and the trainer, as a network does; no batch behind ``last`` arrives: ``crash`` is called."""

    def __init__(self, place: str, last: int, crash: Any) -> None:
        super().__init__(daemon=True)
        self.here, self.trainer = f"{place}/orchestrator", f"{place}/trainer"
        self.last, self.crash = last, crash
        self.listener = Listener(self.here)
        self.start()

    def run(self) -> None:
        with self.listener, self.listener.accept() as orchestrator:
            while not os.path.exists(self.trainer):
                time.sleep(0.05)
            with Client(self.trainer) as trainer:
                self.weights(trainer, orchestrator)
                while json.loads(batch := orchestrator.recv_bytes())["step"] <= self.last:
                    trainer.send_bytes(batch)
                    self.weights(trainer, orchestrator)
                self.crash()

    def weights(self, trainer: Any, orchestrator: Any) -> None:
        """What the trainer sends: some JSON, and weights."""
        for _ in range(2):
            orchestrator.send_bytes(trainer.recv_bytes())


def test_a_step_that_the_trainer_did_not_live_to_see_is_never_picked(inference: Inference, place_of_links: str) -> None:
    inference.write_files(Path("path/to"))
    argv = [*FILES, "--ckpt.interval", "1", "--ckpt.keep-last", "2"]
    launch = {"RUNTREE_ATTEMPT": uuid.uuid4().hex, "RUNTREE_GRACE_SECONDS": "1", "PYTHONWARNINGS": "default"}
    trainer = begin("trainer", *argv, "--link", f"{place_of_links}/trainer", **launch)
    Relay(place_of_links, 12, trainer.kill)
    orchestrator = begin("orchestrator", *argv, "--link", f"{place_of_links}/orchestrator", **launch)
    printed = end(orchestrator, code=1)
    assert "the trainer is gone" in printed
    assert "1 of 13 saves are not durable" in printed
    assert trainer.wait(timeout=SECONDS) == -signal.SIGKILL
    trainer.communicate()

    run = run_of("store")
    # The trainer may have died before it took 10 away.
    assert steps(run)[-2:] == [11, 12]
    # It is there, and is none.
    pending = [each for each in run.checkpoints(pending=True) if each.step == 13]
    assert [[part["component"] for part in each.parts if part["present"]] for each in pending] == [["orchestrator"]]

    said = end(begin("rl", *FILES, "--max-steps", "12", "--resume"))
    assert said.count(f"goes on from checkpoint {run.display_id}@12") == 2
    said = end(begin("rl", *FILES, "--max-steps", "14", "--ckpt.resume-step", "-1"))
    assert said.count(f"goes on from checkpoint {run.display_id}@12") == 2
    run = run_of("store")
    # What the first launch said is to be kept still counts.
    assert steps(run) == [12, 14]
    assert (run.attempt, run.history("reward").steps.tolist()) == (3, list(range(1, 15)))


def test_every_command_of_the_readme_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    settings = importlib.import_module("settings")
    # A name that other programs have, too.
    monkeypatch.delitem(sys.modules, "settings")
    monkeypatch.chdir(EXAMPLE)
    commands = re.findall(r"^python (\w+)\.py(.*?)(?: #.*)?$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    said = {script: [] for script, _ in commands}
    for script, rest in commands:
        assert (EXAMPLE / f"{script}.py").is_file()
        said[script].append(shlex.split(rest))
    assert set(said) == {"sft", "inference", "rl", "art_loop"}
    blocks = [settings.parse_sft(argv).ckpt for argv in said["sft"]]
    assert blocks == [runtree.CheckpointConfig(), runtree.CheckpointConfig(resume_step=20)]
    # As in the document.
    assert said["rl"][:2] == [
        [each.replace("path/to/", "") for each in argv] for program, argv in document() if program == "rl"
    ]
    for argv in said["rl"]:
        for component in PARTS:
            assert settings.parse_rl(argv, component).ckpt is not None
