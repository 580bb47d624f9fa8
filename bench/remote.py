"""A training loop whose remote does not answer for a minute, beside the same loop without a remote."""

import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measure import Report

AWAY_SECONDS = 60
SAVE_EVERY = 50
STATE_BYTES = 8 << 20


def bench(report: Report, folder: Path, quick: bool) -> None:
    """Medians of step times, each loop in a process of its own, in turns."""
    away = 10 if quick else AWAY_SECONDS
    rounds = 1 if quick else 3
    report.section(f"a remote that is stopped for {away} s: step time, {rounds} x 2 processes in turns")
    bucket, server = os.environ.get("RUNTREE_TEST_BUCKET"), os.environ.get("RUNTREE_TEST_SERVER")
    if not bucket or not server:
        report.row("NOT MEASURED", "", "there is no bucket: scripts/with-s3 python bench/bench.py")
        return
    alone: list[float] = []
    pushed: list[float] = []
    for number in range(rounds):
        alone.append(loop(folder / f"alone-{number}", None, away, None))
        remote = f"{bucket}/remote-{os.getpid()}-{number}"
        pushed.append(loop(folder / f"pushed-{number}", remote, away, int(server)))
    one, other = statistics.median(alone), statistics.median(pushed)
    report.row("no remote", f"{one * 1e3:.2f} ms")
    report.row("remote, stopped meanwhile", f"{other * 1e3:.2f} ms")
    # The two of a round ran one after the other: what the machine did meanwhile concerns both.
    ratios = [b / a for a, b in zip(alone, pushed, strict=True)]
    report.verdict("step time with a remote that is away", statistics.median(ratios), 1.02, unit="x")
    report.row("by round", "", ", ".join(f"{ratio:.3f}x" for ratio in ratios))


def loop(folder: Path, remote: str | None, away: int, server: int | None) -> float:
    """Median step time of a process that trains 10 s longer than its remote is stopped; nothing of it may be lost."""
    folder.mkdir(parents=True)
    child = subprocess.Popen(
        [sys.executable, __file__, str(folder / "store"), remote or "", str(away + 10)],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    if server is not None:
        time.sleep(5)
        os.kill(server, signal.SIGSTOP)
        try:
            time.sleep(away)
        finally:
            os.kill(server, signal.SIGCONT)
    median, run, saves = child.stdout.readline().split()
    assert child.wait() == 0
    if remote:
        import runtree

        there = runtree.Store(remote).run(run)
        assert len(there.checkpoints()) == int(saves), "a checkpoint is not there"
    return float(median)


def train(store: str, remote: str, seconds: int) -> None:
    """The loop: a step of some milliseconds, logged; a save each so many steps."""
    import numpy as np
    import runtree

    run = runtree.init("bench", store=store, remote=remote or None, system_metrics=False, console=False, environment=False)
    matrix = np.random.default_rng(1).standard_normal((384, 384), "f4")
    state = {"w": np.zeros(STATE_BYTES // 4, "f4")}
    print("ready", flush=True)
    took: list[float] = []
    saves = 0
    end = time.monotonic() + seconds
    step = 0
    while time.monotonic() < end:
        began = time.perf_counter()
        for _ in range(4):
            matrix = np.tanh(matrix @ matrix / 100)
        run.log({f"m{i}": float(matrix[0, i]) for i in range(10)}, step=step)
        if step % SAVE_EVERY == 0:
            state["w"][:] = step
            run.save(state, step=step)
            saves += 1
        took.append(time.perf_counter() - began)
        step += 1
    report = run.finish()
    assert report.saves == saves
    assert report.remote is None or report.remote.complete, report.remote
    print(statistics.median(took), run.id, saves, flush=True)


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[3]))
