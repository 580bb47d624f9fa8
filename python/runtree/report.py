"""What a live run says of itself."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple


class Remote(NamedTuple):
    """How far the remote of a run is behind."""

    location: str
    behind: list[int]
    """Steps of checkpoints that this process saved and that are not there."""
    complete: bool
    """Whether everything that was written when it was last pushed is there."""
    pushed_until: datetime | None
    """Everything that was written until then is there."""
    error: str | None
    """What it said last, if it can not be pushed to."""


class Health(NamedTuple):
    """How the writer is doing."""

    queued_bytes: int
    dropped_points: dict[str, int]
    pending_saves: int
    failed_saves: int
    last_flush: datetime | None
    storage_error: str | None
    fenced_by: int | None
    remote: Remote | None
    """Of a run with ``remote=``."""
    warnings: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and the disk takes what it is given."""
        return not (self.dropped_points or self.failed_saves or self.storage_error or self.fenced_by)


class FinishReport(NamedTuple):
    """What a run left behind."""

    display_id: str
    status: str
    last_step: int | None
    dropped_points: dict[str, int]
    saves: int
    remote: Remote | None
    """Of a run with ``remote=``: what is there now, and what is still local."""
    warnings: list[dict[str, Any]]


def remote_of(facts: dict[str, Any] | None) -> Remote | None:
    """What the engine says of a remote."""
    if facts is None:
        return None
    until = facts["pushed_until"]
    time = None if until is None else datetime.fromtimestamp(until / 1e6, timezone.utc)
    facts["pushed_until"] = time
    return Remote(**facts)
