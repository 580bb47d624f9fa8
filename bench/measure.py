"""Medians of interleaved repetitions, and the table they end in."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def median_seconds(sides: dict[str, Callable[[], object]], repeat: int = 5, warm: int = 1) -> dict[str, float]:
    """Seconds per call of each side, the median of `repeat` rounds; sides take turns, so that a noisy neighbour hits all of them."""
    for _ in range(warm):
        for call in sides.values():
            call()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeat):
        for name, call in sides.items():
            start = time.perf_counter()
            told = call()
            times[name].append(told if isinstance(told, float) else time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def fsync_tree(folder: Path) -> None:
    """Makes everything below `folder` durable, directories included: what runtree's `result()` promises."""
    for root, _, files in os.walk(folder):
        for name in (*files, "."):
            fd = os.open(os.path.join(root, name), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def bytes_below(folder: Path) -> int:
    """Bytes of all regular files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Report:
    """Rows of `what · runtree · others · verdict`, printed as they come."""

    def __init__(self) -> None:
        self.behind: list[str] = []

    def section(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def row(self, what: str, value: str, note: str = "") -> None:
        print(f"  {what:<44} {value:>14}  {note}", flush=True)

    def verdict(self, what: str, ours: float, limit: float, *, unit: str, smaller: bool = True) -> None:
        """States whether `ours` keeps `limit`."""
        good = ours <= limit if smaller else ours >= limit
        sign = "≤" if smaller else "≥"
        if not good:
            self.behind.append(f"{what}: {ours:.3g} {unit}, wanted {sign} {limit:.3g}")
        self.row(what, f"{ours:.3g} {unit}", f"{'ok' if good else 'NOT YET'} ({sign} {limit:.3g})")

    def close(self) -> None:
        """Says where we are behind."""
        print("\nBehind in: " + ("; ".join(self.behind) if self.behind else "nothing measured here"))
