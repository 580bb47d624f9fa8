"""Trees of jax arrays: as state trees, and back onto the devices that a target names, each device reading its own slices."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np

from runtree import _numpy, _ranks
from runtree.checkpoint import Checkpoint
from runtree.errors import Invalid, NotFound

# Tells "not there" from None.
_NOTHING: Any = object()


def plain(tree: Any) -> Any:
    """A pytree as what a state tree holds: nodes of classes that were registered with jax become dicts of what they have."""
    if isinstance(tree, Mapping) and type(tree) is not dict and _is_node(tree):
        return {key: plain(value) for key, value in cast("Mapping[Any, Any]", tree).items()}
    if tree is None or isinstance(tree, (dict, list, tuple)) or not _is_node(tree):
        return _map(tree, plain)
    return {_name(path): plain(child) for path, child in _children(tree)[0]}


def restore(checkpoint: Checkpoint, target: Any, component: str = "trainer") -> Any:
    """A checkpoint's state in the shape of ``target``, its arrays where the target's are.

    Args:
        checkpoint: One that :meth:`Run.save` made.
        target: A pytree of jax arrays or ``jax.ShapeDtypeStruct`` (with the sharding that is wanted), numpy arrays, and plain
            values. Nothing of it is changed. Arrays take its shape, dtype and sharding: each process reads the slices of its own
            devices alone, however many processes saved them.
        component: Whose part is read.

    Raises:
        NotFound: The checkpoint does not have all that ``target`` has.
        Invalid: A shape is another one.
    """
    reading = _Reading(checkpoint, component)
    made = reading.fill(target, reading.stored, "")
    reading.whole.read(reading.boxes)
    return _call(made)


class _Later:
    """A leaf that is made once everything was read."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


class _Reading:
    def __init__(self, checkpoint: Checkpoint, component: str) -> None:
        plan = checkpoint._store.native.load_plan(*checkpoint._name)  # pyright: ignore[reportPrivateUsage]
        component, ranks = _ranks.component_of(plan, checkpoint.reference, component)
        self.checkpoint = checkpoint
        # All ranks' parts as one: what a device needs may be of any of them.
        self.whole = plan.whole(component, _ranks.STATE, 0 if ranks == 1 else None)
        self.facts = self.whole.tensors()
        self.stored = self.whole.skeleton(_ranks._Found())  # pyright: ignore[reportPrivateUsage]
        self.boxes: list[_ranks.Box] = []

    def fill(self, target: Any, stored: Any, path: str) -> Any:
        if target is None or not _is_node(target):
            return self.leaf(target, stored, path)
        children, rebuild = _children(target)
        made: list[Any] = []
        for key, child in children:
            name = _name(key)
            below = f"{path}.{name}" if path else str(name)
            found = _find(stored, name)
            if found is _NOTHING:
                raise NotFound(
                    f"checkpoint {self.checkpoint.reference} has no `{below}`, which the target has",
                    hint="leave it out of the target; checkpoint.tensors() lists what there is",
                )
            made.append(self.fill(child, found, below))
        return _Node(rebuild, made)

    def leaf(self, target: Any, stored: Any, path: str) -> Any:
        if not isinstance(stored, _ranks._Leaf):  # pyright: ignore[reportPrivateUsage]
            return stored
        _, dtype, shape, _, _ = self.facts[stored.index]
        if stored.view is not None:
            shape = list(stored.view[1])
        wanted = getattr(target, "shape", None)
        if wanted is not None and tuple(wanted) != tuple(shape):
            raise Invalid(f"`{path}` has shape {tuple(wanted)} in the target, {tuple(shape)} in the checkpoint")
        kind = _numpy.dtype_of(dtype)
        to = getattr(target, "dtype", kind)
        sharding: Any = getattr(target, "sharding", None)
        whole = (tuple([0] * len(shape)), tuple(shape))
        if stored.view is not None:
            # Memory that leaves share is stored as one line: read whole, then cut.
            value: Any = np.asarray(self.whole.value(path))

            def cut(box: Any) -> Any:
                return value[tuple(slice(at, at + size) for at, size in zip(*box, strict=True))]
        else:
            places = {whole} if sharding is None else _boxes(sharding, shape)
            held = {box: self.ask(stored.index, box, kind) for box in places}

            def cut(box: Any) -> Any:
                return held[box]

        if isinstance(target, np.ndarray) or (stored.framework != "jax" and sharding is None):
            return _Later(lambda: cut(whole).astype(to, copy=False))
        if sharding is None:
            return _Later(lambda: jax.numpy.asarray(cut(whole).astype(to, copy=False)))
        return _Later(
            lambda: jax.make_array_from_callback(
                tuple(shape), sharding, lambda index: cut(_box(index, shape)).astype(to, copy=False)
            )
        )

    def ask(self, tensor: int, box: tuple[tuple[int, ...], tuple[int, ...]], kind: Any) -> Any:
        offset, sizes = box
        made = np.empty(sizes, kind)
        address = int(made.__array_interface__["data"][0])
        strides = _ranks._row_major(list(sizes))  # pyright: ignore[reportPrivateUsage]
        self.boxes.append(_ranks.Box(tensor, list(offset), list(sizes), address, strides))
        return made


