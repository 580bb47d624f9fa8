"""What a save is told besides the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from runtree._launch import Setup
from runtree._text import require_text
from runtree.checkpoint import metric_values
from runtree.errors import Invalid, InvalidType


class SaveKeywords(TypedDict, total=False):
    """The keywords that all saves take; see :meth:`Run.save`."""

    name: str | None
    metrics: Mapping[str, float] | None
    component: str
    sharded: bool | None
    rank: int | None
    world_size: int | None
    parts: Mapping[str, int] | None
    pin: bool
    if_busy: str


def save_options(setup: Setup, step: int | None, given: SaveKeywords) -> dict[str, Any]:
    """What the native module takes."""
    if_busy = given.get("if_busy", "wait")
    if if_busy not in ("wait", "skip"):
        raise Invalid(f"if_busy {if_busy!r} is not one of 'wait', 'skip'")
    if step is not None and (isinstance(step, bool) or not hasattr(step, "__index__")):
        raise InvalidType(f"step {step!r} is not a whole number")
    require_text("checkpoint name", given.get("name"))
    rank, world_size, parts = given.get("rank"), given.get("world_size"), given.get("parts")
    return {
        "step": step,
        "name": given.get("name"),
        "metrics": metric_values(given.get("metrics")),
        "component": given.get("component", "trainer"),
        "sharded": given.get("sharded"),
        "rank": setup.rank if rank is None else rank,
        "world_size": setup.world_size if world_size is None else world_size,
        "parts": None if parts is None else dict(parts),
        "pin": given.get("pin", False),
        "skip_if_busy": if_busy == "skip",
    }
