"""Warnings of runtree: one per kind and process; with ``RUNTREE_STRICT=1`` some are errors."""

from __future__ import annotations

import os
import warnings

from runtree.errors import RuntreeWarning

_seen: set[str] = set()


def once(kind: str, message: str) -> None:
    """Warns, unless this kind was warned about before."""
    if kind in _seen:
        return
    _seen.add(kind)
    # The frames of runtree itself say nothing to the user: the warning stands where they called it.
    warnings.warn(message, RuntreeWarning, stacklevel=_depth())


def strict() -> bool:
    """Whether failures of disk and network are to raise."""
    return os.environ.get("RUNTREE_STRICT", "") not in ("", "0")


def _depth() -> int:
    import sys

    depth, frame = 1, sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("runtree"):
        frame = frame.f_back
        depth += 1
    return depth
