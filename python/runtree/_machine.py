"""What the machine says of itself, read from ``/proc``; None where it says nothing."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def cpu_times() -> tuple[float, float] | None:
    """Busy and all jiffies of all CPUs since boot."""
    try:
        with open(_PROC / "stat") as file:
            fields = [float(field) for field in file.readline().split()[1:9]]
        total = sum(fields)
        return total - fields[3] - fields[4], total
    except (OSError, ValueError, IndexError):
        return None


def resident_bytes(process: str = "self") -> float | None:
    """Memory of a process that is in RAM."""
    try:
        with open(_PROC / process / "statm") as file:
            return float(file.readline().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def children_resident_bytes() -> float | None:
    """The same of its children (data loaders), added up; shared pages count in each."""
    total = 0.0
    try:
        for task in os.listdir(_PROC / "self" / "task"):
            with open(_PROC / "self" / "task" / task / "children") as file:
                for child in file.read().split():
                    total += resident_bytes(child) or 0.0
    except OSError:
        return None
    return total


def memory_used_percent() -> float | None:
    """Memory of the machine that is not available to others."""
    found: dict[str, float] = {}
    try:
        with open(_PROC / "meminfo") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = float(rest.split()[0])
                if len(found) == 2:
                    return 100.0 * (1.0 - found["MemAvailable"] / found["MemTotal"])
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        pass
    return None


def threads() -> float | None:
    """Threads of this process."""
    try:
        return float(len(os.listdir(_PROC / "self" / "task")))
    except OSError:
        return None


def disk_bytes() -> tuple[float, float] | None:
    """Bytes that this process has read from and written to disks."""
    try:
        with open(_PROC / "self" / "io") as file:
            fields = dict(line.split(": ") for line in file.read().splitlines())
        return float(fields["read_bytes"]), float(fields["write_bytes"])
    except (OSError, ValueError, KeyError):
        return None


def network_bytes() -> tuple[float, float] | None:
    """Bytes that the machine (the container) has received and sent, but to itself."""
    received = sent = 0.0
    try:
        with open(_PROC / "net" / "dev") as file:
            for line in file.read().splitlines()[2:]:
                name, _, rest = line.partition(":")
                if name.strip() != "lo":
                    fields = rest.split()
                    received += float(fields[0])
                    sent += float(fields[8])
    except (OSError, ValueError, IndexError):
        return None
    return received, sent


def used_percent(path: str | Path) -> float | None:
    """How full the file system of a path is, as ``df`` says."""
    try:
        facts = os.statvfs(path)
        used = facts.f_blocks - facts.f_bfree
        return 100.0 * used / (used + facts.f_bavail)
    except (OSError, ZeroDivisionError):
        return None
