"""``init(remote=)``: the run is pushed to another store while it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from runtree import _native
from runtree.errors import Invalid, InvalidType
from runtree.store import bucket_settings, find_store

_DURABLE = ("local", "remote")


class Wish(NamedTuple):
    """Where a run is pushed to, and how many of its checkpoints stay here."""

    location: str
    keep_local: int | None


def wish(remote: str | os.PathLike[str] | None, keep_local: Any, environ: Mapping[str, str]) -> Wish | None:
    """What ``init`` and the environment say.

    Raises:
        ValueError: ``keep_local`` is no number of checkpoints, or there is no remote to keep the others.
    """
    named = os.fspath(remote) if remote is not None else environ.get("RUNTREE_REMOTE")
    if keep_local is not None:
        if isinstance(keep_local, bool) or not isinstance(keep_local, int):
            raise InvalidType(f"keep_local {keep_local!r} is not a number of checkpoints")
        if not 0 < keep_local < 1 << 32:
            raise Invalid(f"keep_local {keep_local} is not a number of checkpoints from 1: the newest always stays here")
        if not named:
            raise Invalid(
                "keep_local deletes here what a remote keeps, and there is none",
                hint='runtree.init(remote="s3://bucket/prefix", keep_local=2), or retention= to delete it altogether',
            )
    return Wish(named, keep_local) if named else None


def begin(writer: _native.RunWriter, wish: Wish | None, store: str) -> None:
    """Begins to push."""
    if wish is None:
        return
    location = find_store(wish.location)
    if str(location) == store:
        raise Invalid(f"store and remote are one place, {store}", hint="name another remote, or none")
    _native.ship(writer, location, bucket_settings(), wish.keep_local)


def is_remote(durable: str) -> bool:
    """Which of two waits is meant.

    Raises:
        ValueError: Neither.
    """
    if durable not in _DURABLE:
        raise Invalid(f"durable {durable!r} is not one of 'local', 'remote'")
    return durable == "remote"
