"""A metric's history, by columns."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple


class Stretch(NamedTuple):
    """Points in a row that one launch of one run logged."""

    run: str
    attempt: int
    points: int


class Series:
    """Points of one metric along a run's effective history, ascending by step.

    ``steps`` (i64), ``values`` (f64) and ``timestamps`` (UTC, microseconds) are numpy arrays, or ``array.array`` where numpy
    is not installed. ``runs`` and ``attempts`` say for every point whose it is.
    """

    def __init__(self, name: str, steps: bytes, values: bytes, timestamps: bytes, stretches: list[Stretch]) -> None:
        self.name = name
        self.stretches = stretches
        try:
            import numpy as np
        except ModuleNotFoundError:
            self.steps: Any = array("q", steps)
            self.values: Any = array("d", values)
            self.timestamps: Any = array("q", timestamps)
        else:
            self.steps = np.frombuffer(steps, "<i8")
            self.values = np.frombuffer(values, "<f8")
            self.timestamps = np.frombuffer(timestamps, "<M8[us]")

    @property
    def runs(self) -> Sequence[str]:
        """RunId of the run that logged each point."""
        return [stretch.run for stretch in self.stretches for _ in range(stretch.points)]

    @property
    def attempts(self) -> Sequence[int]:
        """Launch that logged each point."""
        return [stretch.attempt for stretch in self.stretches for _ in range(stretch.points)]

    def __len__(self) -> int:
        return len(self.steps)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy as np

        values: Any = np.asarray(self.values)
        return values.astype(dtype) if dtype is not None else (values.copy() if copy else values)

    def __repr__(self) -> str:
        if not len(self):
            return f"Series({self.name!r}, no points)"
        return f"Series({self.name!r}, {len(self)} points, steps {self.steps[0]}..{self.steps[-1]})"

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with the columns value, timestamp, run, attempt, indexed by step."""
        pd: Any = import_module("pandas")

        columns = {"value": self.values, "timestamp": self.timestamps, "run": self.runs, "attempt": self.attempts}
        return pd.DataFrame(columns, index=pd.Index(self.steps, name="step"))

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` with the columns step, value, timestamp, run, attempt."""
        pa: Any = import_module("pyarrow")

        columns: dict[str, Any] = {
            "step": pa.array(self.steps, pa.int64()),
            "value": pa.array(self.values, pa.float64()),
            "timestamp": pa.array(self.timestamps, pa.timestamp("us")),
            "run": pa.array(self.runs, pa.string()),
            "attempt": pa.array(self.attempts, pa.int64()),
        }
        return pa.table(columns)

    def to_polars(self) -> Any:
        """A ``polars.DataFrame`` with the columns step, value, timestamp, run, attempt."""
        pl: Any = import_module("polars")

        columns = {
            "step": pl.Series(self.steps, dtype=pl.Int64),
            "value": pl.Series(self.values, dtype=pl.Float64),
            "timestamp": pl.Series(self.timestamps).cast(pl.Datetime("us")),
            "run": pl.Series(self.runs, dtype=pl.String),
            "attempt": pl.Series(self.attempts, dtype=pl.Int64),
        }
        return pl.DataFrame(columns)
