"""ART's ``history.jsonl``: metrics, one JSON object a row, appended without care for a crash.

ART reads it with a table reader: one torn line or one ``Infinity`` and nothing is read, and a metric that first appears in row
101 is not seen. Here each line is read by itself. What is no number (texts, bools, null) is no point; NaN and infinities are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, NamedTuple, cast

# What describes a row and measures nothing.
_NOT_METRICS = frozenset({"step", "recorded_at", "training_step"})
_STEPS = range(-(2**63), 2**63)


class History(NamedTuple):
    """What a file says: points by step, times by step, and how many lines could not be read."""

    points: dict[int, dict[str, float]]
    times: dict[int, float]
    bad_lines: int


def parse(lines: Iterable[str | bytes]) -> History:
    """Reads rows. Several rows of one step are one point of each metric: their mean, as ART ranks them."""
    sums: dict[int, dict[str, tuple[float, int]]] = {}
    times: dict[int, float] = {}
    bad = 0
    for line in lines:
        if not line.strip():
            continue
        row = _row(line)
        step: Any = None if row is None else row.get("step")
        if row is None or isinstance(step, bool) or not isinstance(step, int) or step not in _STEPS:
            bad += 1
            continue
        values = sums.setdefault(step, {})
        for name, value in row.items():
            number = None if name in _NOT_METRICS else _number(value)
            if number is not None:
                total, count = values.get(name, (0.0, 0))
                values[name] = (total + number, count + 1)
        time = _time(row.get("recorded_at"))
        if time is not None:
            times[step] = time
    points = {step: {name: total / count for name, (total, count) in found.items()} for step, found in sums.items()}
    return History({step: points[step] for step in sorted(points) if points[step]}, times, bad)


def _row(line: str | bytes) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _time(text: Any) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None
