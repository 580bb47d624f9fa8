"""What is in a checkpoint's tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TensorReport:
    """A tensor of a checkpoint: what it is, how this store keeps it, and what is in it.

    ``min`` to ``norm`` are about the elements that are finite, and None if there are none, or the dtype holds no numbers (text,
    dates). A bool counts as 0 or 1, a complex number as its magnitude. Sums are taken in float64.
    """

    name: str
    """Dotted path."""
    entry: str
    """What it is in: ``state``, or a file of a saved directory."""
    part: str
    """Component and rank that wrote it: ``trainer-0``."""
    dtype: str
    """Element type: ``f32``, ``bf16``, ``i64``."""
    shape: tuple[int, ...]
    """Shape; of a shard, that of what this part holds."""
    global_shape: tuple[int, ...] | None
    """Shape of the whole tensor, if this is a shard of it."""
    bytes: int
    """Bytes of its elements."""
    encoding: str | None
    """How its bytes are kept now: ``raw``, ``planes``, ``difference``, ``mixed`` or ``missing``; None if it has none."""
    depth: int
    """Differences between it and bytes that stand for themselves; 0 unless it is a difference."""
    stored_bytes: int
    """Its share of the bytes of the objects that hold it."""
    elements: int
    """Number of elements."""
    nan: int
    """Elements that are NaN."""
    positive_infinity: int
    """Elements that are +Inf."""
    negative_infinity: int
    """Elements that are -Inf."""
    min: int | float | None
    """The smallest element, exact: an int for an integer dtype or bool."""
    max: int | float | None
    """The largest element, exact."""
    mean: float | None
    """The arithmetic mean."""
    std: float | None
    """The standard deviation of the population (``correction=0`` in torch, ``ddof=0`` in numpy)."""
    norm: float | None
    """The Euclidean norm: the square root of the sum of squares. Inf if that sum is beyond float64."""

    @property
    def nonfinite(self) -> int:
        """Elements that are NaN or infinite."""
        return self.nan + self.positive_infinity + self.negative_infinity


def report(info: dict[str, Any], statistics: dict[str, Any]) -> TensorReport:
    """A report of the engine's JSON."""
    encoding: dict[str, Any] = info.get("encoding") or {"kind": None, "depth": 0, "stored_bytes": 0}
    finite: dict[str, Any] = statistics["finite"] or {}
    sums = {name: float(finite[name]) if finite else None for name in ("mean", "std", "norm")}
    whole = info["global_shape"]
    return TensorReport(
        name=info["name"],
        entry=info["entry"],
        part=info["part"],
        dtype=info["dtype"],
        shape=tuple(info["shape"]),
        global_shape=None if whole is None else tuple(whole),
        bytes=info["bytes"],
        encoding=encoding["kind"],
        depth=encoding["depth"],
        stored_bytes=encoding["stored_bytes"],
        elements=statistics["elements"],
        nan=statistics["nan"],
        positive_infinity=statistics["positive_infinity"],
        negative_infinity=statistics["negative_infinity"],
        min=finite.get("min"),
        max=finite.get("max"),
        **sums,
    )
