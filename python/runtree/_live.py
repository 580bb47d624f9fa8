"""Live runs of this process, and how they end when nobody calls finish: at exit, by an exception, by SIGTERM."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from runtree import _exits
from runtree._native import leave_staging

if TYPE_CHECKING:
    from runtree.run import Run

GRACE_SECONDS = 10.0
"""How long a run that ends with an exception or a signal waits for what is on its way; ``RUNTREE_GRACE_SECONDS`` sets it."""

# More than a run needs to end whose time is up: it still waits for its last points, its index and its helpers.
_TOO_LONG_SECONDS = 20.0

_runs: dict[str, Run] = {}
_installed = False
_uncaught: BaseException | None = None


def adopt(run: Run) -> None:
    """Takes a run that has just started under care, with its config and tags as the store has them."""
    facts = run._summary()  # pyright: ignore[reportPrivateUsage]
    run._config = dict(facts["config"])  # pyright: ignore[reportPrivateUsage]
    run._tags = list(facts["tags"])  # pyright: ignore[reportPrivateUsage]
    _install()
    _runs[run.id] = run


def remove(run: Run) -> None:
    """The run has ended."""
    _runs.pop(run.id, None)


def find(run_id: str) -> Run | None:
    """The live run of this process with an id."""
    return _runs.get(run_id)


def by_key(project: str, key: str, place: str) -> Run | None:
    """The live run of this process with a key."""
    for run in _runs.values():
        if run.key == key and run.project == project and run.store.location == place:
            return run
    return None


def catch_up(place: str) -> None:
    """Makes durable what runs of this process logged to a store: who forks one of them the moment after means that, too."""
    for run in list(_runs.values()):
        if run.store.location == place:
            run._catch_up()  # pyright: ignore[reportPrivateUsage]


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The status of a run that ended with an exception, and why."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped", "KeyboardInterrupt"
    if isinstance(error, SystemExit):
        clean = error.code in (None, 0)
        return ("completed", "") if clean else ("failed", f"SystemExit: {error.code}")
    return "failed", "".join(traceback.format_exception_only(type(error), error)).strip()


def check_grace() -> None:
    """Refuses an ``RUNTREE_GRACE_SECONDS`` that is no number while somebody can still read why."""
    from runtree.errors import Invalid

    text = os.environ.get("RUNTREE_GRACE_SECONDS")
    if text and _seconds(text) is None:
        raise Invalid(
            f"RUNTREE_GRACE_SECONDS {text!r} is not a number of seconds",
            hint="the time between SIGTERM and SIGKILL where it runs, less a second: 29 under Kubernetes",
        )


def grace() -> float:
    seconds = _seconds(os.environ.get("RUNTREE_GRACE_SECONDS", ""))
    return GRACE_SECONDS if seconds is None else seconds


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_runs.clear)
    _exits.install()
    before_hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _uncaught
        _uncaught = error
        before_hook(kind, error, trace)

    sys.excepthook = excepthook
    # Handlers can only be set by the main thread; and who has set one to ignore means it.
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGTERM)
        if before is not signal.SIG_IGN and before is not None:
            signal.signal(signal.SIGTERM, lambda number, frame: _terminated(before, number, frame))


def _at_exit() -> None:
    from runtree.errors import Error

    end = _uncaught or _exits.uncaught()
    status, reason = ("completed", None) if end is None else outcome_of(end)
    for run in list(_runs.values()):
        try:
            run._finish(status, reason, None if end is None else grace())  # pyright: ignore[reportPrivateUsage]
        except Error as error:
            print(f"runtree: {error}", file=sys.stderr)
    leave_staging()


def _terminated(before: Any, number: int, frame: FrameType | None) -> None:
    # Each wait below has an end. Should one of them not come to it, the program ends all the same, as it was told to: what is
    # staged outlives it.
    last_resort = threading.Timer(grace() + _TOO_LONG_SECONDS, os._exit, (128 + number,))
    last_resort.daemon = True
    last_resort.start()
    _finish_all(number)
    last_resort.cancel()
    if callable(before):
        before(number, frame)
        return
    leave_staging()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _finish_all(number: int) -> None:
    for run in list(_runs.values()):
        with contextlib.suppress(Exception):
            run._finish("stopped", signal.Signals(number).name, grace())  # pyright: ignore[reportPrivateUsage]
