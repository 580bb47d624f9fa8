"""A command that knows nothing of runtree, killed at random moments under ``runtree exec --restarts``: it ends as if nobody had."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 300
KILLS = 20

#: It saves as Hugging Face's trainer does, file by file, slowly enough to be killed in between, and checks what it is given.
TRAINER = """
import hashlib, json, os, pathlib, random, struct, time
saved, loaded = pathlib.Path(os.environ["BT_CHECKPOINT_DIR"]), os.environ.get("BT_LOAD_CHECKPOINT_DIR")
(saved / ".pid").write_text(str(os.getpid()))
step, weights, generator = 0, [0.0] * 64, random.Random(7)

def tensors(values):
    raw = struct.pack(f"<{len(values)}d", *values)
    header = json.dumps({"w": {"dtype": "F64", "shape": [len(values)], "data_offsets": [0, len(raw)]}}).encode()
    return struct.pack("<Q", len(header)) + header + raw

if loaded:
    names = [path for path in pathlib.Path(loaded).iterdir() if path.name.startswith("checkpoint-")]
    (newest,) = names
    state = json.loads((newest / "trainer_state.json").read_text())
    step, generator = state["global_step"], random.Random()
    generator.setstate(tuple(tuple(each) if isinstance(each, list) else each for each in state["generator"]))
    raw = (newest / "model.safetensors").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == state["digest"], "torn"
    weights = list(struct.unpack("<64d", raw[-512:]))
while step < STEPS:
    step += 1
    weights = [0.9 * weight + generator.gauss(0, 1) for weight in weights]
    time.sleep(0.008)
    if step % 4 == 0:
        folder = saved / f"checkpoint-{step}"
        folder.mkdir(exist_ok=True)
        raw = tensors(weights)
        with open(folder / "model.safetensors", "wb") as file:
            for at in range(0, len(raw), 100):
                file.write(raw[at : at + 100])
                file.flush()
                time.sleep(0.001)
        (folder / "optimizer.pt").write_bytes(b"moments" * step)
        time.sleep(0.002)
        text = json.dumps({"global_step": step, "generator": generator.getstate(), "digest": hashlib.sha256(raw).hexdigest()})
        (folder / "trainer_state.json").write_text(text)
""".replace("STEPS", str(STEPS))


def command(tmp_path: Path, key: str, *options: str) -> list[str]:
    script = tmp_path / "train.py"
    script.write_text(TRAINER)
    return [
        *(
            sys.executable,
            "-m",
            "runtree",
            "--store",
            str(tmp_path / "store"),
            "exec",
            "--project",
            "p",
            "--run-id",
            key,
        ),
        *("--checkpoints", str(tmp_path / key), *options, "--", sys.executable, str(script)),
    ]


def weights(tmp_path: Path, key: str) -> bytes:
    to = tmp_path / f"{key}-out"
    export = [
        sys.executable,
        "-m",
        "runtree",
        "--store",
        str(tmp_path / "store"),
        "export",
        f"p/{key}@{STEPS}",
        str(to),
    ]
    subprocess.run(export, check=True, capture_output=True)
    return (to / "model.safetensors").read_bytes()


@pytest.mark.timeout(240)
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(command(tmp_path, "whole"), check=True, capture_output=True, env=environment)
    chance = random.Random(1)
    options = ("--restarts", "1000", "--backoff", "0.01")
    with subprocess.Popen(
        command(tmp_path, "killed", *options), stderr=subprocess.PIPE, text=True, env=environment
    ) as job:
        known, kills = "", 0
        pid_file = tmp_path / "killed" / ".pid"
        deadline = time.monotonic() + 200
        while kills < KILLS and job.poll() is None and time.monotonic() < deadline:
            pid = pid_file.read_text() if pid_file.exists() else known
            if pid in ("", known):
                time.sleep(0.005)
                continue
            known = pid
            time.sleep(chance.uniform(0, 0.25))
            # One that ended by itself in between was not killed.
            if job.poll() is None:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
        said = job.communicate(timeout=120)[1]
    assert job.returncode == 0, said
    assert kills == KILLS, said
    assert "AssertionError" not in said
    assert weights(tmp_path, "killed") == weights(tmp_path, "whole")
    listed = [sys.executable, "-m", "runtree", "--store", str(tmp_path / "store"), "checkpoints", "p/killed", "--json"]
    steps = [each["step"] for each in json.loads(subprocess.run(listed, check=True, capture_output=True).stdout)]
    assert sorted(set(steps)) == list(range(4, STEPS + 1, 4))
    aside = list((tmp_path / "killed").glob(".torn-*"))
    print(f"{kills} kills, {len(aside)} torn directories set aside")
