"""Metric values that are still on a device, or still being computed, when they are logged."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from runtree import _warn


class Later:
    """Values that are still on a device: one thread waits for them, in the order they were logged."""

    def __init__(self, log: Callable[[int, Any, dict[str, float]], None]) -> None:
        self._log = log
        self._queue: queue.Queue[tuple[int, Any, Sequence[tuple[str, Callable[[], float]]]]] = queue.Queue(maxsize=4096)
        threading.Thread(target=self._run, name="runtree-device-values", daemon=True).start()

    def put(self, step: int, timestamp: Any, values: Sequence[tuple[str, Callable[[], float]]]) -> None:
        """Queues the values of a step; drops them, with a warning, if thousands wait already."""
        try:
            self._queue.put_nowait((step, timestamp, values))
        except queue.Full:
            _warn.once("device_values", "values on a device are logged faster than it delivers them: some were dropped")

    def drain(self) -> None:
        """Waits until everything queued is logged."""
        self._queue.join()

    def _run(self) -> None:
        while True:
            step, timestamp, values = self._queue.get()
            try:
                self._log(step, timestamp, {name: fetch() for name, fetch in values})
            except Exception as error:
                _warn.once("device_values", f"a value on a device could not be read: {error}")
            finally:
                self._queue.task_done()


def fetch_later(value: Any) -> Callable[[], float]:
    """Starts to fetch one element without waiting for it; call the result in another thread."""
    if hasattr(value, "is_cuda"):
        from runtree import _torch

        return _torch.fetch_later(value)
    from runtree import _jax

    return _jax.fetch_later(value)
