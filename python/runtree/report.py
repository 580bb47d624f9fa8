"""What a live run says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Health(NamedTuple):
    """How the writer is doing."""

    queued_bytes: int
    dropped_points: dict[str, int]
    pending_saves: int
    failed_saves: int
    last_flush: datetime | None
    storage_error: str | None
    fenced_by: int | None
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
    warnings: list[dict[str, Any]]
