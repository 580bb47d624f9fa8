"""Stores: where everything is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtree import _native, _warn
from runtree.errors import Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from runtree._runs import Runs
    from runtree.checkpoint import Checkpoint
    from runtree.lineage import Sweep
    from runtree.retention import PrunePlan
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


def find_store(location: str | os.PathLike[str] | None) -> Path | str:
    """Where the store is: named, ``RUNTREE_STORE``, the nearest ``.runtree`` upwards, else ``./.runtree``.

    The address of a bucket (``s3://bucket/prefix``) is text; anything else is a path.
    """
    text = os.fspath(location) if location is not None else os.environ.get("RUNTREE_STORE", "")
    if "://" in text and not text.startswith("file://"):
        return text.rstrip("/")
    return Path(_native.discover_store(Path.cwd(), text.removeprefix("file://") or None)).absolute()


def bucket_settings() -> dict[str, str]:
    """What the environment says about access to buckets, and where AWS's profiles lie."""
    said = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))}
    return said | {"HOME": os.path.expanduser("~")}


def open_engine(location: Path | str, mode: str) -> _native.Engine:
    """Opens a store, once per process."""
    key = str(location)
    engine = _open.get(key)
    # One that was opened may have been deleted since (tests, notebooks): then it is made anew.
    is_gone = isinstance(location, Path) and not (location / "runtree.json").exists()
    if engine is None or engine.inert or is_gone:
        engine = _open_with_index(location, mode)
        _open[key] = engine
    return engine


def _open_with_index(location: Path | str, mode: str) -> _native.Engine:
    """Opens a store. The index is a cache: where it can not be kept, training goes on with one that ends with the process."""
    cache = cache_dir()
    if _has_room(cache):
        try:
            return _native.Engine.open(location, mode, cache, bucket_settings())
        except Unavailable as error:
            reason = str(error).partition("\n")[0]
    else:
        reason = f"{cache} has no room for it"
    import tempfile

    # Kept for as long as the process lives; what is wrong with the store itself is wrong with this index, too.
    folder = tempfile.TemporaryDirectory(prefix="runtree-index-", ignore_cleanup_errors=True)
    try:
        engine = _native.Engine.open(location, mode, Path(folder.name), bucket_settings())
    except BaseException:
        folder.cleanup()
        raise
    _temporary.append(folder)
    _warn.once(
        "index",
        f"the index of {location} is kept until this process ends, and built anew by the next: {reason}; "
        "set XDG_CACHE_HOME to a folder that can be written",
    )
    return engine


