"""A REF that names another store, where a checkpoint is needed here: to fork it, or to start from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtree import _native
from runtree.errors import Error

if TYPE_CHECKING:
    from runtree.store import Store


def names_other_store(ref: str) -> bool:
    """Whether a REF begins with a store."""
    return _native.split_reference(ref)[0] is not None


def is_here(store: Store, project: str, key: str) -> bool:
    """Whether a run of exactly this key is in ``store``."""
    try:
        return store.run(key, project=project).key == key
    except Error:
        return False


def bring(store: Store, ref: str, project: str | None = None) -> str:
    """A REF of the same checkpoint in ``store``.

    If ``ref`` names another store (``s3://bucket/prefix#project/run@500``), what is not here of that one checkpoint, and the history
    that leads to it, is copied first. It is looked up there alone.
    """
    place, rest = _native.split_reference(ref)
    if place is None:
        return ref
    from runtree.store import find_store, open_to_read

    where = find_store(place)
    if str(where) == store.location:
        return rest
    here, _ = _native.bring(open_to_read(where), store.native, rest, project)
    return here
