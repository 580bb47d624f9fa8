"""Machines that share nothing but a bucket: each has its own cache, clock, and processes that are killed and started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1]


def clock_of(seconds: int, folder: Path) -> dict[str, str]:
    """Variables that put a process's clock off by so many seconds."""
    library = folder / "skewed_clock.so"
    if not library.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, TESTS / "buckets/skewed_clock.c"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_SKEW_SECONDS": str(seconds)}


@dataclass
class Host:
    """One machine."""

    name: str
    folder: Path
    place: str
    random: random.Random
    clock: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ledgers(self) -> list[Path]:
        """What its processes were promised."""
        return sorted(self.folder.glob("*.ledger"))

    def start(self, worker: str) -> None:
        """Starts a process, or starts it again."""
        self.folder.mkdir(exist_ok=True)
        own = {
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "RUNTREE_STAGING_DIR": str(self.folder / "staging"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        (self.folder / "staging").mkdir(exist_ok=True)
        ledger = self.folder / f"{worker}.ledger"
        words = [self.place, worker, str(ledger), str(self.random.randrange(1 << 30))]
        with (self.folder / f"{worker}.err").open("ab") as err:
            self.processes[worker] = subprocess.Popen(
                [sys.executable, "-m", "buckets.worker", *words],
                cwd=TESTS,
                env={**os.environ, **own, **self.clock},
                stderr=err,
                start_new_session=True,
            )

    def kill(self, worker: str) -> None:
        """``kill -9``, of what the process has started, too."""
        process = self.processes.pop(worker)
        # One that ended by itself may have left children, or nobody.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        """At once."""
        for worker in list(self.processes):
            self.kill(worker)

    def died(self) -> list[str]:
        """Processes that ended by themselves, with what they said: none should."""
        ended = [worker for worker, process in self.processes.items() if process.poll() is not None]
        return [f"{worker}: {(self.folder / f'{worker}.err').read_text()[-2000:]}" for worker in ended]
