"""Every new ``Trainer`` has the callback: what ``runtree.autolog()`` turns on for Transformers."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import functools
from typing import Any

from transformers import Trainer

from runtree.integrations._transformers_callback import RuntreeCallback

_original: Any = None


def autolog(**init_keywords: Any) -> None:
    """Gives every ``Trainer`` that is made from now on a :class:`RuntreeCallback`, unless it has one.

    It replaces ``transformers.Trainer.__init__``, so subclasses (TRL's) have it, too. A second call changes the keywords. The run is
    this process's live one; without any it begins with the first training, as ``runtree.init(**init_keywords)``.

    Args:
        **init_keywords: What the callback takes: ``project``, ``run_id``, any keyword of :func:`runtree.init`.

    Raises:
        InvalidType: There is no such keyword.
    """
    global _original
    undo()
    # Wrong keywords raise here, not in the next Trainer.
    RuntreeCallback(**init_keywords)
    original: Any = Trainer.__init__

    @functools.wraps(original)
    def with_callback(self: Any, *args: Any, **keywords: Any) -> None:
        original(self, *args, **keywords)
        callbacks: list[Any] = self.callback_handler.callbacks
        if not any(isinstance(each, RuntreeCallback) for each in callbacks):
            callback = RuntreeCallback(**init_keywords)
            callback._shares = True
            self.add_callback(callback)

    _original = original
    Trainer.__init__ = with_callback


def undo() -> None:
    """Takes :func:`autolog` back: new trainers are as they were. Those that have the callback keep it."""
    global _original
    if _original is not None:
        Trainer.__init__ = _original
        _original = None
