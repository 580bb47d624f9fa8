"""A command under ``runtree exec`` that uses runtree itself: both speak of one launch of one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import runtree

COMMAND = """
import json, os, pathlib, numpy as np, runtree
saved = pathlib.Path(os.environ["BT_CHECKPOINT_DIR"])

def write(step):
    folder = saved / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.bin").write_text(f"weights {step}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))

with runtree.init(config={"lr": 0.1}) as run:
    first = run.next_step
    run.log({"loss": 0.5}, step=first + 4)
    run.save({"w": np.full(3, 5.0)}, step=first + 4).result()
    write(first + 4)
    write(first + 5)
if os.environ["BT_RETRY_COUNT"] == "0":
    raise SystemExit(3)
"""


def test_the_commands_own_run_is_the_jobs(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "RUNTREE_STORE": str(tmp_path / "store")}
    script = tmp_path / "train.py"
    script.write_text(COMMAND)
    arguments = [*("exec", "--project", "p", "--run-id", "a1", "--checkpoints", str(tmp_path / "c"), "--restarts", "1")]
    command = [sys.executable, "-m", "runtree", *arguments, "--", sys.executable, str(script)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "checkpoint-4 was not taken in: the command saved step 4 itself" in ran.stderr
    store = runtree.Store(tmp_path / "store")
    (run,) = store.runs()
    assert (run.display_id, run.key, run.status, run.config["lr"]) == ("P-1", "a1", "completed", 0.1)
    assert [attempt.number for attempt in run.attempts()] == [1, 2]
    # The second launch went on from what was taken in of the first: 5, so that it is 6 + 4 and 6 + 5.
    assert [each.step for each in run.checkpoints()] == [4, 5, 10, 11]
    assert run.checkpoint("4").load()["w"].tolist() == [5.0] * 3
    assert (run.dir("11") / "model.bin").read_text() == "weights 11"
    series = run.history("loss")
    assert [int(step) for step in series.steps] == [4, 10]
    assert json.loads((run.dir("5") / "trainer_state.json").read_text()) == {"global_step": 5}
