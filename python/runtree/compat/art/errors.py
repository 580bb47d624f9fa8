"""Errors that ART's callers expect, as errors of runtree."""

from __future__ import annotations

from runtree.errors import NotFound


class NoCheckpoint(NotFound, ValueError, FileNotFoundError):
    """There is no complete checkpoint that was asked for.

    ART raises ``FileNotFoundError`` where a model has none and ``ValueError`` where none is early enough: who catches these
    catches this.
    """
