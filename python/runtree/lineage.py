"""Where a run comes from, what it left behind, and what was tried beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from runtree.checkpoint import time as _time

if TYPE_CHECKING:
    from runtree.store import Store
    from runtree.stored import StoredRun


class Segment(NamedTuple):
    """A stretch of an effective history: what one launch of one run contributes. Steps are inclusive; None: open."""

    run: str
    attempt: int
    first: int | None
    last: int | None


class Attempt(NamedTuple):
    """A launch of a run.

    ``base`` is what it is built upon: (run, attempt, step). ``ghost_from`` is the first step it logged that the run's effective
    history does not have: what a resume or a rewind left behind, still there for ``run.history(metric, attempt=number)``.
    """

    number: int
    kind: str
    base: tuple[str, int, int] | None
    steps: tuple[int, int] | None
    ghost_from: int | None
    created: datetime
    last_activity: datetime
    launch: dict[str, str]


class MetricValue(NamedTuple):
    """A value and its step."""

    step: int
    value: float


class MetricSummary(NamedTuple):
    """What a metric comes to. ``min`` and ``max`` are among the finite values, at their first step; None: there is none."""

    last: MetricValue
    min: MetricValue | None
    max: MetricValue | None
    points: int


def attempt(info: dict[str, Any]) -> Attempt:
    """One of the engine's launches."""
    base, steps = info["base"], info["steps"]
    return Attempt(
        info["attempt"],
        info["kind"],
        None if base is None else (base["run"]["display_id"], base["attempt"], base["step"]),
        None if steps is None else (steps["first"], steps["last"]),
        info["ghost_from"],
        _time(info["created"]),
        _time(info["last_activity"]),
        info["launch"],
    )


def summary(info: dict[str, Any], inherited: bool) -> MetricSummary | None:
    """What a metric comes to, of the engine's facts; None without a point that counts."""
    own = "" if inherited else "own_"
    last = _value(info[f"{own}last"])
    if last is None:
        return None
    return MetricSummary(last, _value(info[f"{own}min"]), _value(info[f"{own}max"]), info[f"{own}points"])


def _value(info: dict[str, Any] | None) -> MetricValue | None:
    return None if info is None else MetricValue(info["step"], float(info["value"]))


class Sweep(Sequence["StoredRun"]):
    """What was forked from one checkpoint, side by side: a sequence of the forks, oldest first.

    ``config_keys`` are the dotted keys in which a fork differs from its parent; ``metrics`` says of each metric whether ``min`` or
    ``max`` is its best, by its name. :meth:`rows` has a row for the parent, as it went on itself, and for each fork.
    """

    def __init__(self, store: Store, table: dict[str, Any]) -> None:
        from runtree.stored import StoredRun

        self._table = table
        self.reference: str = table["reference"]
        self.parent = StoredRun(store, table["parent"]["id"])
        self.config_keys: list[str] = table["config_keys"]
        self.metrics: dict[str, str] = {
            metric["name"]: "min" if metric["lower_is_better"] else "max" for metric in table["metrics"]
        }
        self._runs = [StoredRun(store, run["id"]) for run in table["runs"]]

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        runs: list[Any] = self._runs
        return runs[index]

    def rows(self) -> list[dict[str, Any]]:
        """One dict a run, the parent first: ``run``, ``name``, ``status``, ``last_step``, ``config.<key>``, ``last(<metric>)`` and
        ``min(<metric>)`` or ``max(<metric>)``, its best: named as filters and frames name them. What a run does not have is None."""
        return [self._row(run) for run in (self._table["parent"], *self._table["runs"])]

    def _row(self, run: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "run": run["display_id"],
            "name": run["name"],
            "status": run["status"],
            "last_step": run["last_step"],
        }
        for key in self.config_keys:
            row[f"config.{key}"] = next(_find(run["config"], key), None)
        for metric, best in self.metrics.items():
            found = run["metrics"].get(metric)
            row[f"last({metric})"] = None if found is None else float(found["value"])
            extreme = None if found is None else found[best]
            row[f"{best}({metric})"] = None if extreme is None else float(extreme["value"])
        return row

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` of :meth:`rows`."""
        pd: Any = import_module("pandas")
        return pd.DataFrame(self.rows())

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` of :meth:`rows`; config values of several types become text."""
        pa: Any = import_module("pyarrow")
        rows = self.rows()
        columns: dict[str, Any] = {}
        for name in rows[0]:
            values = [row[name] for row in rows]
            try:
                columns[name] = pa.array(values)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                columns[name] = pa.array([None if value is None else str(value) for value in values])
        return pa.table(columns)

    def __repr__(self) -> str:
        rows = self.rows()
        names = list(rows[0])
        cells = [names] + [["" if row[name] is None else _text(row[name]) for name in names] for row in rows]
        widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
        lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
        return "\n".join([f"forked from {self.reference}", *(line.rstrip() for line in lines)])


def _find(config: Any, path: str) -> Iterator[Any]:
    """The value at a dotted path; a key may contain dots itself, so the longest name wins at every level."""
    if not isinstance(config, dict):
        return
    level: dict[str, Any] = config  # pyright: ignore[reportUnknownVariableType]
    if path in level:
        yield level[path]
        return
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        yield from _find(level.get(".".join(parts[:count])), ".".join(parts[count:]))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
