"""System metrics: what the machine does while it trains, every ten seconds, from a thread of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable

INTERVAL_SECONDS = 10.0
_FIRST_SECONDS = 1.0


class Sampler:
    """Samples until stopped; never raises into the program."""

    def __init__(self, log: Callable[[dict[str, float]], None]) -> None:
        self._log = log
        self._stop = threading.Event()
        self._cpu = _cpu_times()
        self._process = time.process_time(), time.monotonic()
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

    def sample(self) -> dict[str, float]:
        """The numbers now."""
        values: dict[str, float] = {}
        cpu = _cpu_times()
        if cpu is not None and self._cpu is not None:
            busy, total = (now - then for now, then in zip(cpu, self._cpu, strict=True))
            if total > 0:
                values["sys/cpu_percent"] = 100.0 * busy / total
        self._cpu = cpu
        process = time.process_time(), time.monotonic()
        elapsed = process[1] - self._process[1]
        if elapsed > 0:
            values["sys/process_cpu_percent"] = 100.0 * (process[0] - self._process[0]) / elapsed
        self._process = process
        resident = _resident_bytes()
        if resident is not None:
            values["sys/rss_bytes"] = resident
        memory = _memory_used_percent()
        if memory is not None:
            values["sys/memory_percent"] = memory
        if self._gpu is not None:
            values.update(_gpus(self._gpu))
        return values


def _cpu_times() -> tuple[float, float] | None:
    try:
        with open("/proc/stat") as file:
            fields = [float(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    total = sum(fields)
    return total - fields[3] - fields[4], total


def _resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm") as file:
            return float(file.readline().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _memory_used_percent() -> float | None:
    found: dict[str, float] = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = float(rest.split()[0])
                if len(found) == 2:
                    return 100.0 * (1.0 - found["MemAvailable"] / found["MemTotal"])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        pass
    return None


def _gpus(command: str) -> dict[str, float]:
    query = "--query-gpu=utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu"
    try:
        answer = subprocess.run(
            [command, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    values: dict[str, float] = {}
    names = ("utilization_percent", "memory_used_mib", "memory_total_mib", "power_watts", "temperature_celsius")
    for gpu, line in enumerate(answer.stdout.splitlines()):
        for name, field in zip(names, line.split(","), strict=False):
            try:
                values[f"sys/gpu{gpu}_{name}"] = float(field)
            except ValueError:
                continue
    return values