class _Node:
    """A node whose children are not all made yet."""

    def __init__(self, rebuild: Callable[[list[Any]], Any], children: list[Any]) -> None:
        self.rebuild = rebuild
        self.children = children


def _call(made: Any) -> Any:
    if isinstance(made, _Node):
        return made.rebuild([_call(child) for child in made.children])
    return made.make() if isinstance(made, _Later) else made


def _boxes(sharding: Any, shape: Sequence[int]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What this process's devices hold of an array, each place once."""
    return {_box(index, shape) for index in sharding.addressable_devices_indices_map(tuple(shape)).values()}


def _box(index: Any, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    bounds = [part.indices(size)[:2] for part, size in zip(index, shape, strict=True)]
    return tuple(start for start, _ in bounds), tuple(stop - start for start, stop in bounds)


def _is_node(tree: Any) -> bool:
    return not jax.tree_util.all_leaves([tree])


def _children(tree: Any) -> tuple[list[tuple[Any, Any]], Callable[[list[Any]], Any]]:
    """The children of a node by key, and what makes a node like it of others."""

    def is_below(each: Any) -> bool:
        return each is not tree

    found, rebuild = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_below)
    return [(path[0], child) for path, child in found], rebuild.unflatten


def _name(key: Any) -> Any:
    for field in ("key", "idx", "name"):
        if hasattr(key, field):
            return getattr(key, field)
    return str(key)


def _find(stored: Any, name: Any) -> Any:
    if isinstance(stored, Mapping):
        return cast("Mapping[Any, Any]", stored).get(name, _NOTHING)
    if isinstance(stored, (list, tuple)):
        items = cast("Sequence[Any]", stored)
        if isinstance(name, int):
            return items[name] if name < len(items) else _NOTHING
        return getattr(cast("Any", stored), str(name), _NOTHING)
    return _NOTHING


def _map(tree: Any, function: Callable[[Any], Any]) -> Any:
    """The same container with its items mapped; anything else as it is."""
    if type(tree) is dict:
        return {key: function(value) for key, value in cast("dict[Any, Any]", tree).items()}
    if isinstance(tree, dict):
        # An OrderedDict, a defaultdict: its class is kept.
        made = cast("dict[Any, Any]", tree).copy()
        for key, value in cast("dict[Any, Any]", tree).items():
            made[key] = function(value)
        return made
    if isinstance(tree, (list, tuple)):
        items = [function(item) for item in cast("Sequence[Any]", tree)]
        kind: Any = type(cast("Any", tree))
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    return tree
