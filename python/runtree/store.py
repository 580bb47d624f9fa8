"""Stores: where everything is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtree import _native, _warn
from runtree.errors import Invalid, NotFound, Unavailable, Unsupported

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.stored import StoredRun

# One engine per store: they share an index connection and what was folded.
_open: dict[str, _native.Engine] = {}
# Folders of indexes that go away with the process.
_temporary: list[Any] = []
# An index needs little more than its log when it is new; with less than that nothing could be folded.
_INDEX_ROOM = 8 << 20


def cache_dir() -> Path:
    """The user's cache folder; the index of a store lies below it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "runtree"


def find_store(location: str | os.PathLike[str] | None) -> Path:
    """Where the store is: named, ``RUNTREE_STORE``, the nearest ``.runtree`` upwards, else ``./.runtree``."""
    text = os.fspath(location) if location is not None else os.environ.get("RUNTREE_STORE", "")
    if "://" in text and not text.startswith("file://"):
        raise Unsupported(f"store {text!r}: this build keeps stores on local disks", hint="name a directory")
    return Path(_native.discover_store(Path.cwd(), text.removeprefix("file://") or None)).absolute()


def open_engine(location: Path, mode: str) -> _native.Engine:
    """Opens a store, once per process."""
    key = str(location)
    engine = _open.get(key)
    # One that was opened may have been deleted since (tests, notebooks): then it is made anew.
    if engine is None or engine.inert or not (location / "runtree.json").exists():
        engine = _open_with_index(location, mode)
        _open[key] = engine
    return engine


def _open_with_index(location: Path, mode: str) -> _native.Engine:
    """Opens a store. The index is a cache: where it can not be kept, training goes on with one that ends with the process."""
    cache = cache_dir()
    if _has_room(cache):
        try:
            return _native.Engine.open(location, mode, cache)
        except Unavailable as error:
            reason = str(error).partition("\n")[0]
    else:
        reason = f"{cache} has no room for it"
    import tempfile

    # Kept for as long as the process lives; what is wrong with the store itself is wrong with this index, too.
    folder = tempfile.TemporaryDirectory(prefix="runtree-index-", ignore_cleanup_errors=True)
    engine = _native.Engine.open(location, mode, Path(folder.name))
    _temporary.append(folder)
    _warn.once(
        "index",
        f"the index of {location} is kept until this process ends, and built anew by the next: {reason}; "
        "set XDG_CACHE_HOME to a folder that can be written",
    )
    return engine


