"""What the engine and a browser answer on a store of 100,000 runs; `crates/engine/examples/big_store.rs` makes it, once, and asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from measure import Report

ROOT = Path(__file__).parents[1]
# What a row of the example's answer is measured against, by how it begins: milliseconds.
LIMITS = {
    "open, first page": 300.0,
    "runs: ": 50.0,
    "chart: stitched": 30.0,
    "chart: 20 runs": 100.0,
    "wide run: metrics": 50.0,
    "table of": 1000.0,
    "compare page": 1000.0,
}


def browsed(folder: Path) -> list[list[str]]:
    """Rows of what a browser says of the same store behind the real server."""
    command = [Path(sys.executable).with_name("runtree"), "--store", folder / "store", "serve", "--port", "0"]
    # The example keeps its index beside the store, where the server finds it in a folder of its name.
    environment = {**os.environ, "XDG_CACHE_HOME": os.fspath(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            address = {**os.environ, "RUNTREE_URL": server.stdout.readline().strip()}
            script = ROOT / "bench" / "large_browser.mjs"
            told = subprocess.run(["node", script], stdout=subprocess.PIPE, text=True, check=True, env=address)
        finally:
            server.terminate()
    return [line.split("\t") for line in told.stdout.splitlines()]


def example(*words: str) -> list[list[str]]:
    """Rows of what the example says."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "runtree-engine", "--example", "big_store", "--", *words]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [line.split("\t") for line in told.stdout.splitlines()]


def made(runs: int, points: int) -> Path:
    """Where the store is; made if it is not there. In memory, if that has room: on a disk 100,000 births wait for fsync."""
    memory = Path("/dev/shm")
    is_roomy = memory.is_dir() and shutil.disk_usage(memory).free > 8 << 30
    folder = (memory / "runtree-bench" if is_roomy else ROOT / "target" / "bench") / f"big-{runs}-{points}"
    if not (folder / "names.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        example("make", str(folder), str(runs), str(points))
    return folder


def bench(report: Report, runs: int, points: int) -> None:
    """Engine time of what the pages ask, medians of 11 rounds, then pages in a browser, of 5; minimum and first round beside them."""
    report.section(f"A store of {runs:,} runs; {points:,} points over 20 forks; 20 runs of {points // 10:,} points; 10,000 metrics")
    folder = made(runs, points)
    report.row("where", os.fspath(folder))
    for what, median, *others in [*example("ask", os.fspath(folder)), *browsed(folder)]:
        limit = next((limit for start, limit in LIMITS.items() if what.startswith(start)), None)
        note = " / ".join(f"{float(each):.1f}" for each in others)
        if limit is None:
            report.row(what, f"{float(median):.1f} ms", note)
        else:
            report.verdict(f"{what} ({note})" if note else what, float(median), limit, unit="ms")
