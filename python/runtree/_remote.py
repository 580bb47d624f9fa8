"""``init(remote=)``: the run is pushed to another store while it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runtree import _native
from runtree.errors import Invalid, InvalidType
from runtree.store import bucket_settings, find_store

_DURABLE = ("local", "remote")


class Wish(NamedTuple):
    """Where a run is pushed to, and how many of its checkpoints stay here."""

    location: Path | str
    keep_local: int | None


def wish(
    remote: str | os.PathLike[str] | None, keep_local: Any, store: Path | str, environ: Mapping[str, str]
) -> Wish | None:
    """What ``init`` and the environment say, of a run in ``store``.

    Raises:
        ValueError: ``keep_local`` is no number of checkpoints, or there is no remote to keep the others; the remote is no address, or
            the store itself.
    """
    named = os.fspath(remote) if remote is not None else environ.get("RUNTREE_REMOTE")
    if keep_local is not None:
        if isinstance(keep_local, bool) or not isinstance(keep_local, int):
            raise InvalidType(f"keep_local {keep_local!r} is not a number of checkpoints")
        if not 0 < keep_local < 1 << 32:
            raise Invalid(
                f"keep_local {keep_local} is not a number of checkpoints from 1: the newest always stays here"
            )
        if not named:
            raise Invalid(
                "keep_local deletes here what a remote keeps, and there is none",
                hint='runtree.init(remote="s3://bucket/prefix", keep_local=2), or retention= to delete it altogether',
            )
    if not named:
        return None
    location = find_store(named)
    if location == store and remote is None and keep_local is None:
        # The environment names one place for all: whoever trains there has nothing to push.
        return None
    if location == store:
        raise Invalid(f"store and remote are one place, {store}", hint="name another remote, or none")
    if isinstance(location, str):
        _native.check_address(location)
    return Wish(location, keep_local)


def begin(writer: _native.RunWriter, wish: Wish | None) -> None:
    """Begins to push."""
    if wish is not None:
        _native.ship(writer, wish.location, bucket_settings(), wish.keep_local)


def is_remote(durable: str) -> bool:
    """Which of two waits is meant.

    Raises:
        ValueError: Neither.
    """
    if durable not in _DURABLE:
        raise Invalid(f"durable {durable!r} is not one of 'local', 'remote'")
    return durable == "remote"
