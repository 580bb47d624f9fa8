"""System metrics: what the machine does while it trains, every ten seconds, from a thread of its own.

The names are a promise: docs/logging.md has the table.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runtree import _machine

INTERVAL_SECONDS = 10.0
_FIRST_SECONDS = 1.0
_GPU_NAMES = ("utilization_percent", "memory_used_mib", "memory_total_mib", "power_watts", "temperature_celsius")
_GPU_QUERY = "--query-gpu=utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"


class Sampler:
    """Samples until stopped; never raises into the program."""

    def __init__(self, log: Callable[[dict[str, float]], None], store: str | Path = ".") -> None:
        self._log = log
        self._store = store
        self._stop = threading.Event()
        self._cpu = _machine.cpu_times()
        self._counted = self._count()
        self._gpu = shutil.which("nvidia-smi")
        self._thread = threading.Thread(target=self._run, name="runtree-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        wait = _FIRST_SECONDS
        while not self._stop.wait(wait):
            wait = INTERVAL_SECONDS
            try:
                self._log(self.sample())
            except Exception:
                # The machine's numbers are a convenience: a closed run or an odd /proc ends them, nothing else.
                return

    @staticmethod
    def _count() -> tuple[float, dict[str, float | None]]:
        """What only grows, and when it was read."""
        read, written = _machine.disk_bytes() or (None, None)
        received, sent = _machine.network_bytes() or (None, None)
        counts = {
            "sys/process_cpu_percent": 100.0 * time.process_time(),
            "sys/disk_read_bytes_per_second": read,
            "sys/disk_written_bytes_per_second": written,
            "sys/network_received_bytes_per_second": received,
            "sys/network_sent_bytes_per_second": sent,
        }
        return time.monotonic(), counts

    def sample(self) -> dict[str, float]:
        """The numbers now."""
        values: dict[str, float | None] = {}
        cpu = _machine.cpu_times()
        if cpu is not None and self._cpu is not None:
            busy, total = (now - then for now, then in zip(cpu, self._cpu, strict=True))
            values["sys/cpu_percent"] = 100.0 * busy / total if total > 0 else None
        self._cpu = cpu
        (then, before), (now, counts) = self._counted, self._count()
        self._counted = now, counts
        for name, count in counts.items():
            earlier = before[name]
            # A counter that went back was started anew: nothing is known of this interval.
            if count is not None and earlier is not None and now > then and count >= earlier:
                values[name] = (count - earlier) / (now - then)
        values["sys/rss_bytes"] = _machine.resident_bytes()
        values["sys/children_rss_bytes"] = _machine.children_resident_bytes()
        values["sys/threads"] = _machine.threads()
        values["sys/memory_percent"] = _machine.memory_used_percent()
        values["sys/store_used_percent"] = _machine.used_percent(self._store)
        if self._gpu is not None:
            values.update(gpus(self._gpu))
        return {name: value for name, value in values.items() if value is not None}


def gpus(command: str) -> dict[str, float]:
    """What ``nvidia-smi`` says of each GPU; nothing of one that does not answer."""
    try:
        answer = subprocess.run(
            [command, _GPU_QUERY, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return {}
    values: dict[str, float] = {}
    for gpu, line in enumerate(answer.stdout.splitlines()):
        for name, field in zip(_GPU_NAMES, line.split(","), strict=False):
            try:
                values[f"sys/gpu{gpu}_{name}"] = float(field)
            except ValueError:
                # "[N/A]": a GPU without the sensor.
                continue
    return values
