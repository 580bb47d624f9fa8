"""Errors of runtree: one class per kind; the kind says what the caller must do, the hint the exact next step."""

from __future__ import annotations


class Error(Exception):
    """What went wrong; base of every exception that runtree raises on purpose."""

    kind: str = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What went wrong, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class NotFound(Error, LookupError):
    """The named thing does not exist."""

    kind = "not_found"


class Conflict(Error):
    """Somebody else won, or the request contradicts what is stored: reload and decide."""

    kind = "conflict"


class Invalid(Error, ValueError):
    """The call is wrong: fix it."""

    kind = "invalid"


class InvalidType(Invalid, TypeError):
    """The call is wrong: a value has a type that does not fit."""


class Denied(Error):
    """Not allowed."""

    kind = "denied"


class Unavailable(Error):
    """The disk, the network or a server does not answer: retry later."""

    kind = "unavailable"


class Corrupt(Error):
    """Stored bytes are damaged: they need repair."""

    kind = "corrupt"


class Unsupported(Error):
    """Written by a newer runtree, or not supported here."""

    kind = "unsupported"


class LostData(Error):
    """Something that was accepted is not durable."""

    kind = "lost_data"


class Internal(Error):
    """A bug in runtree."""

    kind = "internal"


class RuntreeWarning(UserWarning):
    """Something the user should see once; training goes on."""