def open_to_read(location: Path | str) -> _native.Engine:
    """Opens another store, to look and to copy from it: nothing is written there, and it need not be writable."""
    opened = _open.get(str(location))
    return _open_with_index(location, "read") if opened is None or opened.inert else opened


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
    """A directory, or a place in a bucket (``s3://bucket/prefix``), that holds runs, metrics and checkpoints.

    Opening reads; only :meth:`fork` and changes to runs and checkpoints write.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None, *, create: bool = False) -> None:
        place = find_store(location)
        if not create and isinstance(place, Path) and not (place / "runtree.json").exists():
            raise NotFound(f"no store at {place}", hint="runtree.init() makes one, or name another with RUNTREE_STORE")
        self.native = open_engine(place, "create" if create else "write")
        self._place = place

    @property
    def path(self) -> Path:
        """Its directory.

        Raises:
            Invalid: It is in a bucket.
        """
        if isinstance(self._place, str):
            raise Invalid(f"store {self._place} is in a bucket and has no directory", hint="store.location names it")
        return self._place

    @property
    def directory(self) -> Path | None:
        """Its directory; None if it is in a bucket."""
        return None if isinstance(self._place, str) else self._place

    @property
    def id(self) -> str:
        """The store's id, kept by copies of it."""
        return self.native.info()["id"]

    @property
    def location(self) -> str:
        """Where it is."""
        return str(self._place)

    def push(
        self,
        to: str | os.PathLike[str] | Store,
        runs: str | Sequence[str] = (),
        *,
        checkpoints: bool = True,
        restore: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Copies what another store has not: runs (REFs; all unless given) with their history, and checkpoints.

        A REF of a checkpoint copies of its run only that one. The other store, a directory or ``s3://bucket/prefix``, is made if it
        is not there; the bucket itself never is. What it has deleted is left out unless ``restore``. A copy that is broken off is
        finished by the next. Returns how many ``checkpoints``, ``chunks`` and ``bytes`` were missing there, and what was ``copied``.
        """
        other = to if isinstance(to, Store) else Store(to, create=True)
        return _native.sync(self.native, other.native, _as_refs(runs), checkpoints, restore, dry_run)

    def pull(
        self,
        source: str | os.PathLike[str] | Store,
        runs: str | Sequence[str] = (),
        *,
        checkpoints: bool = True,
        restore: bool = False,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Copies from another store what this one has not; see :meth:`push`."""
        other = source if isinstance(source, Store) else Store(source)
        return _native.sync(other.native, self.native, _as_refs(runs), checkpoints, restore, dry_run)

    def gc(self, *, grace: int = 3600, dry_run: bool = False) -> dict[str, Any]:
        """Deletes what nothing needs any more and was put more than ``grace`` seconds ago (by the store's clock).

        Runs empty their own trash as they train; this is for what killed processes left, and for deleted checkpoints. Returns counts
        and bytes of what was removed (with ``dry_run`` would be) and kept.
        """
        return self.native.gc(grace, dry_run)

    def repair(self, source: str | os.PathLike[str] | Store | None = None, *, dry_run: bool = False) -> dict[str, Any]:
        """Reads every byte, and puts right what can be: a damaged object goes if another one holds the same.

        What is damaged or lost and nowhere else here is fetched from ``source``, another store that may have it. The answer lists
        under ``unreadable`` the checkpoints that can not be read all the same.
        """
        other = None if source is None else source if isinstance(source, Store) else Store(source)
        return self.native.repair(dry_run, None if other is None else other.native)

    def projects(self) -> list[dict[str, Any]]:
        """Name, runs, running and last activity of every project."""
        return self.native.projects()

    def runs(
        self,
        filter: str | None = None,
        *,
        project: str | None = None,
        status: str | Sequence[str] | None = None,
        tags: Sequence[str] = (),
        sort: str = "created",
        descending: bool = True,
        limit: int | None = None,
        deleted: bool = False,
    ) -> Runs:
        """Runs that a filter holds for, newest first unless ``sort`` says otherwise: a list that ``to_pandas()``, ``to_arrow()`` and
        ``to_polars()`` make a table of.

        Args:
            filter: Words that must occur in display id, name, key, project, tags, notes or config, and conditions, joined by ``and``,
                ``or``, ``not`` and parentheses:
                ``"status = failed config.lr < 1e-4 min(val/loss) < 0.5 descendants(MMP-42)"``.
                Fields are ``id name key project status tag notes created active step attempt number fork_step checkpoints
                deleted``, ``config.KEY``, ``METRIC`` (its last value) and ``last(METRIC) min(METRIC) max(METRIC)``, effective
                values with what is inherited; comparisons ``= != < <= > >=``, ``~`` (contains), ``!~`` and ``in (a, b)``; times
                ``2026-11-29`` (UTC) or ``-7d``; relatives ``descendants(RUN) ancestors(RUN) forks(RUN) root(RUN)``.
            project: Of this project alone.
            status: In one of these states.
            tags: With all of these.
            sort: ``created``, ``last_activity``, ``name``, ``display_id``, ``status``, ``last_step``, ``metric:NAME``, ``min:NAME``,
                ``max:NAME`` or ``config:KEY``.
            descending: Largest or newest first; runs without a value come last either way.
            limit: At most this many.
            deleted: Deleted ones, too.

        Raises:
            Invalid: The filter can not be read; the message says where.
        """
        from runtree._runs import Runs
        from runtree.stored import StoredRun

        ids = self.native.run_ids(
            {
                "project": project,
                "root": None,
                "filter": filter,
                "statuses": [status] if isinstance(status, str) else list(status or ()),
                "tags": list(tags),
                "sort": sort,
                "descending": descending,
                "limit": 1,
                "cursor": None,
                "deleted": deleted,
            }
        )
        return Runs(self, (StoredRun(self, run) for run in ids[:limit]))

    def run(self, ref: str | int, *, project: str | None = None) -> StoredRun:
        """The run that a REF names: display id, key, name (``name~2``), RunId prefix; a number needs ``project``."""
        from runtree.stored import StoredRun

        return StoredRun(self, self.native.resolve_run(str(ref), project))

    def checkpoint(self, ref: str, *, project: str | None = None) -> Checkpoint:
        """The checkpoint that a REF names: ``MMP-42@500``, ``MMP-42`` for its newest."""
        from runtree.checkpoint import Checkpoint

        name = self.native.resolve_checkpoint(ref, project)
        return Checkpoint(self, self.native.checkpoint_info(*name))

    def wait(
        self,
        ref: str,
        *,
        after: int | None = None,
        timeout: float | None = None,
        interval: float = 1.0,
        project: str | None = None,
    ) -> Checkpoint:
        """Waits until a run has saved a checkpoint beyond step ``after``, and returns the first of them: for an evaluation of each.

        Args:
            ref: The run.
            after: A step; None: any checkpoint.
            timeout: Seconds; None: for as long as the run goes on.
            interval: Seconds between two looks.
            project: Where a bare name or number is looked up.

        Raises:
            NotFound: The run has ended without one.
            Unavailable: None came in time.
        """
        from runtree._waiting import wait

        return wait(self, ref, after, timeout, interval, project)

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
        into: str | None = None,
    ) -> StoredRun:
        """Forks at a checkpoint, without a process: the new run waits for its first launch. No chunk is read or written.

        A REF of another store, ``"s3://bucket/prefix#project/run@<=500"``, is looked up there; what is not here of that one
        checkpoint, and the history that leads to it, is copied first. ``project`` is where a bare name or number of ``ref`` is
        looked up; ``into`` is the project the fork is born in, its parent's unless given.
        """
        from runtree._bringing import bring
        from runtree.stored import StoredRun

        new = self.native.fork(
            {
                "reference": bring(self, ref, project),
                "fork_run": None,
                "fork_step": None,
                "project": project,
                "into": into,
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

    def sweep(self, ref: str, *, project: str | None = None) -> Sweep:
        """The runs that were forked from one checkpoint, side by side: config keys that differ, last and best metrics.

        A bare run means its newest checkpoint.

        Raises:
            NotFound: Nothing was forked from it; the checkpoints of the run that were forked are listed.
        """
        from runtree._native import sweep
        from runtree.lineage import Sweep

        return Sweep(self, sweep(self.native, ref, project))

    def views(self, project: str) -> dict[str, str]:
        """Saved views of a project: the query part of the page's address, by name."""
        from runtree._native import views

        return {view["name"]: view["query"] for view in views(self.native, project)}

    def verify(self) -> dict[str, Any]:
        """Reads every checkpoint and reports what is damaged."""
        return self.native.verify()

    def prune(self, run: str | int, policy: Any = None, *, dry_run: bool = False, **rules: Any) -> PrunePlan:
        """Puts a run's checkpoints that no rule keeps into the trash, and frees what is over its bound.

        Takes a :class:`runtree.Retention`, or its rules one by one (``keep_last=2``); without any, the run's own policy counts.
        Returns the plan, with reasons; with ``dry_run`` nothing is changed, and ``plan.apply()`` does it.

        Raises:
            NotFound: A rule ranks by a metric that no checkpoint has a value of; nothing is deleted.
        """
        from runtree._native import plan_prune
        from runtree.retention import PrunePlan, rules_of

        plan = PrunePlan(self, plan_prune(self.native, self.run(run).id, rules_of(policy, **rules)), applied=False)
        if not dry_run:
            plan.apply()
        return plan

    def set_retention(self, policy: Any, *, run: str | int | None = None, project: str | None = None) -> None:
        """Sets which checkpoints are kept: of a run, of every run of a project, or of the store; ``None`` takes it away."""
        from runtree._native import set_retention
        from runtree.retention import rules_of

        set_retention(self.native, rules_of(policy), None if run is None else self.run(run).id, project)

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

    def seal(self, run: str | int | None = None) -> dict[str, Any]:
        """Writes the metrics of a run, or of all, that are in no Parquet file yet to one; see docs/parquet.md.

        A run does this when it finishes, and its next launch for what a crashed one left. Returns how many ``points`` of how many
        ``journals`` went into how many ``segments``, and their ``bytes``.
        """
        return self.native.seal(None if run is None else self.run(run).id)

    def export_metrics(
        self,
        runs: Sequence[StoredRun | str],
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        metrics: str | Sequence[str] = (),
        system: bool = False,
        inherited: bool = True,
    ) -> dict[str, int]:
        """Writes the metrics of runs to one file; see :meth:`StoredRun.export_metrics`."""
        ids = [self.run(run).id if isinstance(run, str) else run.id for run in runs]
        globs = [metrics] if isinstance(metrics, str) else list(metrics)
        options = {"format": format, "metrics": globs, "system": system, "inherited": inherited}
        return self.native.export_metrics(ids, Path(path), options)

    def reindex(self) -> dict[str, Any]:
        """Makes the index anew from the store."""
        return self.native.reindex()

    def set_project_prefix(self, project: str, prefix: str) -> None:
        """Sets the letters of a project's display ids, before its first run."""
        self.native.set_project_prefix(project, prefix)

    def __repr__(self) -> str:
        return f"<Store {self.location}>"


def _as_refs(runs: str | Sequence[str]) -> list[str]:
    return [runs] if isinstance(runs, str) else [str(run) for run in runs]


class DisabledStore(Store):
    """The store of a disabled run: there is none."""

    def __init__(self) -> None:  # pyright: ignore[reportMissingSuperCall]
        self._place = Path()
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
        return {"metrics": [], "children": [], "notes": None, "alerts": [], "processes": [], "files": []}

    def segments(self, run: str) -> list[Any]:
        return []

    def history(self, *_: Any) -> tuple[bytes, bytes, bytes, list[Any]]:
        return b"", b"", b"", []

    def console(self, *_: Any) -> dict[str, Any]:
        return {"lines": [], "next_cursor": None}

    def media(self, *_: Any) -> dict[str, Any]:
        return {"keys": [], "steps": []}

    def media_entries(self, *_: Any) -> dict[str, Any]:
        return {"entries": [], "next_step": None}

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
