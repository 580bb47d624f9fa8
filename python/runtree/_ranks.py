"""Loading what other ranks saved: any world size, any slice, and leaves that differ by rank."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from runtree import _guard
from runtree.errors import Invalid, InvalidType, NotFound, Unsupported

if TYPE_CHECKING:
    from runtree import _native
    from runtree.checkpoint import Checkpoint

Choice: TypeAlias = "str | int | Callable[[str, list[Any]], Any]"
PerRank: TypeAlias = "Choice | Mapping[str, Choice] | None"


class Box(NamedTuple):
    """A box of a tensor to read; the native module reads the fields."""

    tensor: int
    """Its index."""
    offset: list[int]
    shape: list[int]
    address: int
    """Where its first element goes."""
    strides: list[int]
    """There, in elements."""


# The name of what `save` takes, inside a part.
STATE = "state"
# Most leaves that an error names.
_SHOWN = 8
# Elements that are not worth reading to get at those behind them.
_FAR = 1 << 16


def count(checkpoint: Checkpoint, component: str) -> int:
    """How many ranks of a component saved parts of a checkpoint."""
    parts = [part["component"] for part in checkpoint.parts]
    return parts.count(component) if component in parts else len(parts)


def component_of(plan: _native.Plan, reference: str, component: str) -> tuple[str, int]:
    """The component to load, the only one if it has another name, and how many ranks it has."""
    parts = plan.parts()
    names = sorted({part[0] for part in parts})
    if component not in names:
        if len(names) != 1:
            raise NotFound(f"checkpoint {reference} has no part of component {component!r}; it has {', '.join(names)}")
        component = names[0]
    mine = [part for part in parts if part[0] == component]
    if not any((STATE, "state") in part[3] for part in mine):
        raise Unsupported(
            f"checkpoint {reference} is a directory, not a state",
            hint="get its files with run.dir() or checkpoint.export()",
        )
    return component, len(mine)


def load(
    checkpoint: Checkpoint,
    into: Any,
    keys: str | Iterable[str] | None,
    device: Any,
    component: str,
    own_rank: int | None,
    per_rank: PerRank,
    new_rank: int,
) -> Any:
    """Loads a state for ``own_rank``, or, if that is None, for rank ``new_rank`` of a launch of another size."""
    if into is not None:
        _guard.wait_all()
    plan = checkpoint._store.native.load_plan(*checkpoint._name)  # pyright: ignore[reportPrivateUsage]
    component, ranks = component_of(plan, checkpoint.reference, component)
    if ranks == 1:
        own_rank = 0
    elif own_rank is not None and not 0 <= own_rank < ranks:
        raise Unsupported(
            f"checkpoint {checkpoint.reference} was saved by {ranks} ranks; rank {own_rank} is not one of them"
        )
    patterns = [keys] if isinstance(keys, str) else None if keys is None else list(keys)
    whole = plan.whole(component, STATE, own_rank)
    if own_rank is not None and _has_shards_of_jax(whole):
        # A process may have several shards of an array, which are no array together: it comes back whole.
        theirs = plan.whole(component, STATE, None).differing(patterns)
        own = {path: own_rank if own_rank in have else None for path, _, have in theirs}
        return plan.whole(component, STATE, None, own).load(into, patterns, _device(device))
    differing = whole.differing(patterns)
    if not differing:
        return whole.load(into, patterns, _device(device))
    choices, given = choose(checkpoint, plan, component, differing, per_rank, new_rank, ranks)
    state = plan.whole(component, STATE, None, choices).load(into, patterns, _device(device))
    for path, value in given.items():
        state = put(state, path, value)
    return state


def _has_shards_of_jax(whole: _native.Whole) -> bool:
    facts = whole.tensors()
    if not any(is_sharded for _, _, _, is_sharded, _ in facts):
        return False
    leaves = _leaves(whole.skeleton(_Found()), "").values()
    return any(isinstance(leaf, _Leaf) and leaf.framework == "jax" and facts[leaf.index][3] for leaf in leaves)


def _device(device: Any) -> str | None:
    return None if device is None else str(device)


def choose(
    checkpoint: Checkpoint,
    plan: _native.Plan,
    component: str,
    differing: list[tuple[str, tuple[Any, ...], list[int]]],
    per_rank: PerRank,
    new_rank: int,
    ranks: int,
    strict: bool = True,
) -> tuple[dict[str, int | None], dict[tuple[Any, ...], Any]]:
    """What is taken of leaves that differ: a rank's, nobody's, or a value that a function made of all."""
    choices: dict[str, int | None] = {}
    given: dict[tuple[Any, ...], Any] = {}
    open_paths: list[str] = []
    parts: dict[int, _native.Whole] = {}
    for path, keys, have in differing:
        choice = _choice_for(path, per_rank)
        if choice is None:
            open_paths.append(path)
        elif choice == "skip":
            choices[path] = None
        elif choice == "modulo":
            choices[path] = have[new_rank % len(have)]
        elif isinstance(choice, int) and not isinstance(choice, bool):
            if choice not in have:
                raise Invalid(f"per_rank={choice}: rank {choice} has no `{path}`; ranks {have} have it")
            choices[path] = choice
        elif callable(choice):
            for rank in have:
                if rank not in parts:
                    parts[rank] = plan.whole(component, STATE, rank)
            given[keys] = choice(path, [parts[rank].value(path) for rank in have])
            choices[path] = None
        else:
            raise InvalidType(
                f"per_rank={choice!r} is none of 'modulo', 'skip', a rank, a function, or a dict of these"
            )
    if open_paths and strict:
        shown = ", ".join(f"`{path}`" for path in open_paths[:_SHOWN])
        more = f" and {len(open_paths) - _SHOWN} more" if len(open_paths) > _SHOWN else ""
        raise Invalid(
            f"checkpoint {checkpoint.reference} was saved by {ranks} ranks, and they differ in {shown}{more}",
            hint="say what this rank takes: load(per_rank='modulo'), per_rank=0, 'skip', a function, or a dict from "
            "globs over these paths to one of them; or leave them out with keys=",
        )
    return choices, given


def _choice_for(path: str, per_rank: PerRank) -> Choice | None:
    if not isinstance(per_rank, Mapping):
        return per_rank
    globs = cast("Mapping[str, Choice]", per_rank)
    return next((choice for glob, choice in globs.items() if fnmatchcase(path, glob)), None)


def put(state: Any, keys: tuple[Any, ...], value: Any) -> Any:
    """Puts a value into a loaded tree, or gives it to the object that is there; returns the tree."""
    if not keys:
        return value
    parent: Any = state
    for key in keys[:-1]:
        parent = parent[key]
    last = keys[-1]
    present: Any = None
    with contextlib.suppress(LookupError):
        present = parent[last]
    if present is not None and hasattr(present, "load_state_dict"):
        present.load_state_dict(value)
    else:
        parent[last] = value
    return state


# ---- Slices.


def tensor(checkpoint: Checkpoint, name: str, index: Any, component: str) -> Any:
    """A tensor of a checkpoint, or a slice of it."""
    from runtree import _memory

    plan = checkpoint._store.native.load_plan(*checkpoint._name)  # pyright: ignore[reportPrivateUsage]
    component, ranks = component_of(plan, checkpoint.reference, component)
    whole = plan.whole(component, STATE, 0 if ranks == 1 else None)
    found = _Found()
    flat = _leaves(whole.skeleton(found), "")
    leaf = flat.get(name)
    if not isinstance(leaf, _Leaf):
        near = [path for path, each in flat.items() if isinstance(each, _Leaf)]
        shown = ", ".join(near[:_SHOWN]) + (" …" if len(near) > _SHOWN else "")
        raise NotFound(f"checkpoint {checkpoint.reference} has no tensor {name!r}; it has {shown}")
    _, dtype, shape, _, _ = whole.tensors()[leaf.index]
    if leaf.view is not None:
        # A view of shared memory, which is stored as one line: a loaded leaf knows how to walk it.
        return whole.value(name)[index]
    boxes, sizes, rest = _boxes(shape, _chosen(tuple(shape), index))
    adapter = _adapter(leaf.framework)
    made, address = adapter.empty(dtype, tuple(sizes))
    strides, item = _row_major(sizes), _memory.item_bytes(dtype)
    whole.read([Box(leaf.index, offset, box, address + start * item, strides) for offset, box, start in boxes])
    made = adapter.leaf(made, None, False, False, None)
    return made[rest] if rest else made


class _Leaf:
    """Where a tensor stands in a tree."""

    def __init__(self, index: int, framework: str, view: Any) -> None:
        self.index = index
        self.framework = framework
        self.view = view


class _Found:
    """Makes the leaves of a tree that is not loaded."""

    def tensor(self, index: int, framework: str, view: Any) -> _Leaf:
        return _Leaf(index, framework, view)

    def stateful(self, kind: str, state: Any) -> Any:
        return state


def keys(checkpoint: Checkpoint, component: str, rank: int) -> list[Any]:
    """The uppermost keys of the state that a rank saved, without reading its tensors."""
    plan = checkpoint._store.native.load_plan(*checkpoint._name)  # pyright: ignore[reportPrivateUsage]
    component, ranks = component_of(plan, checkpoint.reference, component)
    tree = plan.whole(component, STATE, min(rank, ranks - 1)).skeleton(_Found())
    return list(cast("Mapping[Any, Any]", tree)) if isinstance(tree, Mapping) else []


def _leaves(tree: Any, path: str) -> dict[str, Any]:
    items: Iterable[tuple[Any, Any]]
    if isinstance(tree, Mapping):
        items = cast("Mapping[Any, Any]", tree).items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(cast("list[Any]", tree))
    else:
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in items:
        found.update(_leaves(value, f"{path}.{key}" if path else str(key)))
    return found


def _adapter(framework: str) -> Any:
    for name in (framework, "numpy"):
        try:
            return import_module(f"runtree._{name}")
        except ModuleNotFoundError:
            continue
    return import_module("runtree._memory")


def _row_major(shape: list[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return strides


def _chosen(shape: tuple[int, ...], index: Any) -> list[tuple[range, bool]]:
    """The places that ``index`` selects of each dimension, and whether what is selected still has it."""
    parts: tuple[Any, ...] = cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,)
    if sum(part is ... for part in parts) > 1 or len([part for part in parts if part is not ...]) > len(shape):
        raise IndexError(f"{index!r} has more indices than the tensor has dimensions, {len(shape)}")
    at = next((place for place, part in enumerate(parts) if part is ...), len(parts))
    behind = parts[at + 1 :]
    full: list[Any] = [*parts[:at], *[slice(None)] * (len(shape) - at - len(behind)), *behind]
    chosen: list[tuple[range, bool]] = []
    for axis, (part, size) in enumerate(zip(full, shape, strict=True)):
        if isinstance(part, slice):
            places = range(size)[cast("slice[Any, Any, Any]", part)]
            if places.step < 0:
                raise IndexError(f"slice {part} of dimension {axis} runs backwards; reverse what you get")
            chosen.append((places, True))
        elif hasattr(part, "__index__") and not isinstance(part, bool):
            place = part.__index__()
            if not -size <= place < size:
                raise IndexError(f"index {place} is out of range for dimension {axis}, which has {size} elements")
            chosen.append((range(place % size, place % size + 1), False))
        else:
            raise InvalidType(f"{part!r} is neither an int nor a slice", hint="load the tensor and index that")
    return chosen


def _boxes(
    shape: list[int], chosen: list[tuple[range, bool]]
) -> tuple[list[tuple[list[int], list[int], int]], list[int], tuple[Any, ...]]:
    """The boxes that hold what is selected: (offset, sizes, place in the result); the sizes of the result; what to select of that.

    What is near each other is one box, together with what lies between. Where a step leaves out much, every place is a box of its
    own, so that what lies between is not read.
    """
    strides = _row_major(shape)
    far = [
        len(places) > 1 < places.step and places.step * stride > _FAR
        for (places, _), stride in zip(chosen, strides, strict=True)
    ]
    single = len(far) - far[::-1].index(True) if True in far else 0
    sizes: list[int] = []
    rest: list[Any] = []
    for axis, (places, kept) in enumerate(chosen):
        together = axis >= single
        sizes.append(len(places) if not together or not places else places[-1] - places[0] + 1)
        step = places.step if together and places.step > 1 else None
        rest.append(slice(None, None, step) if kept else 0)
    strides = _row_major(sizes)
    boxes: list[tuple[list[int], list[int], int]] = []
    for corner in product(*(range(len(places)) for places, _ in chosen[:single])):
        offset = [places[at] for (places, _), at in zip(chosen, corner, strict=False)]
        offset += [places.start if places else 0 for places, _ in chosen[single:]]
        start = sum(at * stride for at, stride in zip(corner, strides, strict=False))
        boxes.append((offset, [1] * single + sizes[single:], start))
    plain = all(part == slice(None) for part in rest)
    return boxes, sizes, () if plain else tuple(rest)
