"""Two trainers, the UI's server and the command line on one store at once: no lock error, no lost point."""

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import runtree

SECONDS = float(os.environ.get("RUNTREE_TOGETHER_SECONDS", "60"))
RUNTREE = Path(sys.executable).with_name("runtree")

TRAINER = """
import sys, time
import numpy as np
import runtree
name, seconds = sys.argv[1], float(sys.argv[2])
run = runtree.init("together", name=name, run_id=name, system_metrics=False)
end, step = time.monotonic() + seconds, 0
weights = np.zeros((256, 1024), np.float32)
while time.monotonic() < end:
    weights += 0.5
    run.log({"loss": 1 / (step + 1), "step/itself": step}, step=step)
    if step % 200 == 0:
        run.save({"weights": weights, "step": step}, step=step)
    step += 1
    time.sleep(0.002)
report = run.finish()
print(step)
"""


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.timeout(SECONDS + 240)
def test_two_trainers_a_server_and_the_command_line_share_a_store(tmp_path):
    store = tmp_path / "store"
    env = os.environ | {"RUNTREE_STORE": str(store), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env["PYTHONWARNINGS"] = "error"
    runtree.Store(str(store), create=True)
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    server = subprocess.Popen([RUNTREE, "serve", "--port", "0"], **pipe)
    trainers = [
        subprocess.Popen([sys.executable, "-c", TRAINER, f"trainer-{i}", str(SECONDS)], **pipe) for i in range(2)
    ]
    try:
        address = server.stdout.readline().strip().rstrip("/")
        end, rounds = time.monotonic() + SECONDS, 0
        commands = [
            ["runs"],
            ["tree", "trainer-0"],
            ["checkpoints", "trainer-1"],
            ["show", "trainer-0"],
            ["log", "trainer-1"],
        ]
        time.sleep(3)
        while time.monotonic() < end:
            command = random.choice(commands)
            told = subprocess.run(
                [RUNTREE, *command, "--json"], capture_output=True, text=True, env=env, timeout=60, check=False
            )
            assert told.returncode == 0, f"{command}: {told.stderr}"
            json.loads(told.stdout)
            page = get(f"{address}/api/v1/runs?project=together")
            for run in page["runs"]:
                detail = get(f"{address}/api/v1/runs/{run['id']}")
                assert detail["summary"]["id"] == run["id"]
            rounds += 1
        assert rounds >= 5
        counts = []
        for trainer in trainers:
            out, err = trainer.communicate(timeout=120)
            assert trainer.returncode == 0, err
            counts.append(int(out.splitlines()[-1]))
    finally:
        for process in (server, *trainers):
            process.terminate()
    err = server.communicate(timeout=30)[1]
    assert not re.search("locked|error", err, re.IGNORECASE), err
    for name, count in zip(("trainer-0", "trainer-1"), counts, strict=True):
        run = runtree.Store(str(store)).run(f"together/{name}")
        series = run.history("step/itself")
        assert series.steps.tolist() == list(range(count)), f"{name} lost points"
        assert series.values.tolist() == list(map(float, range(count)))
        assert [checkpoint.step for checkpoint in run.checkpoints()] == list(range(0, count, 200))
