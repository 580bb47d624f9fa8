"""From `runtree exec --load` to the start of its command, beside `cp` of the same bytes; also on a disk with reflinks."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import Report

FILES = 4
_BLOCK = 64 << 20


def bench(report: Report, folder: Path, total: int, rounds: int) -> None:
    """Times both sides in turn; medians."""
    report.section(f"a job's start: {total / 1e9:.0f} GB in {FILES} files")
    base = folder / "job"
    _measure(report, base, total, rounds, "")
    shutil.rmtree(base)
    with _reflinking(folder, total) as mounted:
        if mounted is None:
            report.row("with reflinks", "not measured", "no XFS can be mounted here: needs root and mkfs.xfs")
        else:
            _measure(report, mounted / "job", total, rounds, ", XFS with reflinks")


def _measure(report: Report, base: Path, total: int, rounds: int, where: str) -> None:
    source = base / "source"
    source.mkdir(parents=True)
    for number in range(FILES):
        with open(source / f"model-{number}.bin", "wb") as file:
            for _ in range(total // FILES // _BLOCK):
                file.write(os.urandom(_BLOCK))
    environment = {**os.environ, "RUNTREE_STORE": str(base / "store"), "XDG_CACHE_HOME": str(base / "cache")}

    def runtree(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "runtree", "-q", *arguments], env=environment, check=True)

    runtree("exec", "--project", "p", "--run-id", "a", "--", "true")
    runtree("import", str(source), "--run", "p/a", "--step", "1")
    starts: list[float] = []
    copies: list[float] = []
    for number in range(rounds):
        os.sync()
        begun = time.perf_counter()
        subprocess.run(["cp", "-r", "--reflink=never", str(source), str(base / "copy")], check=True)
        copies.append(time.perf_counter() - begun)
        shutil.rmtree(base / "copy")
        os.sync()
        begun = time.perf_counter()
        runtree("exec", "--load", "p/a", "--into", str(base / f"loaded-{number}"), "--", "true")
        starts.append(time.perf_counter() - begun)
        shutil.rmtree(base / f"loaded-{number}")
    ours, copied = statistics.median(starts), statistics.median(copies)
    report.row(f"exec --load to the command's start{where}", f"{ours:.2f} s", ", ".join(f"{each:.2f}" for each in starts))
    report.row("cp of the same bytes", f"{copied:.2f} s", ", ".join(f"{each:.2f}" for each in copies))
    # The two of a round run one after the other: what else the disk does meanwhile differs more between rounds than within one.
    ratio = statistics.median(start / copy for start, copy in zip(starts, copies, strict=True))
    report.verdict(f"a job's start beside cp{where}", ratio, 1.1, unit="x")


@contextmanager
def _reflinking(folder: Path, total: int) -> Iterator[Path | None]:
    """A disk of a file, with reflinks, mounted until the end; None where that is not possible."""
    image, mounted = folder / "disk", folder / "mounted"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(5 * total + (2 << 30))
    try:
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
        image.unlink()
