"""Metric values that are still on a device, or still being computed, when they are logged."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from runtree import _warn

_MOST = 4096

_Row = tuple[int, Any, Sequence[tuple[str, Callable[[], float]]]]


class Later:
    """Values that are still on a device: one thread waits for them, in the order they were logged.

    The queue is the one whose put may be interrupted by itself: a signal handler that ends the run drains it, and may come
    while the same thread is putting. Of a queue with a lock it would wait for itself.
    """

    def __init__(self, log: Callable[[int, Any, dict[str, float]], None]) -> None:
        self._log = log
        self._queue: queue.SimpleQueue[_Row | threading.Lock] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="runtree-device-values", daemon=True).start()

    def put(self, step: int, timestamp: Any, values: Sequence[tuple[str, Callable[[], float]]]) -> None:
        """Queues the values of a step; drops them, with a warning, if thousands wait already."""
        if self._queue.qsize() >= _MOST:
            _warn.once("device_values", "values on a device are logged faster than it delivers them: some were dropped")
        else:
            self._queue.put((step, timestamp, values))

    def drain(self, patience: float | None = None) -> bool:
        """Waits until everything queued is logged, at most ``patience`` seconds; says whether it is."""
        # Not an Event: one that is interrupted while it begins to wait holds a lock that the other thread needs to set it.
        reached = threading.Lock()
        reached.acquire()
        self._queue.put(reached)
        return reached.acquire(timeout=-1 if patience is None else patience)

    def _run(self) -> None:
        while True:
            row = self._queue.get()
            if not isinstance(row, tuple):
                row.release()
                continue
            step, timestamp, values = row
            try:
                self._log(step, timestamp, {name: fetch() for name, fetch in values})
            except Exception as error:
                _warn.once("device_values", f"a value on a device could not be read: {error}")


def fetch_later(value: Any) -> Callable[[], float]:
    """Starts to fetch one element without waiting for it; call the result in another thread."""
    if hasattr(value, "is_cuda"):
        from runtree import _torch

        return _torch.fetch_later(value)
    from runtree import _jax

    return _jax.fetch_later(value)
