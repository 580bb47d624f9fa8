"""What ``log`` was given that is no number: called by the native half, once for each such value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from runtree import _pictures
from runtree.errors import InvalidType
from runtree.media import Image, Media, Payload, Text

_HINT = (
    "log numbers, tensors and arrays of one element, texts, runtree.Image, Histogram, Table or File, PIL images, matplotlib figures, "
    "or a list of one kind of these"
)


def entry(name: str, value: Any) -> tuple[str, list[Payload]]:
    """The kind and the items of a value that was logged as ``name``."""
    if isinstance(value, (list, tuple)):
        values = cast("Sequence[Any]", value)
        items = [_item(each) for each in values]
        if not items or None in items:
            raise _refused(name, value)
        kinds = {item.kind for item in items if item is not None}
        if len(kinds) > 1:
            raise InvalidType(f"metric `{name}` is a list of several kinds: {', '.join(sorted(kinds))}", hint=_HINT)
        return kinds.pop(), [item.payload for item in items if item is not None]
    item = _item(value)
    if item is None:
        raise _refused(name, value)
    return item.kind, [item.payload]


def _item(value: Any) -> Media | None:
    if isinstance(value, Media):
        return value
    if isinstance(value, str):
        return Text(value)
    if _pictures.is_picture(value):
        return Image(value)
    return None


def _refused(name: str, value: Any) -> InvalidType:
    kind = cast("type[Any]", type(value))
    shown = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return InvalidType(f"metric `{name}` is a {shown}, not a number", hint=_HINT)
