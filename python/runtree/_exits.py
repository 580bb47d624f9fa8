"""How the program ends: ``sys.exit(3)`` is a failure, and Python tells nobody what it was called with.

``sys.exit``, ``exit`` and ``quit`` raise a ``SystemExit`` that knows when it is dropped. If it is dropped by the interpreter
itself, with no
frame of the main thread left, nobody caught it: the program ends with its code. One that somebody caught says nothing. A
``raise SystemExit(3)``
that is written out is not seen outside of ``with``.
"""

from __future__ import annotations

import builtins
import sys
import threading
from typing import Any, NoReturn

_installed = False
_left: SystemExit | None = None


class _Exit(SystemExit):
    def __del__(self) -> None:
        global _left
        if self.code in (None, 0) or threading.current_thread() is not threading.main_thread():
            return
        if sys._getframe().f_back is None:  # pyright: ignore[reportPrivateUsage]
            _left = SystemExit(self.code)


_Exit.__name__ = _Exit.__qualname__ = "SystemExit"
_Exit.__module__ = "builtins"


def uncaught() -> SystemExit | None:
    """What the program ends with, asked when it does: None if it ran to its end, or with an exception."""
    return _left


def install() -> None:
    """From now on it is known."""
    global _installed
    if _installed:
        return
    _installed = True
    # One that somebody else has put there is theirs to keep.
    if type(sys.exit) is type(sys.getrefcount):
        sys.exit = _exit
    for name in ("exit", "quit"):
        quitter = getattr(builtins, name, None)
        if type(quitter).__name__ == "Quitter":
            setattr(builtins, name, _Quitter(quitter))


def _exit(status: Any = None, /) -> NoReturn:
    """Exit the interpreter by raising SystemExit(status)."""
    raise _Exit(status)


class _Quitter:
    """The interactive ``exit``, which closes stdin first."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner)

    def __call__(self, code: Any = None) -> NoReturn:
        try:
            self._inner(code)
        except SystemExit:
            pass
        raise _Exit(code)