def _has_room(folder: Path) -> bool:
    """Whether a new index fits where ``folder`` is or will be. A file system that does not say has room."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        facts = os.statvfs(folder)
    except (AttributeError, OSError):
        return True
    return facts.f_blocks == 0 or facts.f_bavail * facts.f_frsize >= _INDEX_ROOM


def reference(run: str, selector: Any) -> str:
    """A REF from a run and a selector: a step, ``"latest"``, ``"<=500"``, ``"best:loss"``, a name; or a whole REF."""
    text = str(selector)
    return text if "@" in text else f"{run}@{text}"


class Store:
    """A directory that holds runs, metrics and checkpoints.

    Opening reads; only :meth:`fork` and changes to runs and checkpoints write.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None, *, create: bool = False) -> None:
        path = find_store(location)
        if not create and not (path / "runtree.json").exists():
            raise NotFound(f"no store at {path}", hint="runtree.init() makes one, or name another with RUNTREE_STORE")
        self.native = open_engine(path, "create" if create else "write")
        self.path = path

    @property
    def id(self) -> str:
        """The store's id, kept by copies of it."""
        return self.native.info()["id"]

    @property
    def location(self) -> str:
        """Where it is."""
        return self.native.location

    def projects(self) -> list[dict[str, Any]]:
        """Name, runs, running and last activity of every project."""
        return self.native.projects()

    def runs(
        self,
        search: str | None = None,
        *,
        project: str | None = None,
        status: str | Sequence[str] | None = None,
        tags: Sequence[str] = (),
        sort: str = "created",
        descending: bool = True,
        limit: int | None = None,
        deleted: bool = False,
    ) -> list[StoredRun]:
        """Runs, newest first unless ``sort`` says otherwise. ``search`` looks in names, display ids, tags, notes and configs.

        ``sort`` is ``created``, ``last_activity``, ``name``, ``display_id``, ``status``, ``last_step``, ``metric:NAME`` or
        ``config:KEY``.
        """
        from runtree.stored import StoredRun

        found: list[StoredRun] = []
        for summary in self._pages(project, search, status, tags, sort, descending, limit, deleted):
            found.append(StoredRun(self, summary["id"]))
            if limit is not None and len(found) >= limit:
                break
        return found

    def _pages(
        self,
        project: str | None,
        search: str | None,
        status: str | Sequence[str] | None,
        tags: Sequence[str],
        sort: str,
        descending: bool,
        limit: int | None,
        deleted: bool,
    ) -> Iterator[dict[str, Any]]:
        statuses = [status] if isinstance(status, str) else list(status or ())
        cursor: str | None = None
        while True:
            page = self.native.runs(
                {
                    "project": project,
                    "root": None,
                    "search": search,
                    "statuses": statuses,
                    "tags": list(tags),
                    "sort": sort,
                    "descending": descending,
                    "limit": min(limit or 500, 500),
                    "cursor": cursor,
                    "deleted": deleted,
                }
            )
            yield from page["runs"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def run(self, ref: str | int, *, project: str | None = None) -> StoredRun:
        """The run that a REF names: display id, key, name (``name~2``), RunId prefix; a number needs ``project``."""
        from runtree.stored import StoredRun

        return StoredRun(self, self.native.resolve_run(str(ref), project))

    def checkpoint(self, ref: str, *, project: str | None = None) -> Checkpoint:
        """The checkpoint that a REF names: ``MMP-42@500``, ``MMP-42`` for its newest."""
        from runtree.checkpoint import Checkpoint

        name = self.native.resolve_checkpoint(ref, project)
        return Checkpoint(self, self.native.checkpoint_info(*name))

    def fork(
        self,
        ref: str,
        *,
        name: str | None = None,
        run_id: str | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        notes: str | None = None,
        inherit_config: bool = True,
        inherit_tags: bool = False,
        project: str | None = None,
    ) -> StoredRun:
        """Forks at a checkpoint, without a process: the new run waits for its first launch. No chunk is read or written."""
        from runtree.stored import StoredRun

        new = self.native.fork(
            {
                "reference": ref,
                "fork_run": None,
                "fork_step": None,
                "project": project,
                "name": name,
                "key": run_id,
                "config": None if config is None else dict(config),
                "tags": list(tags),
                "notes": notes,
                "inherit_config": inherit_config,
                "inherit_tags": inherit_tags,
            }
        )
        return StoredRun(self, new)

    def verify(self) -> dict[str, Any]:
        """Reads every checkpoint and reports what is damaged."""
        return self.native.verify()

    def stats(self, run: str | int | None = None) -> dict[str, Any]:
        """What the store, or one run, holds: ``logical_bytes``, ``stored_bytes`` and ``saved_bytes``, how deep differences go
        (``depths``), how many cold checkpoints no encoder came to yet (``waiting``), and ``rows`` with the same per run, or per
        checkpoint of the one run."""
        return self.native.stats(None if run is None else self.run(run).id)

    def encode(self, run: str | int | None = None) -> dict[str, Any]:
        """Makes the cold checkpoints of a run, or of all, small now, and removes what becomes redundant.

        The newest two checkpoints of a run stay as they were saved; older ones are kept as differences to earlier ones. A run does
        this in the background while it goes on. Returns how many ``checkpoints`` are cold, the ``raw_bytes`` of the ``chunks`` that
        were encoded, their ``encoded_bytes``, and ``freed_bytes``.
        """
        return self.native.encode(None if run is None else self.run(run).id)

    def reindex(self) -> dict[str, Any]:
        """Makes the index anew from the store."""
        return self.native.reindex()

    def set_project_prefix(self, project: str, prefix: str) -> None:
        """Sets the letters of a project's display ids, before its first run."""
        self.native.set_project_prefix(project, prefix)

    def __repr__(self) -> str:
        return f"<Store {self.location}>"


class DisabledStore(Store):
    """The store of a disabled run: there is none."""

    def __init__(self) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.path = Path()
        self.native: Any = _Nothing()

    @property
    def location(self) -> str:
        """Nowhere."""
        return "nowhere"

    def __repr__(self) -> str:
        return "<Store, runtree is disabled>"


class _Nothing:
    """What a disabled run's reads find: nothing. A script must run the same with ``RUNTREE_MODE=disabled``."""

    def checkpoints(self, *_: Any) -> list[Any]:
        return []

    def run(self, run: str) -> dict[str, Any]:
        return {"metrics": [], "children": [], "notes": None}

    def segments(self, run: str) -> list[Any]:
        return []

    def history(self, *_: Any) -> tuple[bytes, bytes, bytes, list[Any]]:
        return b"", b"", b"", []

    def console(self, *_: Any) -> dict[str, Any]:
        return {"lines": [], "next_cursor": None}

    def resume_report(self, run: str) -> None:
        return None

    def diff_runs(self, a: str, b: str) -> dict[str, Any]:
        return {"config": [], "metrics": {}}

    def resolve_checkpoint(self, *_: Any) -> Any:
        raise NotFound("runtree is disabled: there is no checkpoint")

    def __getattr__(self, name: str) -> Any:
        raise Invalid(
            "runtree is disabled (RUNTREE_MODE=disabled): there is no store to ask", hint="unset RUNTREE_MODE"
        )
