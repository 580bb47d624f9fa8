"""What ``Store.runs`` returns: a list, and the same as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

if TYPE_CHECKING:
    from runtree.store import Store
    from runtree.stored import StoredRun


class Runs(list["StoredRun"]):
    """Runs, in the order of the query. A list of :class:`StoredRun` that can be a table: one row per run.

    The columns of a table are those of every run (``id``, ``display_id``, ``number``, ``key``, ``name``, ``project``,
    ``experiment``, ``root``, ``status``, ``status_reason``, ``created``, ``last_activity``, ``attempt``, ``last_step``,
    ``parent``, ``fork_run_id``, ``fork_step``, ``base``, ``children``, ``checkpoints``, ``nonfinite_metric``,
    ``nonfinite_step``, ``deleted``, ``tags``, ``notes``), then ``config.KEY`` for each key, then for each metric
    ``last(METRIC)``, ``last_step(METRIC)``, ``min(METRIC)``, ``min_step(METRIC)``, ``max(METRIC)``, ``max_step(METRIC)``:
    effective values, inherited ones too. They are named as filters name them, and are what they are when the table is made.
    """

    def __init__(self, store: Store, runs: Iterable[StoredRun] = ()) -> None:
        super().__init__(runs)
        self._store = store

    @overload
    def __getitem__(self, index: SupportsIndex) -> StoredRun: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: SupportsIndex | slice) -> StoredRun | Runs:
        if isinstance(index, slice):
            return Runs(self._store, super().__getitem__(index))
        return super().__getitem__(index)

    def to_arrow(self, metrics: Sequence[str] | None = None) -> Any:
        """A ``pyarrow.Table``. With ``metrics``, columns of these alone.

        Config columns are int64, float64, bool or text, whichever holds all values; lists are text, as JSON. What a run does
        not have is null; NaN is a value.
        """
        pa: Any = import_module("pyarrow")

        ids = [run.id for run in self]
        rows, columns = self._store.native.run_table(ids, None if metrics is None else list(metrics))
        names = [name for name, _, _ in columns]
        return pa.table([_array(pa, kind, rows, buffers) for _, kind, buffers in columns], names=names)

    def to_pandas(self, metrics: Sequence[str] | None = None) -> Any:
        """A ``pandas.DataFrame``: whole numbers are ``Int64``, yes or no ``boolean``, texts ``string``, times
        ``datetime64[us, UTC]``, other numbers ``float64``, whether something is missing in them or not. See :meth:`to_arrow`."""
        pd: Any = import_module("pandas")
        pa: Any = import_module("pyarrow")

        types = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(), pa.large_string(): pd.StringDtype()}
        frame = self.to_arrow(metrics).to_pandas(types_mapper=types.get)
        frame["tags"] = [list(tags) for tags in frame["tags"]]
        return frame

    def to_polars(self, metrics: Sequence[str] | None = None) -> Any:
        """A ``polars.DataFrame``; see :meth:`to_arrow`."""
        pl: Any = import_module("polars")

        return pl.from_arrow(self.to_arrow(metrics))


def _array(pa: Any, kind: str, rows: int, buffers: Sequence[bytes | None]) -> Any:
    """An array over buffers that were filled in Arrow's layout."""
    wrapped = [None if buffer is None else pa.py_buffer(buffer) for buffer in buffers]
    if kind == "texts":
        texts = len(buffers[3] or b"") // 8 - 1
        values = pa.Array.from_buffers(pa.large_string(), texts, wrapped[2:])
        return pa.Array.from_buffers(pa.large_list(pa.large_string()), rows, wrapped[:2], children=[values])
    types = {
        "text": pa.large_string(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "boolean": pa.bool_(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    return pa.Array.from_buffers(types[kind], rows, wrapped)
