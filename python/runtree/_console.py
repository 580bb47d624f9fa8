"""Console capture: what goes to stdout and stderr is kept with the run, line by line."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

# Longest line that is kept whole; a program that prints without line ends must not fill the memory.
_LINE_LIMIT = 8192


# All there are, so that a forked child can be told to keep nothing: it may have a lock from a thread that it does not have.
_tees: weakref.WeakSet[Tee] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for tee in list(_tees):
        tee.runtree_forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Tee:
    """A stream that passes everything on, and gives whole lines to a run."""

    def __init__(self, inner: Any, keep: Callable[[list[str]], None]) -> None:
        self._runtree_inner = inner
        self._runtree_keep: Callable[[list[str]], None] | None = keep
        self._runtree_rest = ""
        self._runtree_lock = threading.RLock()
        _tees.add(self)

    def write(self, text: str) -> int:
        """Writes through, then keeps the lines that are complete."""
        written = self._runtree_inner.write(text)
        self._runtree_feed(text)
        return written

    def writelines(self, lines: Any) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def _runtree_feed(self, text: str) -> None:
        keep = self._runtree_keep
        if keep is None:
            return
        with self._runtree_lock:
            self._runtree_rest += text
            if "\n" not in text and len(self._runtree_rest) < _LINE_LIMIT:
                return
            *lines, self._runtree_rest = self._runtree_rest.split("\n")
            if len(self._runtree_rest) >= _LINE_LIMIT:
                # A progress bar redraws one line: only what it shows last counts.
                lines.append(self._runtree_rest)
                self._runtree_rest = ""
        if lines:
            try:
                keep([line.rstrip("\r").rpartition("\r")[2][:_LINE_LIMIT] for line in lines])
            except Exception:
                # Printing must not fail because keeping did; health() tells.
                self._runtree_keep = None

    def runtree_forget(self) -> None:
        """Only passes on, from now on."""
        self._runtree_keep = None

    def runtree_stop(self) -> None:
        """Keeps what is left of a line, then only passes on."""
        with self._runtree_lock:
            rest, self._runtree_rest = self._runtree_rest, ""
            keep, self._runtree_keep = self._runtree_keep, None
        if keep is not None and rest:
            keep([rest.rpartition("\r")[2][:_LINE_LIMIT]])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtree_inner, name)

    def __iter__(self) -> Any:
        return iter(self._runtree_inner)


class Capture:
    """Both streams of the process, until stopped."""

    def __init__(self, keep: Callable[[str, list[str]], None]) -> None:
        self._tees: list[tuple[str, Tee]] = []
        for name in ("stdout", "stderr"):
            inner: Any = getattr(sys, name)
            if inner is None:
                continue
            tee = Tee(inner, partial(keep, name))
            setattr(sys, name, tee)
            self._tees.append((name, tee))

    def stop(self) -> None:
        """Puts the streams back, unless somebody else has put another over them since: then ours only passes on."""
        for name, tee in self._tees:
            tee.runtree_stop()
            if getattr(sys, name) is tee:
                setattr(sys, name, tee._runtree_inner)  # pyright: ignore[reportPrivateUsage]
        self._tees = []
