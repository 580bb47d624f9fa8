"""Runs to be read."""

from __future__ import annotations

import html
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from runtree._native import head, set_head
from runtree._text import require_text
from runtree.checkpoint import Checkpoint
from runtree.checkpoint import time as _time
from runtree.errors import Invalid, InvalidType, NotFound
from runtree.lineage import Attempt, MetricSummary, Segment
from runtree.lineage import attempt as _attempt
from runtree.lineage import summary as _metric_summary
from runtree.series import Series, Stretch
from runtree.store import Store, reference

if TYPE_CHECKING:
    from runtree.retention import Retention

# What tells "no default" from a default of None.
MISSING: Any = object()
# What an open bound means: steps are 64-bit.
_FIRST_STEP, _LAST_STEP = -(2**63), 2**63 - 1


class RunDiff(NamedTuple):
    """What differs between two runs."""

    config: list[dict[str, Any]]
    metrics: dict[str, Any]


class StoredRun:
    """A run to be read. Facts of its birth are looked up once, everything else when asked for."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._id = run
        self._born: dict[str, Any] | None = None

    def _summary(self) -> dict[str, Any]:
        summary = self._store.native.summary(self._id)
        self._born = summary
        return summary

    def _catch_up(self) -> None:
        """Makes what this object itself has logged visible to its reads: something to do only for a live run."""

    def _birth(self) -> dict[str, Any]:
        return self._born if self._born is not None else self._summary()

    @property
    def retention(self) -> Retention | None:
        """Which of its checkpoints are kept: by its own policy, else its project's, else the store's; None: all of them."""
        from runtree._native import retention
        from runtree.retention import Retention

        found = retention(self._store.native, self._id)
        return None if found is None else Retention._stored(found[1])  # pyright: ignore[reportPrivateUsage]

    @property
    def store(self) -> Store:
        """The store it is in."""
        return self._store

    @property
    def id(self) -> str:
        """RunId: global, for ever."""
        return self._id

    @property
    def display_id(self) -> str:
        """What people call it: ``MMP-42``."""
        return self._birth()["display_id"]

    @property
    def number(self) -> int:
        """Its number in the project."""
        return self._birth()["number"]

    @property
    def key(self) -> str | None:
        """The caller's own name for it (``run_id=``)."""
        return self._birth()["key"]

    @property
    def project(self) -> str:
        """Its project."""
        return self._birth()["project"]

    @property
    def experiment(self) -> str:
        """The root's name, shared by the lineage."""
        return self._birth()["experiment"]

    @property
    def created(self) -> datetime:
        """When it was born."""
        return _time(self._birth()["created"])

    @property
    def parent(self) -> str | None:
        """Display id of the run named when forking."""
        label = self._birth()["parent"]
        return None if label is None else label["display_id"]

    @property
    def fork_run_id(self) -> str | None:
        """Display id of the ancestor whose own history holds the fork step; may differ from :attr:`parent`."""
        label = self._birth()["owner"]
        return None if label is None else label["display_id"]

    @property
    def fork_step(self) -> int | None:
        """The last step that is inherited."""
        return self._birth()["fork_step"]

    @property
    def base(self) -> str | None:
        """REF of the checkpoint of another run that it started from without forking."""
        return self._birth()["base"]

    @property
    def name(self) -> str:
        """Its name."""
        return self._summary()["name"]

    @property
    def config(self) -> Mapping[str, Any]:
        """Its effective config."""
        return self._summary()["config"]

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._summary()["tags"])

    @property
    def notes(self) -> str | None:
        """Its notes; may be set."""
        self._catch_up()
        return self._store.native.run(self._id)["notes"]

    @notes.setter
    def notes(self, notes: str | None) -> None:
        self.set_notes(notes or "")

    @property
    def status(self) -> str:
        """``running``, ``completed``, ``failed``, ``stopped``, ``lost`` or ``created``."""
        return self._summary()["status"]

    @property
    def status_reason(self) -> str | None:
        """Why, in words."""
        return self._summary()["status_reason"]

    @property
    def attempt(self) -> int:
        """Its newest launch."""
        return self._summary()["attempt"]

    @property
    def last_step(self) -> int | None:
        """Last step of its effective history."""
        self._catch_up()
        return self._summary()["last_step"]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of its effective history."""
        self._catch_up()
        return [metric["name"] for metric in self._store.native.run(self._id)["metrics"]]

    def checkpoints(self, *, inherited: bool = True, pending: bool = False) -> list[Checkpoint]:
        """Its checkpoints, ascending by step; those of ancestors that it inherits among them."""
        found = self._store.native.checkpoints(self._id, inherited, pending)
        return [Checkpoint(self._store, info) for info in found]

    def checkpoint(self, ref: str | int = "latest") -> Checkpoint:
        """One checkpoint: a step, ``"latest"``, ``"<=500"``, ``"best:loss"``, ``"last-good"``, a name, an id, or a REF."""
        name = self._store.native.resolve_checkpoint(reference(self._id, ref), self.project)
        return Checkpoint(self._store, self._store.native.checkpoint_info(*name))

    def load(
        self,
        ref: str | int | Checkpoint = "latest",
        *,
        into: Any = None,
        keys: str | Iterable[str] | None = None,
        device: Any = None,
        per_rank: Any = None,
        default: Any = MISSING,
    ) -> Any:
        """Loads a state, every byte verified; see :meth:`Checkpoint.load` for ``into``, ``keys``, ``device`` and ``per_rank``.

        ``default`` is returned if there is no checkpoint.
        """
        try:
            checkpoint = ref if isinstance(ref, Checkpoint) else self.checkpoint(ref)
        except NotFound:
            if default is MISSING:
                raise
            return default
        return checkpoint.load(into=into, keys=keys, device=device, per_rank=per_rank)

    def history(
        self,
        *metrics: str,
        inherited: bool = True,
        steps: tuple[int | None, int | None] | range | None = None,
        points: int | None = None,
        attempt: int | None = None,
    ) -> Any:
        """The effective history of a metric, as :class:`Series`; of several (or, without a name, of all), by name.

        ``steps`` bounds it: first and last, inclusive (None: open), or a ``range``. ``points`` thins it to at most about so many
        that keep its shape: first, smallest, largest and last of every stretch. ``attempt`` asks for what one launch of the run
        logged itself instead: its ghost tail, too.
        """
        if points is not None and points < 1:
            raise Invalid(f"points {points} is less than one", hint="leave it out for all of them")
        self._catch_up()
        names = metrics or tuple(self.metrics)
        bounds = _bounds(steps)
        found = {name: self._series(name, inherited, bounds, points, attempt) for name in names}
        return found[metrics[0]] if len(metrics) == 1 else found

    def _series(
        self, name: str, inherited: bool, steps: tuple[int, int] | None, points: int | None, attempt: int | None
    ) -> Series:
        at, values, timestamps, stretches = self._store.native.history(
            self._id, name, inherited, steps, points, attempt
        )
        return Series(name, at, values, timestamps, [Stretch(*stretch) for stretch in stretches])

    def export_metrics(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        metrics: str | Sequence[str] = (),
        system: bool = False,
        inherited: bool = True,
    ) -> dict[str, int]:
        """Writes its metrics to a file that appears when it is whole: one row for each point of the effective history.

        Args:
            path: The file.
            format: ``parquet``, ``csv`` or ``jsonl``; without it as the file's name says, else Parquet.
            metrics: Globs, of which a metric's name must match one; without any, all that were logged.
            system: The machine's metrics too.
            inherited: Points that it inherits, too.

        Returns:
            How many ``runs``, ``metrics`` and ``points`` were written.
        """
        self._catch_up()
        return self._store.export_metrics(
            [self], path, format=format, metrics=metrics, system=system, inherited=inherited
        )

    def export_html(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Writes its page, as it is now, to one HTML file that needs no server and no network; without ``path`` to
        ``<display id>.html`` here. Returns where."""
        from runtree._report import export_html

        self._catch_up()
        target = Path(f"{self.display_id}.html" if path is None else path)
        export_html(self._store.location, self._id, target)
        return target

    def dir(self, ref: str | int = "latest") -> Path:
        """A read-only copy of a checkpoint in the cache, for ``resume_from_checkpoint=`` and ``from_pretrained``."""
        return self.checkpoint(ref).dir()

    def lineage(self) -> list[Segment]:
        """The stretches of its effective history, root first."""
        segments = self._store.native.segments(self._id)
        return [Segment(each["run"]["display_id"], each["attempt"], each["first"], each["last"]) for each in segments]

    def attempts(self) -> list[Attempt]:
        """Its launches, oldest first, with what each left behind beyond the effective history."""
        self._catch_up()
        return [_attempt(info) for info in self._store.native.run(self._id).get("attempts", ())]

    def summary(self, *, inherited: bool = True, system: bool = False) -> dict[str, MetricSummary]:
        """What each of its metrics comes to: last, smallest and largest value with their steps.

        ``inherited=False`` counts only what this run logged itself; ``system`` has the machine's metrics, too.
        """
        self._catch_up()
        infos = self._store.native.run(self._id)["metrics"]
        found = {info["name"]: _metric_summary(info, inherited) for info in infos if system or not info["system"]}
        return {name: summary for name, summary in found.items() if summary is not None}

    def head(self) -> StoredRun:
        """The head of its experiment: the run that was made it, else the one of the lineage that was active last."""
        return StoredRun(self._store, head(self._store.native, self._id))

    def make_head(self) -> None:
        """Makes this run the head of its experiment: what the lineage has come to, for people. Nothing is decided by it."""
        set_head(self._store.native, self._id)

    def children(self) -> list[StoredRun]:
        """Its direct forks."""
        return [StoredRun(self._store, each["run"]["id"]) for each in self._store.native.run(self._id)["children"]]

    def diff(self, other: StoredRun | str) -> RunDiff:
        """What differs from another run: config and latest metrics."""
        self._catch_up()
        if isinstance(other, StoredRun):
            other._catch_up()
        that = other.id if isinstance(other, StoredRun) else self._store.native.resolve_run(other, self.project)
        report = self._store.native.diff_runs(self._id, that)
        return RunDiff(report["config"], report["metrics"])

    def resume_report(self) -> dict[str, Any] | None:
        """How the newest resumed launch repeats what the one before had logged beyond its checkpoint."""
        self._catch_up()
        return self._store.native.resume_report(self._id)

    def console(
        self,
        limit: int = 10_000,
        *,
        level: str | None = None,
        search: str | None = None,
        attempt: int | None = None,
        rank: int | None = None,
    ) -> list[str]:
        """Lines it wrote to the console, oldest first; those at least as loud as ``level`` (``debug``, ``info``, ``warning``,
        ``error``), with
        ``search`` in them (capitals or not), of one launch, of one rank."""
        lines: list[str] = []
        cursor: str | None = None
        while len(lines) < limit:
            most = min(limit - len(lines), 1000)
            page = self._store.native.console(self._id, cursor, most, level, search, attempt, rank)
            lines += [line["text"] for line in page["lines"]]
            cursor = page["next_cursor"]
            # A live run's console always has a next page: an empty one is its end for now.
            if cursor is None or not page["lines"]:
                break
        return lines

    def media(
        self,
        name: str | None = None,
        *,
        inherited: bool = True,
        steps: tuple[int | None, int | None] | range | None = None,
        attempt: int | None = None,
    ) -> Any:
        """Images, texts, histograms, tables and files of its effective history: with a name a list of
        :class:`runtree.MediaItem` by step, without one the names there are, as :class:`runtree.MediaKey`.

        A fork has its ancestors' up to the fork step. ``attempt`` asks for what one launch logged itself, ghosts included.
        """
        from runtree import media

        self._catch_up()
        if name is None:
            return media.keys(self, inherited)
        return media.items(self, name, inherited, _bounds(steps), attempt)

    def alerts(self) -> list[dict[str, Any]]:
        """Its newest alerts, oldest first: title, text, level, step, time."""
        self._catch_up()
        found = self._store.native.run(self._id)["alerts"]
        return [{**alert, "time": _time(alert["at"])} for alert in found]

    def processes(self) -> list[dict[str, Any]]:
        """Its processes by launch and rank, with what is known of each: host, command, commit, GPUs."""
        return list(self._store.native.run(self._id)["processes"])

    def set_notes(self, notes: str) -> None:
        """Sets its notes; empty removes them."""
        require_text("notes", notes)
        self._store.native.annotate(self._id, notes=notes)

    def files(self) -> list[str]:
        """Names of its attached files."""
        self._catch_up()
        return [file["name"] for file in self._store.native.run(self._id)["files"]]

    def file(self, name: str) -> bytes:
        """The bytes of an attached file."""
        return self._store.native.read_file(self._id, name)

    def fork(self, selector: str | int | None = None, **fork_keywords: Any) -> StoredRun:
        """Forks it at a checkpoint (the newest unless ``selector`` says which), without a process; see :meth:`Store.fork`."""
        ref = self._id if selector is None else reference(self._id, selector)
        return self._store.fork(ref, **fork_keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredRun) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.display_id} {self.name!r}>"

    def _repr_html_(self) -> str:
        facts = self._summary()
        rows = [
            ("run", f"{facts['display_id']} · {facts['name']}"),
            ("status", facts["status"] + (f" ({facts['status_reason']})" if facts["status_reason"] else "")),
            ("last step", facts["last_step"]),
            ("forked from", f"{self.fork_run_id} at step {self.fork_step}" if self.fork_run_id else None),
            ("store", self._store.location),
        ]
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in rows
            if value is not None
        )
        return f"<table>{cells}</table>"


def _bounds(steps: Any) -> tuple[int, int] | None:
    """First and last step of a bound, inclusive."""
    if steps is None:
        return None
    if isinstance(steps, range):
        if steps.step != 1 or not len(steps):
            raise Invalid(f"steps {steps!r} is not a range of one step after another", hint="steps=(first, last)")
        return steps.start, steps.stop - 1
    try:
        first, last = steps
        return (
            _FIRST_STEP if first is None else operator.index(first),
            _LAST_STEP if last is None else operator.index(last),
        )
    except (TypeError, ValueError):
        raise InvalidType(
            f"steps {steps!r} is neither (first, last) nor a range", hint="steps=(100, 200), inclusive; None: open"
        ) from None
