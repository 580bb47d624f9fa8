"""Where ART put a model's files: a directory, or a prefix of a bucket. Both are only read."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path, PurePosixPath
from typing import Protocol

from runtree import _native
from runtree.errors import Denied, Invalid, NotFound
from runtree.store import bucket_settings


class Files(Protocol):
    """The files below one place. Names are relative to it, with ``/`` between their parts."""

    @property
    def location(self) -> str:
        """The place, for people and as what tells it from others."""
        ...

    def sizes(self) -> dict[str, int]:
        """Every file's size in bytes, by name, and empty directories as ``name/``. Raises ``Denied`` if that may not be known."""
        ...

    def read(self, name: str) -> bytes | None:
        """A small file's bytes; None if it is not there."""
        ...

    def directory(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """All files below ``name`` as a directory to read, for as long as the context lasts."""
        ...


class LocalFiles:
    """Files of a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def location(self) -> str:
        """Its path."""
        return str(self._root.absolute())

    def sizes(self) -> dict[str, int]:
        """What is there; links to directories are not followed."""
        found: dict[str, int] = {}
        for above, directories, names in os.walk(self._root, onerror=_refuse):
            place = Path(above)
            if not names and not directories and place != self._root:
                found[f"{place.relative_to(self._root).as_posix()}/"] = 0
            for name in names:
                with contextlib.suppress(OSError):
                    found[(place / name).relative_to(self._root).as_posix()] = (place / name).stat().st_size
        return found

    def read(self, name: str) -> bytes | None:
        """The bytes of a file."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    @contextlib.contextmanager
    def directory(self, name: str) -> Generator[Path]:
        """The directory itself: nothing is copied."""
        yield self._root / name


class BucketFiles:
    """Files below a prefix of a bucket; access is what the environment says (``AWS_…``)."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def location(self) -> str:
        """Its address."""
        return self._url

    def sizes(self) -> dict[str, int]:
        """What is there."""
        return dict(_native.bucket_list(self._url, bucket_settings()))

    def read(self, name: str) -> bytes | None:
        """The bytes of a file."""
        with tempfile.TemporaryDirectory(prefix="runtree-art-") as folder:
            target = Path(folder) / "file"
            try:
                _native.bucket_fetch(self._url, name, target, bucket_settings())
            except NotFound:
                return None
            return target.read_bytes()

    @contextlib.contextmanager
    def directory(self, name: str) -> Generator[Path]:
        """A copy of what is below ``name``, alone: no file of an earlier copy can be among them.

        Raises:
            Invalid: A name in the bucket would leave the directory.
        """
        folder = Path(tempfile.mkdtemp(prefix="runtree-art-"))
        try:
            for key in sorted(self.sizes()):
                if key.startswith(f"{name}/") and not key.endswith("/"):
                    target = folder / _inside(key.removeprefix(f"{name}/"), f"{self._url}/{key}")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _native.bucket_fetch(self._url, key, target, bucket_settings())
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _refuse(error: OSError) -> None:
    # What may not be looked into is not empty.
    if isinstance(error, PermissionError):
        raise Denied(f"{error.filename} may not be read", hint="ask for its permission, or copy it") from error


def _inside(name: str, where: str) -> PurePosixPath:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts):
        raise Invalid(f"{where!r} is no name of a file below its directory", hint="nothing of it was written")
    return PurePosixPath(*parts)
