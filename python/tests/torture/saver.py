"""A process that logs and saves until it is killed, and the check of what it left behind.

The saver tells on a pipe what it was promised: `logged STEP TIME` after `log` returned, `saved STEP` after `result()`
returned. What is saved is a function of (run, step), so the checker knows every byte without having been there.
"""

import os
import random
import time

import numpy as np

import runtree

SHARED = np.random.default_rng(0).integers(0, 256, 3 << 20, dtype=np.uint8)
"""The same in every run and step: two savers put the same chunks at the same time."""


def state_of(name, step):
    """What run `name` saves at `step`: a shared 3 MiB array, 1 MiB of its own, small leaves of every kind."""
    own = np.random.default_rng([step, *name.encode()]).integers(0, 256, 1 << 20, dtype=np.uint8)
    return {
        "shared": SHARED,
        "own": own,
        "small": [np.float32(step), np.arange(step % 7, dtype=np.int16)],
        "step": step,
        "name": name,
        "text": "x" * (step % 50),
    }


def same(a, b):
    """Whether two states are equal to the bit."""
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def save_for_ever(name, pipe, seed, save_every=3):
    """Resumes run `name`, checks what it resumed from, then logs and saves; never returns."""
    rng = random.Random(seed)
    run = runtree.init("torture", name=name, run_id=name, resume="allow", system_metrics=False, console=False)
    state = run.load(default=None)
    if state is not None and not same(state, state_of(name, state["step"])):
        os.write(pipe, b"WRONG resumed state\n")
    if state is not None and run.next_step != state["step"] + 1:
        os.write(pipe, f"WRONG next step {run.next_step} after {state['step']}\n".encode())
    os.write(pipe, f"started {run.next_step}\n".encode())
    step = run.next_step
    pending = []
    while True:
        run.log({"loss": 1 / (step + 1), "step/twice": step * 2.0}, step=step)
        os.write(pipe, f"logged {step} {time.time():.6f}\n".encode())
        if step % save_every == 0:
            pending.append((step, run.save(state_of(name, step), step=step)))
        while pending and (pending[0][1].done() or len(pending) > 3):
            saved_step, save = pending.pop(0)
            save.result()
            os.write(pipe, f"saved {saved_step}\n".encode())
        time.sleep(rng.random() * 0.01)
        step += 1


def parse(lines):
    """(steps that were acknowledged as saved, [(step, time)] of points that were logged, complaints)."""
    saved, logged, wrong = set(), [], []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "saved":
            saved.add(int(rest))
        elif word == "logged":
            step, at = rest.split()
            logged.append((int(step), float(at)))
        elif word == "WRONG":
            wrong.append(rest)
    return saved, logged, wrong


def check(store_path, name, saved, logged, died_at, *, slack=1.5):
    """Asserts P1, P2, P7 for run `name`; returns how many seconds of metrics were lost.

    `saved` are all steps ever acknowledged on the run's timeline, `logged` the points of the last launch.
    """
    run = runtree.Store(store_path).run(f"torture/{name}")
    listed = {checkpoint.step: checkpoint for checkpoint in run.checkpoints()}
    missing = saved - listed.keys()
    assert not missing, f"{name}: acknowledged checkpoints {sorted(missing)} are not listed"
    try:
        history = run.history("step/twice")
        points = dict(zip(history.steps.tolist(), history.values.tolist(), strict=True))
    except runtree.errors.NotFound:  # it died before its first second was over: no point got to disk
        points = {}
    assert all(value == step * 2.0 for step, value in points.items()), f"{name}: a point has a wrong value"
    newest = sorted(listed)[-3:]
    for step in newest:
        assert same(listed[step].load(), state_of(name, step)), f"{name}@{step} is not what was saved"
        holes = set(range(step + 1)) - points.keys()
        assert not holes, f"{name}@{step} has no points at {sorted(holes)[:5]}"
    lost = [died_at - at for step, at in logged if step not in points]
    assert not lost or max(lost) <= slack, f"{name}: points logged {max(lost):.2f} s before the end are gone"
    return max(lost, default=0.0)
