"""The live run of this process."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from runtree import _live, _warn
from runtree._cost import Cost
from runtree._guard import Guard, Guards
from runtree._later import Later, fetch_later
from runtree._launch import Setup
from runtree._loading import Wanted, fall_back, load_part
from runtree._pruning import Pruning
from runtree._redact import Redactor
from runtree._saving import SaveKeywords, save_options
from runtree.checkpoint import Checkpoint, PendingSave
from runtree.checkpoint import time as _time
from runtree.errors import (
    Conflict,
    Corrupt,
    Error,
    Invalid,
    InvalidType,
    LostData,
    NotFound,
    RuntreeWarning,
    Unavailable,
)
from runtree.report import FinishReport, Health, remote_of
from runtree.store import Store
from runtree.stored import MISSING

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from runtree import _native
    from runtree._console import Capture
    from runtree._environment import Collector
    from runtree._system import Sampler

_LONGEST_SECONDS = 365.0 * 24 * 3600
_STATUSES = ("completed", "failed", "stopped", "lost")
# Warnings that STRICT=1 turns into errors: something of the user's is being lost.
_STRICT_KINDS = {"storage": Unavailable, "queue_full": LostData, "save": LostData, "fenced": Conflict}


class Run(Pruning):
    """The live run of this process: what :func:`runtree.init` returns. Also a context manager."""

    def __init__(self, store: Store, writer: _native.RunWriter | None, setup: Setup) -> None:
        super().__init__(store, "" if writer is None else writer.run)
        self._writer = writer
        self._setup = setup
        self._lock = threading.RLock()
        self._pending: list[PendingSave] = []
        self._saved = False
        self._guards = Guards()
        self._cost = Cost(self)
        self._later: Later | None = None
        self._report: FinishReport | None = None
        self._config: dict[str, Any] = {}
        self._tags: list[str] = []
        self._capture: Capture | None = None
        self._sampler: Sampler | None = None
        self._collector: Collector | None = None
        # Off rank 0, and where runtree is disabled, log does nothing.
        self._quiet = writer is None or (setup.rank != 0 and not setup.log_all_ranks)

    # ---- What it is.

    @property
    def config(self) -> Mapping[str, Any]:
        """Its effective config: inherited keys, those given to init, and every update."""
        return self._config

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._tags)

    @property
    def attempt(self) -> int:
        """This launch."""
        return 0 if self._writer is None or self._writer.inert else self._writer.attempt

    @property
    def step(self) -> int | None:
        """The last step logged; before the first log, the last inherited one."""
        return None if self._writer is None or self._writer.inert else self._writer.last_step

    @property
    def next_step(self) -> int:
        """The step that a log without one takes."""
        return 0 if self._writer is None or self._writer.inert else self._writer.next_step

    @property
    def resumed_from(self) -> Checkpoint | None:
        """The checkpoint this launch starts from, the same on all ranks: after a resume, in a fork, with ``base=``."""
        name = None if self._writer is None or self._writer.inert else self._writer.resumed_from
        return None if name is None else Checkpoint(self._store, self._store.native.checkpoint_info(*name))

    @property
    def path(self) -> Path:
        """The store's directory; a store in a bucket has none, and raises ``Invalid``."""
        return self._store.path

    @property
    def url(self) -> str | None:
        """Where a server shows it; None, as none was named. ``runtree serve`` starts one."""
        return None

    @property
    def rank(self) -> int:
        """This process's rank."""
        return self._setup.rank

    @property
    def disabled(self) -> bool:
        """Whether it does nothing: ``RUNTREE_MODE=disabled``, or a forked child's copy."""
        return self._writer is None or self._writer.inert

    @property
    def finished(self) -> bool:
        """Whether :meth:`finish` was called."""
        return self._report is not None

    # ---- Writing.

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        *,
        commit: bool = True,
        timestamp: float | datetime | None = None,
    ) -> None:
        """Logs the values of one step; nested dicts become ``a/b``. Never waits for a disk or a device.

        Values are numbers, tensors and arrays of one element; texts, :class:`runtree.Image`, ``Histogram``, ``Table``, ``File``, PIL
        images, matplotlib figures, and lists of one kind of these (docs/logging.md).

        Without ``step`` it is the next one: 0, then one more than the largest so far; in a fork ``fork_step + 1``. With
        ``commit=False`` values wait for the call that completes the step.
        """
        if self._quiet:
            self._quiet_log()
            return
        writer = self._writer
        assert writer is not None
        answer = writer.log(data if isinstance(data, dict) else _as_dict(data), step, timestamp, commit)
        if answer is not None:
            self._after_log(answer, timestamp)

    def _summary(self) -> dict[str, Any]:
        # A disabled run is what init was told; a forked child's copy, what its parent knew.
        return self._born if self.disabled and self._born is not None else super()._summary()

    def _catch_up(self) -> None:
        if self.finished or self._quiet:
            return
        # Who reads wants what there is; what went wrong is told by health() and finish().
        with contextlib.suppress(Error):
            self.flush()

    def _refuse_finished(self) -> None:
        if self.finished and not self.disabled:
            raise Invalid(
                f"run {self.display_id} is finished", hint="resume it: runtree.init(run_id=..., resume='allow')"
            )

    def _quiet_log(self) -> None:
        if self.finished and not self.disabled:
            _warn.once(f"{self._id} finished", f"run {self.display_id} is finished: log does nothing any more")
        elif self._writer is not None and not self._writer.inert:
            _warn.once(
                "off_rank", f"log on rank {self._setup.rank} does nothing; log_ranks='all' keeps a series per rank"
            )

    def _after_log(self, answer: tuple[int, list[tuple[str, Any]], list[tuple[str, str]]], timestamp: Any) -> None:
        step, deferred, warnings = answer
        self._show(warnings)
        if not deferred:
            return
        if self._later is None:
            self._later = Later(self._log_later)
        stamp = time.time() if timestamp is None else timestamp
        self._later.put(step, stamp, [(name, fetch_later(value)) for name, value in deferred])

    def _log_later(self, step: int, timestamp: Any, values: dict[str, float]) -> None:
        if self._writer is not None and not self._writer.inert:
            self._writer.log(values, step, timestamp, True)

    def _show(self, warnings: Iterable[tuple[str, str]]) -> None:
        for kind, message in warnings:
            error = _STRICT_KINDS.get(kind)
            if error is not None and _warn.strict():
                raise error(message)
            _warn.once(f"{self._id} {kind}", message)

    def _show_warnings(self) -> None:
        if self._writer is not None and not self._writer.inert:
            self._show(self._writer.take_warnings())

    def save(
        self,
        state: Any,
        *,
        step: int | None = None,
        name: str | None = None,
        metrics: Mapping[str, float] | None = None,
        component: str = "trainer",
        sharded: bool | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        parts: Mapping[str, int] | None = None,
        pin: bool = False,
        if_busy: str = "wait",
    ) -> PendingSave:
        """Saves a state. Returns when it has been copied, guarded or not (:meth:`guard`); ``.result()`` says when it is durable.

        ``step`` is the last logged unless given. A state is a tree of dicts, lists, tensors, arrays, plain values and objects
        with ``state_dict``; see :func:`runtree.check`.
        """
        options = self._save_options(
            step,
            name=name,
            metrics=metrics,
            component=component,
            sharded=sharded,
            rank=rank,
            world_size=world_size,
            parts=parts,
            pin=pin,
            if_busy=if_busy,
        )
        writer = self._writer
        if writer is None or writer.inert:
            return PendingSave(None, None, step)
        native = writer.save(state, options, self._guards.memory())
        self._guards.note(native)
        return self._saving(native, step)

    def guard(self, optimizer: Any = None) -> Guard:
        """From here on ``save`` does not even wait for its copy: it is made beside the next forward and backward pass.

        With an optimizer of torch, ``save`` copies its parameters and its state after it has returned, and ``optimizer.step()`` waits
        for that; all else in the state (buffers, generators, an average of the weights) is copied at once, as ever. Between a save
        and the next step nothing but the optimizer's ``step`` and ``load_state_dict``, ``load(into=)`` and
        ``runtree.torch.restore`` may change them. One call each for several optimizers.

        Any other loop: ``with run.guard():`` around the save and what does not change the state; leaving the block waits.
        Returns the guard: ``wait()``, ``remove()``, and a context manager.
        """
        self._refuse_finished()
        return self._guards.add(optimizer)

    def save_dir(self, path: str | Path, *, step: int | None = None, **same: Unpack[SaveKeywords]) -> PendingSave:
        """Saves a directory, byte for byte; :meth:`dir` gives it back. Takes what :meth:`save` takes."""
        options = self._save_options(step, **same)
        writer = self._writer
        if writer is None or writer.inert:
            return PendingSave(None, None, step)
        return self._saving(writer.save_dir(Path(path), options), step)

    def _save_options(self, step: int | None, **given: Unpack[SaveKeywords]) -> dict[str, Any]:
        self._refuse_finished()
        return save_options(self._setup, step, given)

    def _saving(self, native: _native.PendingSave, step: int | None) -> PendingSave:
        pending = PendingSave(self._store, native, step, self._writer)
        with self._lock:
            self._pending = [each for each in self._pending if not each.done()]
            self._pending.append(pending)
            self._saved = True
        self._cost.note(pending)
        self._show_warnings()
        return pending

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

        A launch of as many ranks as saved it gets each rank's own part; any other gets slices (``into=`` DTensors) or whole
        tensors, and needs ``per_rank=`` for leaves that differ by rank. Without a name it is the checkpoint this launch starts
        from (:attr:`resumed_from`), until it has saved one of its own.
        ``default`` is returned if there is none. If the newest is damaged, one process alone falls back to the newest good one
        and says so; with several ranks the damage raises, and the next launch resumes from the newest good one on all of them.
        """
        writer = self._writer
        if writer is None or writer.inert:
            if default is MISSING:
                raise NotFound("runtree is disabled: there is no checkpoint", hint="pass default=None to load")
            return default
        try:
            checkpoint = self._to_load(ref)
        except NotFound:
            if default is MISSING:
                raise
            return default
        wanted = Wanted(into, keys, device, per_rank)
        return self._load(checkpoint, wanted, self._setup, ref == "latest" and self._setup.world_size == 1)[1]

    def _load(
        self, checkpoint: Checkpoint, wanted: Wanted, setup: Setup, may_fall_back: bool
    ) -> tuple[Checkpoint, Any]:
        """Loads a checkpoint, or the newest good one before it where one process decides for itself; says which."""
        writer = self._writer
        assert writer is not None
        try:
            state = load_part(checkpoint, setup, wanted)
        except Corrupt as damage:
            # The next launch looks twice before it resumes from this one, whatever this process does about it.
            with contextlib.suppress(Error):
                writer.note_damaged(*checkpoint._name, damage.message)  # pyright: ignore[reportPrivateUsage]
            if not may_fall_back:
                raise
            checkpoint, state = fall_back(self, checkpoint, damage, setup, wanted)
        writer.note_loaded(*checkpoint._name, checkpoint.bytes // max(1, len(checkpoint.parts)))  # pyright: ignore[reportPrivateUsage]
        return checkpoint, state

    def _to_load(self, ref: str | int | Checkpoint) -> Checkpoint:
        if isinstance(ref, Checkpoint):
            return ref
        if ref != "latest":
            return self.checkpoint(ref)
        if self._saved:
            # What this launch saved is newer than what it started from, once it is there.
            for pending in self._pending:
                with contextlib.suppress(Error):
                    pending.result()
            return self.checkpoint("latest")
        start = self.resumed_from
        if start is None:
            return self.checkpoint("latest")
        foreign = start._info["run"]["id"] != self._id  # pyright: ignore[reportPrivateUsage]
        if foreign and self.fork_step is not None and start.step < self.fork_step:
            raise Invalid(
                f"{self.display_id} was forked at step {self.fork_step}, the nearest checkpoint is at {start.step}: "
                "its weights are older than its history",
                hint=f'load it by name: run.load("{start.reference}")',
            )
        return start

    def rewind(self, step: int) -> None:
        """Goes back to a step: a new attempt in this process. What was logged after it stays as a ghost tail."""
        self._refuse_finished()
        if self._writer is None or self._writer.inert:
            return
        self._drain()
        self._writer.rewind(step)
        self._saved = False

    def flush(self) -> None:
        """Waits until everything logged so far is durable."""
        if self._writer is not None and not self._writer.inert:
            if self._later is not None:
                self._later.drain()
            self._writer.flush()

    def health(self) -> Health:
        """How the writer is doing."""
        if self._writer is None or self._writer.inert:
            return Health(0, {}, 0, 0, None, None, None, None, [])
        facts: dict[str, Any] = self._writer.health()
        if facts["last_flush"] is not None:
            facts["last_flush"] = _time(facts["last_flush"])
        facts["remote"] = remote_of(facts["remote"])
        return Health(**facts)

    def finish(
        self, status: str | None = None, reason: str | None = None, *, timeout: float | None = None
    ) -> FinishReport:
        """Waits for what is on its way, says goodbye, and reports. Raises ``LostData`` if a save is not durable.

        ``status`` is ``completed`` unless given (``failed``, ``stopped``). With ``timeout`` it waits at most about so many seconds
        (one at least), and what is not durable then is lost, and said to be. A second call does nothing.
        """
        if timeout is not None and not timeout >= 0:
            raise Invalid(f"timeout {timeout!r} is not a number of seconds")
        return self._finish(status, reason, timeout)

    def _finish(self, status: str | None, reason: str | None, patience: float | None) -> FinishReport:
        """:meth:`finish` that waits at most ``patience`` seconds: a program that is dying has no ten minutes."""
        if status is not None and status not in _STATUSES:
            raise Invalid(f"{status!r} is not how a run ends", hint="pass one of " + ", ".join(_STATUSES))
        writer = self._writer
        # Before the lock: a forked child may have it from a thread that it does not have.
        if writer is None or writer.inert:
            self._report = self._report or FinishReport("disabled", "completed", None, {}, 0, None, [])
            return self._report
        # More than any program waits, and than a lock can be asked to.
        patience = None if patience is None else min(patience, _LONGEST_SECONDS)
        deadline = None if patience is None else time.monotonic() + patience
        # Another thread may be finishing it, and wait for as long as it takes.
        if not self._lock.acquire(timeout=-1 if patience is None else patience):
            raise Unavailable(f"run {self.display_id} is still being finished by another thread")
        try:
            return self._finish_alone(writer, status, reason, deadline)
        finally:
            self._lock.release()

    def _finish_alone(
        self, writer: _native.RunWriter, status: str | None, reason: str | None, deadline: float | None
    ) -> FinishReport:
        if self._report is not None:
            return self._report
        self._stop_helpers()
        self._guards.close()
        is_drained = self._drain(deadline)
        if self._setup.joined:
            status = reason = None
        # An exception's text may hold the URL it could not reach, with its password.
        reason = None if reason is None else Redactor()(reason)
        self._quiet = True
        _live.remove(self)
        try:
            left = None if deadline is None else max(1.0, deadline - time.monotonic())
            facts = writer.finish(status, reason, left)
        except Error:
            # What finish raises is the news: a warning that was made an error must not stand before it.
            with contextlib.suppress(RuntreeWarning, Error):
                self._show(writer.take_warnings())
            raise
        facts["remote"] = remote_of(facts["remote"])
        self._report = FinishReport(**facts)
        self._show(writer.take_warnings())
        if not is_drained:
            _warn.once("device_values", "the device did not deliver values in time: the last ones are not logged")
        return self._report

    def _stop_helpers(self) -> None:
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None
        if self._capture is not None:
            self._capture.stop()
            self._capture = None
        if self._collector is not None:
            self._collector.stop()
            self._collector = None

    def _drain(self, deadline: float | None = None) -> bool:
        """Waits for devices and saves until a deadline of :func:`time.monotonic`; says whether the devices delivered."""

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - time.monotonic())

        is_drained = self._later is None or self._later.drain(left())
        for pending in self._pending:
            # What failed is told by the writer's finish, which counts all of them.
            with contextlib.suppress(Error):
                pending.result(left())
        return is_drained

    # ---- Helpers that init starts.

    def _start_helpers(self, console: bool, system_metrics: bool, environment: bool) -> None:
        writer = self._writer
        if writer is None or writer.inert:
            return
        if console:
            from runtree._console import Capture

            self._capture = Capture(writer.console)
        if system_metrics:
            from runtree._system import Sampler

            self._sampler = Sampler(writer.log_system, self._store.directory or Path.cwd())
        if environment:
            from runtree._environment import Collector

            self._collector = Collector(writer, os.getcwd(), self._setup.rank == 0 and not self._setup.joined)

    # ---- Python's protocols.

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
            return
        status, reason = _live.outcome_of(error)
        try:
            self._finish(status, reason, _live.grace())
        except Error as lost:
            # The program's own exception is what the user must see; this one follows it.
            _warn.once(f"{self._id} finish", str(lost))

    def __reduce__(self) -> tuple[Callable[..., Run], tuple[Any, ...]]:
        from runtree import _pickled

        writer = self._writer
        if writer is None or writer.inert:
            return _pickled.disabled, (self._born, self._config, self._tags)
        key = writer.attempt_record()["launch_key"]
        origin = _pickled.Origin(
            self._store.location, self.project, self._id, key, self._setup, self._birth(), self._config, self._tags
        )
        return _pickled.rejoined, tuple(origin)

    if not TYPE_CHECKING:  # Checkers are to know what a run has, not that it has everything.

        def __getattr__(self, name: str) -> Any:
            from runtree import _pickled

            return _pickled.attribute(self, name)

    def __repr__(self) -> str:
        return "<Run, runtree is disabled>" if self.disabled else super().__repr__()

    def _repr_html_(self) -> str:
        return "<p>runtree is disabled</p>" if self.disabled else super()._repr_html_()


def _as_dict(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidType(f"log takes a dict of metrics, not a {type(data).__name__}", hint='run.log({"loss": loss})')
    return dict(cast("Mapping[str, Any]", data))
