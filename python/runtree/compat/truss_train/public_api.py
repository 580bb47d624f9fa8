"""What ``truss_train`` sends to Baseten with, and what is said instead."""

from __future__ import annotations

from typing import Any, NoReturn

from runtree.errors import Unsupported


def push(*_: Any, **__: Any) -> NoReturn:
    """Refuses: the classes of runtree run jobs on this machine.

    Raises:
        Unsupported: Always.
    """
    raise Unsupported(
        "push() sends a job to Baseten, which runtree's truss_train does not",
        hint="runtree train config.py runs it here; to push, run the file with the real truss_train",
    )
