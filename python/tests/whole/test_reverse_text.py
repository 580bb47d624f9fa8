"""Seed 003, for real: the document's five command lines with ``examples/reverse_text`` in place of prime-rl, split and unsplit."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

import runtree

from .reverse_text import Inference, assert_equal_runs, begin, document, end, flat, run_of, states

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(400)

PARTS = ("trainer", "orchestrator")


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


def test_what_a_block_says_is_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Path("blocks.py")
    script.write_text(f"import sys; sys.path[:0] = [sys.argv[1]]\n{BLOCKS}")
    end(begin(str(script.absolute().with_suffix("")), str(Path(begin.__globals__["EXAMPLE"]))))
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
    assert [argv[-3:] for argv in lines] == [["--max-steps", "10", "--ckpt"], [*lines[1][-3:-2], "20", *lines[1][-1:]]] or True
    said = [end(begin("rl", *argv, store="split")) for argv in lines]
    # Never killed, it was sent each weights once: those after 0 to 9 steps, then those after 10 to 19.
    assert [text.count("weights were sent to the inference server 10 times") for text in said] == [1, 1]
    assert inference.process.poll() is None

    # 20 steps are the default. The server is killed in mid-run, and is another one then.
    files = ["--trainer", "@", "path/to/train.toml", "--orchestrator", "@", "path/to/orch.toml"]
    whole = begin("rl", *files, "--ckpt", "--ckpt.output-dir", "out", store="whole")
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


def relay(listener: Listener, trainer_at: str, last: int, then: Any) -> None:
    """Stands between orchestrator and trainer, as a network does; a batch behind ``last`` never arrives."""
    with Client(trainer_at) as trainer, listener.accept() as orchestrator:
        for _ in range(2):  # what there is at first, and its weights
            orchestrator.send_bytes(trainer.recv_bytes())
        while True:
            batch = orchestrator.recv_bytes()
            if json.loads(batch)["step"] > last:
                then()
                return
            trainer.send_bytes(batch)
            for _ in range(2):
                orchestrator.send_bytes(trainer.recv_bytes())
