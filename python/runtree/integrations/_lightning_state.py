"""A checkpoint dict of Lightning as a state tree, and back, exactly.

Almost all of it is what a state tree holds. Hyperparameters and states of callbacks may be anything, though: what a state tree
refuses (a ``Namespace``, a partial, a whole module) is kept as the bytes that ``torch.save`` makes of it, as Lightning does with all
of it. Those bytes are unpickled by ``torch.load`` alone, with the ``weights_only`` that Lightning was asked for, and only where a
checkpoint has any.

    {"checkpoint": the dict, None where an object is, "objects": [{"path": (keys), "data": bytes}], "metadata": [{"path", "value"}]}

``metadata`` is what torch hangs on the dict that ``Module.state_dict`` returns.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import torch

import runtree

#: What a checkpoint of Lightning has, and no other one does.
KEYS = frozenset({"checkpoint", "objects", "metadata"})
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class _Tree:
    """The walk of one checkpoint."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.metadata: list[dict[str, Any]] = []

    def of(self, value: Any, path: tuple[Any, ...]) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if isinstance(value, torch.Tensor):
            return value if runtree.check(value).ok else self._object(value, path)
        if kind is dict or kind is OrderedDict:
            if not all(_is_key(key) for key in value):
                return self._object(value, path)
            self._note(value, path)
            made = ((key, self.of(each, (*path, key))) for key, each in value.items())
            return OrderedDict(made) if kind is OrderedDict else dict(made)
        if kind is list or kind is tuple:
            return kind(self.of(each, (*path, place)) for place, each in enumerate(value))
        # A module would come back as its state_dict.
        whole = not hasattr(value, "state_dict") and runtree.check({"": value}).ok
        return value if whole else self._object(value, path)

    def _object(self, value: Any, path: tuple[Any, ...]) -> None:
        made = io.BytesIO()
        torch.save(value, made)
        self.objects.append({"path": path, "data": made.getvalue()})

    def _note(self, value: Any, path: tuple[Any, ...]) -> None:
        found = getattr(value, "_metadata", None)
        if found is not None and runtree.check({"": found}).ok:
            self.metadata.append({"path": path, "value": found})


def _is_key(key: Any) -> bool:
    if isinstance(key, tuple):
        return type(key) is tuple and all(_is_key(each) for each in cast("tuple[Any, ...]", key))
    return type(key) in (type(None), bool, int, str)


def to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The state tree of a checkpoint. Raises what pickling raises for an object that neither can keep."""
    tree = _Tree()
    return {"checkpoint": tree.of(dict(checkpoint), ()), "objects": tree.objects, "metadata": tree.metadata}


def from_state(state: Mapping[str, Any], map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
    """The checkpoint of a state tree, equal to what was saved. ``weights_only`` is that of ``torch.load``."""
    checkpoint: Any = state["checkpoint"]
    for noted in state["metadata"]:
        _at(checkpoint, noted["path"])._metadata = noted["value"]
    for each in state["objects"]:
        value = torch.load(io.BytesIO(each["data"]), map_location=map_location, weights_only=weights_only)
        checkpoint = _put(checkpoint, each["path"], value)
    return checkpoint


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with a value at a place. Tuples do not change: they are made anew."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    put = _put(tree[key], rest, value)
    if isinstance(tree, tuple):
        items = list(cast("tuple[Any, ...]", tree))
        items[key] = put
        return tuple(items)
    tree[key] = put
    return tree
