"""Where models are looked for: names of buckets, prefixes and directories, and what lies there.

A place holds a runtree store (known by its ``runtree.json``), else what ART wrote. A place that does not exist, one that may not be
looked into and one that is empty are three different errors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from runtree.compat.art import layout, standing
from runtree.compat.art.errors import NoCheckpoint
from runtree.compat.art.sources import ArtSource, Source, StoredSource
from runtree.errors import Invalid, InvalidType, NotFound
from runtree.store import Store, find_store, open_to_read


def locate(bucket: Any, prefix: Any = None) -> Path | str:
    """The place that ``from_s3_bucket=`` and ``prefix=`` name: a bucket, an address (``s3://…``), or a directory (with a ``/``)."""
    if isinstance(bucket, os.PathLike):
        bucket = os.fspath(cast("os.PathLike[str]", bucket))
    if not isinstance(bucket, str) or not bucket.strip("/"):
        raise InvalidType(f"from_s3_bucket {bucket!r} is neither a bucket's name nor an address nor a directory")
    if prefix is not None and not isinstance(prefix, str):
        raise InvalidType(f"prefix {prefix!r} is not text")
    below = (prefix or "").strip("/")
    if any(part in (".", "..") for part in below.split("/")):
        raise Invalid(f"prefix {prefix!r} leaves its bucket")
    is_address = "://" in bucket and not bucket.startswith("file://")
    if not is_address and "/" in bucket:
        directory = Path(bucket.removeprefix("file://")).expanduser().absolute()
        return directory / below if below else directory
    address = bucket if is_address else f"s3://{bucket}"
    return "/".join(part for part in (address.rstrip("/"), below) if part)


def open_source(place: Path | str, project: str, name: str, home: Store) -> Source:
    """A model at a place, whatever holds it there.

    Raises:
        NotFound: The bucket or directory is not there, or has no such model.
        Denied: It may not be looked into.
    """
    if isinstance(place, Path) and not place.is_dir():
        raise NotFound(
            f"there is no directory {place}", hint="from_s3_bucket names a bucket, or a directory by its path"
        )
    store = _open_store(place)
    if store is not None:
        return from_store(store, project, name, home)
    model = layout.open_model(place, project, name)
    if not model.exists:
        raise NoCheckpoint(
            f"there is no model {name!r} of project {project!r} at {place}: neither a runtree store is there, nor "
            f"{project}/models/{name} as ART writes it",
            hint="check from_project= and prefix=",
        )
    return ArtSource(model, home)


class ReadStore(Store):
    """Another store, to look and to copy from it: it need not be writable."""

    def __init__(self, place: Path | str) -> None:  # pyright: ignore[reportMissingSuperCall]
        self._place = place
        self.native = open_to_read(place)


def from_store(store: Store, project: str, name: str, home: Store) -> Source:
    """A model of a store."""
    run = standing.find_source(store, project, name)
    if run is None:
        there = ", ".join(standing.names(store, project)) or "none"
        raise NoCheckpoint(
            f"there is no model {name!r} in project {project!r} of {store.location}", hint=f"models there: {there}"
        )
    return StoredSource(store, run, home)


def find_art(start: Path) -> Path | None:
    """ART's own directory: the nearest ``.art`` upwards, where ART takes that of the repository."""
    return next((above / ".art" for above in (start, *start.parents) if (above / ".art").is_dir()), None)


def _open_store(place: Path | str) -> Store | None:
    try:
        return ReadStore(find_store(place))
    except NotFound:
        # No store, or no bucket: who lists it next is told which.
        return None
