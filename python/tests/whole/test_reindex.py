"""The index is a cache: deleted and folded anew, every answer is the same to the byte."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtree

RUNTREE = Path(sys.executable).with_name("runtree")


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A store with a root that was resumed and re-logged, a rewind, forks of forks, NaN, tags, pins and a deleted checkpoint."""
    store = tmp_path / "store"
    monkeypatch.setenv("RUNTREE_STORE", str(store))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = runtree.init(
        "family", name="root", run_id="root", config={"lr": 0.1, "net": {"depth": 2}}, tags=["a"], console=False
    )
    for step in range(120):
        root.log({"loss": 1 / (step + 1), "acc": step / 120}, step=step)
        if step % 20 == 0:
            root.save({"w": np.full(1000, step, np.float32)}, step=step).result()
    root.finish()
    again = runtree.init("family", name="root", run_id="root", resume="must", resume_from="60", console=False)
    for step in range(again.next_step, 140):
        again.log({"loss": 1 / (step + 2), "acc": step / 120}, step=step)
        if step % 20 == 0:
            again.save({"w": np.full(1000, -step, np.float32)}, step=step).result()
    again.finish()
    child = runtree.init("family", name="child", fork="root@80", config={"lr": 0.01}, tags=["b"], console=False)
    for step in range(child.next_step, 130):
        child.log({"loss": float("nan") if step > 110 else 0.5, "only/child": step * 1.5}, step=step)
        if step % 25 == 0:
            child.save({"w": np.full(1000, step / 2, np.float32)}, step=step).result()
    child.rewind(100)
    child.log({"loss": 0.25}, step=101)
    child.finish()
    handle = runtree.Store(str(store))
    grandchild = handle.fork("child@<=100", name="grandchild", config={"net": {"depth": 3}})
    handle.checkpoint("root@100").pin()
    handle.checkpoint("root@120").delete()
    return store, tmp_path / "cache", [again.id, child.id, grandchild.id]


def answers(store, runs):
    texts = {}
    for command in (
        ["runs"],
        *(["tree", run] for run in runs),
        *(["checkpoints", run] for run in runs),
        *(["show", run] for run in runs),
    ):
        told = subprocess.run([RUNTREE, *command, "--json"], capture_output=True, check=False, env=os.environ)
        assert told.returncode == 0, told.stderr.decode()
        texts[" ".join(command)] = told.stdout
    handle = runtree.Store(str(store))
    for run in runs:
        for inherited in (True, False):
            for name in ("loss", "acc", "only/child"):
                try:
                    series = handle.run(run).history(name, inherited=inherited)
                except runtree.errors.NotFound as missing:
                    texts[f"{run} {name} {inherited}"] = str(missing)
                    continue
                key = f"{run} {name} {inherited}"
                texts[key] = (
                    series.steps.tobytes()
                    + series.values.tobytes()
                    + np.asarray(series.timestamps).tobytes()
                    + repr(series.runs).encode()
                )
    return texts


def test_everything_comes_back_identical_after_the_index_is_deleted(family):
    store, cache, runs = family
    before = answers(store, runs)
    shutil.rmtree(cache)
    told = subprocess.run([RUNTREE, "reindex"], capture_output=True, check=False)
    assert told.returncode == 0, told.stderr.decode()
    after = answers(store, runs)
    assert before.keys() == after.keys()
    for key, text in before.items():
        assert text == after[key], f"{key} changed"
