"""Console capture: what goes to stdout and stderr is kept with the run, line by line, without secrets and without colours.

What is printed by other processes and by C code goes past Python's streams and is not seen.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from runtree._redact import Redactor

# Longest line that is kept whole; a program that prints without line ends must not fill the memory.
_LINE_LIMIT = 8192
# So much of a longer one is held back when it is cut: the beginning of a secret whose end has not been written yet.
_HELD_BACK = 1024

# CSI sequences (colours, cursor), OSC ones (titles, links), and the rest of the two-character ones.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+][0-~]|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# All there are, so that a forked child can be told to keep nothing: it may have a lock from a thread that it does not have.
_tees: weakref.WeakSet[Tee] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for tee in list(_tees):
        tee.runtree_forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Tee:
    """A stream that passes everything on, and gives whole lines to a run."""

    def __init__(self, inner: Any, keep: Callable[[list[str]], None], clean: Callable[[str], str]) -> None:
        self._runtree_inner = inner
        self._runtree_keep: Callable[[list[str]], None] | None = keep
        self._runtree_clean = clean
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
            lines = self._runtree_lines(text)
        if lines:
            try:
                keep(lines)
            except Exception:
                # Printing must not fail because keeping did; health() tells.
                self._runtree_keep = None

    def _runtree_lines(self, text: str) -> list[str]:
        rest = self._runtree_rest + text
        if "\n" in rest:
            *lines, rest = rest.split("\n")
        else:
            lines = []
        # A progress bar redraws one line, for hours: only what it shows last counts.
        if "\r" in rest[:-1]:
            ends = rest.endswith("\r")
            rest = rest.rstrip("\r").rpartition("\r")[2] + ("\r" if ends else "")
        if len(rest) >= _LINE_LIMIT:
            # Before it is cut: half a secret has no shape.
            rest = self._runtree_clean(rest)
            while len(rest) >= _LINE_LIMIT:
                lines.append(rest[: _LINE_LIMIT - _HELD_BACK])
                rest = rest[_LINE_LIMIT - _HELD_BACK :]
        self._runtree_rest = rest
        return lines

    def runtree_forget(self) -> None:
        """Only passes on, from now on."""
        self._runtree_keep = None

    def runtree_stop(self) -> None:
        """Keeps what is left of a line, then only passes on."""
        with self._runtree_lock:
            rest, self._runtree_rest = self._runtree_rest, ""
            keep, self._runtree_keep = self._runtree_keep, None
        if keep is not None and rest:
            keep([rest])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtree_inner, name)

    def __iter__(self) -> Any:
        return iter(self._runtree_inner)


def plain_line(line: str) -> str:
    """A line as it looked in the end: redrawn, without colours."""
    shown = line.rstrip("\r").rpartition("\r")[2]
    if "\x1b" in shown:
        shown = _ANSI.sub("", shown)
    return _CONTROL.sub("", shown)


class Capture:
    """Both streams of the process, until stopped; with them the handlers of ``logging`` that were made before and write to them."""

    def __init__(self, keep: Callable[[str, list[str]], None], redact: Redactor | None = None) -> None:
        self._redact = Redactor() if redact is None else redact
        self._keep = keep
        self._tees: list[tuple[str, Tee]] = []
        for name in ("stdout", "stderr"):
            inner: Any = getattr(sys, name)
            if inner is None:
                continue
            tee = Tee(inner, partial(self._take, name), self._redact)
            setattr(sys, name, tee)
            self._tees.append((name, tee))
        self._handlers = [(handler, inner) for tee in self._tees for handler, inner in _redirect(tee[1])]

    def _take(self, name: str, lines: list[str]) -> None:
        self._keep(name, [self._redact(plain_line(line))[:_LINE_LIMIT] for line in lines])

    def stop(self) -> None:
        """Puts the streams back, unless somebody else has put another over them since: then ours only passes on."""
        for name, tee in self._tees:
            tee.runtree_stop()
            if getattr(sys, name) is tee:
                setattr(sys, name, tee._runtree_inner)  # pyright: ignore[reportPrivateUsage]
        ours = [tee for _, tee in self._tees]
        for reference, inner in self._handlers:
            handler = reference()
            if handler is not None and any(handler.stream is tee for tee in ours):
                handler.stream = inner
        self._tees = []
        self._handlers = []


def _redirect(tee: Tee) -> list[tuple[Any, Any]]:
    """Has the handlers of ``logging`` that write to a stream write to its tee; weak references to them, and the stream."""
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return []
    found: list[tuple[Any, Any]] = []
    inner = tee._runtree_inner  # pyright: ignore[reportPrivateUsage]
    for reference in list(getattr(logging, "_handlerList", [])):
        handler: Any = reference()
        # Of the class itself: a subclass may mean something else by its stream (a file, a socket).
        if handler is not None and getattr(handler, "stream", None) is inner and "stream" in vars(handler):
            handler.acquire()
            try:
                handler.stream = tee
            finally:
                handler.release()
            found.append((reference, inner))
    return found
