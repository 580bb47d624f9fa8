"""runtree beside its peers, both sides in one run. `make bench`; `--quick` for a look."""

import argparse
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import cold
import hf_trainer
import job_start
import large_store
import remote
import transfer

import checkpoints
import metrics
from measure import Report

SECTIONS = [
    "save",
    "large",
    "memory",
    "fork",
    "cold",
    "lora",
    "log",
    "points",
    "sustained",
    "finish",
    "series",
    "lineage",
    "large-store",
    "transfer",
    "remote",
    "job",
    "hf",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    parser.add_argument("--only", choices=SECTIONS, action="append")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder beside this one's disk")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="runtree-bench-", dir=Path.cwd()))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    warnings.simplefilter("ignore")
    quick = args.quick
    wanted = args.only or SECTIONS
    report = Report()
    try:
        if "save" in wanted:
            for tensors in (200, 10_000):
                checkpoints.bench(report, folder, (256 << 20) if quick else (1 << 30), tensors, 3 if quick else 5)
        if "large" in wanted and not quick:
            for tensors in (200, 10_000):
                checkpoints.bench(report, folder, 4 << 30, tensors, 5)
        if "memory" in wanted:
            checkpoints.bench_memory(report, folder, [512 << 20] if quick else [1 << 30, 4 << 30], 256 << 20)
        if "fork" in wanted:
            checkpoints.bench_fork(report, folder, [10_000_000, 100_000_000 if quick else 1_000_000_000])
        if "cold" in wanted:
            cold.bench(report, folder, 128 if quick else 512)
        if "lora" in wanted:
            cold.bench_lora(report, folder, (64 << 20) if quick else (512 << 20))
        if "log" in wanted:
            metrics.bench_log(report, folder, 2_000 if quick else 20_000)
        if "points" in wanted:
            metrics.bench_points(report, folder, 50_000 if quick else 300_000)
        if "sustained" in wanted:
            metrics.bench_sustained(report, folder, 10 if quick else 60)
        if "finish" in wanted:
            metrics.bench_finish(report, folder)
        if "series" in wanted:
            metrics.bench_series(report, folder, 1_000_000 if quick else 10_000_000, 4)
        if "lineage" in wanted:
            metrics.bench_lineage(report, folder, [1000] if quick else [1000, 10_000])
        if "large-store" in wanted:
            large_store.bench(report, 2_000 if quick else 100_000, 200_000 if quick else 10_000_000)
        if "transfer" in wanted:
            transfer.bench(report, folder, (256 << 20) if quick else (1 << 30), 3 if quick else 5)
        if "remote" in wanted:
            remote.bench(report, folder, quick)
        if "job" in wanted:
            job_start.bench(report, folder, (1 << 30) if quick else 10 << 30, 3)
        if "hf" in wanted:
            hf_trainer.bench(report, folder, (100 << 20) if quick else (300 << 20), 3 if quick else 5)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.close()


if __name__ == "__main__":
    main()
