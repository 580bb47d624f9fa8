"""Logging, bytes a point and stitched charts, beside trackio, tensorboard and wandb (offline)."""

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import peers
import runtree
from peers import microseconds

from measure import Report, median_seconds

NAMES = [f"train/metric_{i}" for i in range(10)]


def rows(count: int) -> list[dict[str, float]]:
    """`count` rows of 10 noisy float32-born values."""
    values = np.random.default_rng(3).standard_normal((count, 10)).astype(np.float32).cumsum(axis=0)
    return [dict(zip(NAMES, map(float, row), strict=True)) for row in values]


def ours(folder: Path, data) -> tuple[float, float]:
    run = runtree.init("bench", name="log", store=str(folder / "runtree"), system_metrics=False, console=False)
    took = microseconds(lambda row, step: run.log(row, step=step), data)
    run.finish()
    journals = sum(path.stat().st_size for path in (folder / "runtree").rglob("journal/*/*"))
    return took, journals / (len(data) * 10)


def bench_log(report: Report, folder: Path, count: int) -> None:
    """`log` of 10 metrics: median µs of the call, and bytes a point once finished."""
    report.section(f"log() of 10 metrics, {count} calls")
    data = rows(count)
    results = {}
    for name, (side, share) in {"runtree": (ours, 1), **peers.PEERS}.items():
        try:
            results[name] = side(folder, data[: count // share])
        except ImportError as error:
            report.row(name, "not installed", str(error))
            continue
        report.row(name, f"{results[name][0]:.1f} µs", f"{results[name][1]:.1f} bytes a point")
    report.verdict("log, median", results["runtree"][0], 5.0, unit="µs")
    report.verdict("bytes a point", results["runtree"][1], 5.0, unit="B")
    for name in results.keys() - {"runtree"}:
        report.verdict(f"log / {name}", results["runtree"][0] / results[name][0], 1.0, unit="x")
        report.verdict(f"bytes / {name}", results["runtree"][1] / results[name][1], 1.0, unit="x")


def bench_points(report: Report, folder: Path, calls: int) -> None:
    """Points a second from the first `log` to all of them durable."""
    report.section(f"Points to durable, {calls * 10:,}")
    run = runtree.init("bench", name="points", store=str(folder / "points"), system_metrics=False, console=False)
    data = rows(1000)
    start = time.perf_counter()
    for step in range(calls):
        run.log(data[step % 1000], step=step)
    run.finish()
    seconds = time.perf_counter() - start
    lost = sum(run.health().dropped_points.values())
    report.verdict("points a second", calls * 10 / seconds / 1e6, 1.0, unit="M/s", smaller=False)
    report.row("points lost to a full queue", str(lost))


def resident_bytes() -> int:
    """What this process keeps in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bench_sustained(report: Report, folder: Path, seconds: float) -> None:
    """As many points as become durable over a minute, and what memory does meanwhile."""
    report.section(f"Points to durable, for {seconds:.0f} s")
    run = runtree.init("bench", name="sustained", store=str(folder / "sustained"), system_metrics=False, console=False)
    data = rows(1000)
    start, step, sizes = time.perf_counter(), 0, []
    while (now := time.perf_counter() - start) < seconds:
        for row in data:
            run.log(row, step=step)
            step += 1
        if step % 100_000 == 0:
            # No faster than the disk takes them: beyond 64 MiB that wait, points would be dropped.
            run.flush()
            sizes.append((now, resident_bytes()))
    run.flush()
    took = time.perf_counter() - start
    assert not run.health().dropped_points
    report.verdict("points a second", step * 10 / took / 1e6, 1.0, unit="M/s", smaller=False)
    early = max(size for at, size in sizes if at < seconds / 2)
    late = max(size for at, size in sizes if at >= seconds / 2)
    report.verdict("memory: second half over first", late / early, 1.05, unit="x")
    report.row("resident at the end", f"{late / 2**20:.0f} MiB")
    run.finish()


def bench_finish(report: Report, folder: Path) -> None:
    """`finish()` right after the last of a million points."""
    report.section("finish() after 1,000,000 points")
    times = []
    data = rows(1000)
    for k in range(3):
        run = runtree.init("bench", name=f"finish-{k}", store=str(folder / "finish"), system_metrics=False, console=False)
        for step in range(100_000):
            run.log(data[step % 1000], step=step)
        start = time.perf_counter()
        run.finish()
        times.append(time.perf_counter() - start)
        assert not run.health().dropped_points
    report.verdict("finish()", statistics.median(times), 1.0, unit="s")


def bench_series(report: Report, folder: Path, points: int, forks: int) -> None:
    """A chart of one stitched series: `points` over a chain of `forks` runs, 1000 px."""
    report.section(f"Charts, {points:,} points over {forks} runs, 1000 px")
    store_path = str(folder / "series")
    per_run = points // forks
    values = np.random.default_rng(5).standard_normal(per_run).astype(np.float32).cumsum().tolist()
    parent = None
    for k in range(forks):
        fork = {} if parent is None else {"fork_run_id": parent, "fork_step": k * per_run - 1}
        run = runtree.init("bench", name="series", store=store_path, system_metrics=False, console=False, **fork)
        for i, value in enumerate(values):
            run.log({"loss": value}, step=k * per_run + i)
            if i % 500_000 == 499_999:
                time.sleep(1.5)  # let the journal keep up: this measures reading
        run.finish()
        parent = run.id
    leaf = runtree.Store(store_path).run(parent)
    assert len(leaf.history("loss")) == forks * per_run
    asked = {"series": [{"run": parent, "metric": "loss"}], "x": "step", "pixels": 1000, "inherited": True}
    command = [Path(sys.executable).with_name("runtree"), "--store", store_path, "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            url = f"{server.stdout.readline().strip().rstrip('/')}/api/v1/series"

            def chart() -> int:
                request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
                with urllib.request.urlopen(request) as answer:
                    return len(answer.read())

            times = median_seconds(
                {"chart": chart, "history": lambda: leaf.history("loss", points=1000), "whole": lambda: leaf.history("loss")}, 7
            )
        finally:
            server.terminate()
    report.verdict("stitched chart, over HTTP", times["chart"] * 1e3, 30.0, unit="ms")
    report.row("history(points=1000)", f"{times['history'] * 1e3:.0f} ms")
    report.row("history(), every point", f"{times['whole'] * 1e3:.0f} ms")


def bench_lineage(report: Report, folder: Path, depths: list[int]) -> None:
    """Resolving and stitching at the end of a chain of forks; each run logs one point, so that each owns a step."""
    report.section("Chains of forks")
    for depth in depths:
        store = str(folder / f"chain-{depth}")
        fork: dict[str, object] = {}
        start = time.perf_counter()
        for step in range(depth):
            run = runtree.init("bench", name="chain", store=store, system_metrics=False, console=False, **fork)
            run.log({"loss": float(step)}, step=step)
            run.finish()
            fork = {"fork_run_id": run.id, "fork_step": step}
        built = time.perf_counter() - start
        leaf = runtree.Store(store).run(run.id)
        series = leaf.history("loss")
        assert len(series) == depth
        assert len(leaf.lineage()) == depth
        limit = 10.0 if depth <= 1000 else 1000.0
        times = median_seconds({"lineage": leaf.lineage, "history": lambda leaf=leaf: leaf.history("loss")}, 7)
        report.row(f"{depth} deep: init, log, finish", f"{built / depth * 1e3:.1f} ms", "a run")
        report.verdict(f"{depth} deep: lineage", times["lineage"] * 1e3, limit, unit="ms")
        report.verdict(f"{depth} deep: stitched read", times["history"] * 1e3, limit, unit="ms")
