"""Checkpoints, and saves on their way to becoming one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from runtree import _native
from runtree.errors import Corrupt, Error, Invalid, InvalidType, NotFound

if TYPE_CHECKING:
    from runtree._ranks import PerRank
    from runtree.inspection import TensorReport
    from runtree.store import Store

# How long `PendingSave.result()` waits for the parts of other ranks.
RESULT_TIMEOUT_SECONDS = 600.0


def number(value: Any) -> float:
    """A float of the engine's JSON, where NaN and infinities are text."""
    return float(value)


def time(micros: int) -> datetime:
    """A time of the engine's JSON."""
    return datetime.fromtimestamp(micros / 1e6, tz=timezone.utc)


def save_key(attempt: int, step: int, k: int) -> str:
    """What the store calls a save of a run."""
    return f"{attempt}-{f'n{-step}' if step < 0 else step}-{k}"


def metric_values(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics that a caller gives, as floats."""
    values: dict[str, float] = {}
    for name, value in (metrics or {}).items():
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            raise InvalidType(f"metric {name!r} is a {type(value).__name__}, not a number") from None
    return values


class Checkpoint:
    """A committed state of a run at a step. Its facts are those of when it was looked up; :meth:`refresh` looks again."""

    def __init__(self, store: Store, info: dict[str, Any]) -> None:
        self._store = store
        self._info = info

    @property
    def _name(self) -> tuple[str, str]:
        """RunId and save key: what the store calls it."""
        return self._info["run"]["id"], save_key(self._info["attempt"], self.step, self._info["k"])

    @property
    def id(self) -> str:
        """``ck_…``."""
        return self._info["id"]

    @property
    def run(self) -> str:
        """Display id of the run that saved it."""
        return self._info["run"]["display_id"]

    @property
    def attempt(self) -> int:
        """The launch that saved it."""
        return self._info["attempt"]

    @property
    def step(self) -> int:
        """The step it was saved at."""
        return self._info["step"]

    @property
    def name(self) -> str | None:
        """Its own name."""
        return self._info["name"]

    @property
    def reference(self) -> str:
        """The REF that loads it."""
        return self._info["reference"]

    @property
    def created(self) -> datetime:
        """When ``save`` was called."""
        return time(self._info["created"])

    @property
    def state(self) -> str:
        """``complete``, ``pending``, ``abandoned``, ``deleted`` or ``quarantined``."""
        return self._info["state"]

    @property
    def inherited(self) -> bool:
        """Whether the run it was listed for inherits it."""
        return self._info["inherited"]

    @property
    def effective(self) -> bool:
        """Whether it lies on the run's effective timeline."""
        return self._info["effective"]

    @property
    def bytes(self) -> int:
        """Raw bytes."""
        return self._info["bytes"]

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of the distinct objects it needs in this store, what is shared counted once; None if it is not complete or damaged.

        Counted when first asked for: it reads the manifests and asks for the size of every object.
        """
        if self._info["stored_bytes"] is None:
            with contextlib.suppress(NotFound, Corrupt):
                self._info["stored_bytes"] = self._store.native.stored_bytes(*self._name)
        return self._info["stored_bytes"]

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics given to it, else those logged at its step."""
        return {name: number(value) for name, value in self._info["metrics"].items()}

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._info["tags"])

    @property
    def pinned(self) -> bool:
        """Whether a pin keeps it."""
        return self._info["pinned"]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Its parts: component, rank, present, bytes."""
        return list(self._info["parts"])

    def load(
        self,
        *,
        into: Any = None,
        keys: str | Iterable[str] | None = None,
        device: Any = None,
        component: str = "trainer",
        rank: int | None = None,
        per_rank: PerRank = None,
    ) -> Any:
        """Loads its state, every byte verified.

        ``into`` is a tree of the same shape whose tensors, arrays and objects with ``load_state_dict`` are restored in place;
        what is returned then has them as leaves. A DTensor reads the slices that its placements name, however many ranks saved
        it; a plain tensor reads all of it, put together from the shards. ``keys`` are globs over dotted paths (``"model.*"``).
        Tensors come back in the framework they were saved from, on the CPU unless ``device`` says otherwise.

        ``rank`` is the rank whose part of a sharded checkpoint this is: its own shards and its own leaves. Without it, as on
        another world size, tensors come back whole, and leaves that differ by rank (random state, the place in a data set) are
        an error that names them, unless ``per_rank`` says what to do: ``"modulo"`` (rank ``i`` of the new launch takes what rank
        ``i % ranks`` saved), a rank (everybody takes that one's), ``"skip"`` (leave them as they are in ``into``, or out), a
        function of (dotted path, list of all ranks' values), or a dict from globs over dotted paths to any of these.
        """
        from runtree import _ranks

        return _ranks.load(self, into, keys, device, component, rank, per_rank, 0 if rank is None else rank)

    def tensor(self, name: str, index: Any = ..., *, component: str = "trainer") -> Any:
        """One tensor, or a slice of it, without reading the rest: ``checkpoint.tensor("model.weight", np.s_[:10, 3])``.

        ``name`` is its dotted path; shards are put together. ``index`` is what ``[]`` takes: ints, slices and ``...``. What is
        read are the blocks of 1 MiB in which the elements lie. Raises ``NotFound``, and ``IndexError`` beyond the end.
        """
        from runtree import _ranks

        return _ranks.tensor(self, name, index, component)

    def export(
        self, dir: str | Path, *, keys: str | None = None, layout: str = "as-saved", max_file_bytes: int | None = None
    ) -> Path:
        """Writes it into a directory, which appears whole or not at all. Overwrites nothing.

        ``layout`` is ``"as-saved"`` (state trees as safetensors + JSON, saved directories byte for byte), ``"hf"`` (what
        ``from_pretrained`` loads, in files of at most ``max_file_bytes``, 5 GB unless given) or ``"dcp"`` (what plain
        ``torch.distributed.checkpoint`` loads; needs torch, and writes all of it).
        """
        if layout == "dcp":
            from runtree.torch import export_dcp

            if keys is not None:
                raise Invalid("keys= does not go with layout='dcp'", hint="export all of it and load what you want")
            return export_dcp(self, dir)
        run, key = self._name
        return Path(self._store.native.export(run, key, Path(dir), keys, layout, max_file_bytes)["directory"])

    def dir(self) -> Path:
        """A read-only copy in the cache, made once: for ``from_pretrained`` and ``resume_from_checkpoint``."""
        return Path(self._store.native.materialize(*self._name))

    def tensors(self) -> list[dict[str, Any]]:
        """Name, entry, part, dtype, shape, global shape and bytes of every tensor. Reads none of them."""
        return self._store.native.tensors(*self._name)

    def inspect(self, keys: str | Iterable[str] | None = None) -> list[TensorReport]:
        """What is in every tensor: extremes, mean, standard deviation, norm, how many elements are not finite; and how it is stored.

        ``keys`` are globs over dotted paths, as in :meth:`load`; ``NotFound`` if nothing matches. Every byte of what they select is
        read and verified, on all processors, some megabytes of memory each. In the order of :meth:`tensors`.
        """
        from runtree import inspection

        patterns = [keys] if isinstance(keys, str) else None if keys is None else list(keys)
        found = self._store.native.inspect(*self._name, patterns)
        return [inspection.report(info, statistics) for info, statistics in found]

    def verify(self) -> dict[str, Any]:
        """Reads all of it and reports what is damaged."""
        return self._store.native.verify(self._name)

    def pin(self, reason: str = "pinned by hand") -> None:
        """Keeps it whatever retention says."""
        self._store.native.pin(*self._name, reason)
        self.refresh()

    def unpin(self) -> None:
        """Takes the pin back."""
        self._store.native.unpin(*self._name)
        self.refresh()

    def tag(self, *tags: str) -> None:
        """Adds tags."""
        self._store.native.annotate_checkpoint(*self._name, add_tags=list(tags))
        self.refresh()

    def untag(self, *tags: str) -> None:
        """Removes tags."""
        self._store.native.annotate_checkpoint(*self._name, remove_tags=list(tags))
        self.refresh()

    def add_metrics(self, metrics: Mapping[str, float]) -> None:
        """Gives it metric values, for ``best:METRIC`` and lists."""
        self._store.native.annotate_checkpoint(*self._name, metrics=metric_values(metrics))
        self.refresh()

    def delete(self, reason: str = "deleted by hand") -> None:
        """Puts it into the trash."""
        self._store.native.delete_checkpoint(*self._name, reason)
        self.refresh()

    def undelete(self) -> None:
        """Takes it out of the trash."""
        self._store.native.undelete_checkpoint(*self._name)
        self.refresh()

    def diff(self, other: Checkpoint) -> dict[str, Any]:
        """Tensors added, removed, changed (with the relative norm of the change)."""
        return self._store.native.diff_checkpoints(self._name, other._name)

    def refresh(self) -> None:
        """Looks its facts up again."""
        self._info = self._store.native.checkpoint_info(*self._name)

    def __repr__(self) -> str:
        return f"<Checkpoint {self.reference} {self.id}, {self.bytes:,} bytes>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checkpoint) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class PendingSave:
    """A save on its way to disk. The state may be changed as soon as ``save`` returns, unless it is guarded (:meth:`wait_staged`).

    :meth:`result` says that it is durable.
    """

    def __init__(
        self,
        store: Store | None,
        native: _native.PendingSave | None,
        step: int | None,
        writer: _native.RunWriter | None = None,
    ) -> None:
        self._store = store
        self._native = native
        self._step = step
        self._writer = writer

    def result(self, timeout: float | None = None, *, durable: str = "local") -> Checkpoint:
        """Waits until the checkpoint is durable on all ranks (10 minutes, or ``timeout`` seconds), and returns it.

        With ``durable="remote"`` it waits until the run's remote has it, too (on rank 0, which pushes). Raises what went wrong, and
        ``Unavailable`` if parts of other ranks are missing, or it is not at the remote, when the time is up.
        """
        from runtree._remote import is_remote

        pushed = is_remote(durable)
        if self._native is None or self._store is None:
            return _nothing_saved(self._step)
        timeout = RESULT_TIMEOUT_SECONDS if timeout is None else timeout
        end = monotonic() + timeout
        info = self._native.result(timeout)
        if pushed and self._writer is not None:
            _native.wait_remote(self._writer, self._native, max(0.0, end - monotonic()))
        return Checkpoint(self._store, info)

    def done(self) -> bool:
        """Whether :meth:`result` would return or raise at once."""
        return self._native is None or self._native.done()

    def exception(self) -> Error | None:
        """What went wrong, once it is done."""
        return None if self._native is None else self._native.exception()

    def wait_staged(self, timeout: float | None = None) -> bool:
        """Waits until the state may be changed again, at most ``timeout`` seconds; says whether it may.

        ``save`` has copied what is not guarded before it returns; what is (:meth:`Run.guard`) is copied beside the program.
        """
        return self._native is None or self._native.wait_staged(timeout)

    def cancel(self) -> None:
        """Gives the save up if it is not committed yet."""
        if self._native is not None:
            self._native.cancel()

    def __await__(self) -> Generator[Any, None, Checkpoint]:
        return asyncio.get_running_loop().run_in_executor(None, self.result).__await__()

    def __repr__(self) -> str:
        if self._native is None:
            return "<PendingSave, runtree is disabled>"
        attempt, step, k = self._native.key()
        state = "done" if self.done() else "pending"
        return f"<PendingSave {attempt}-{step}-{k}, {state}>"


def _nothing_saved(step: int | None) -> Checkpoint:
    """What a disabled run's save gives: a checkpoint with nothing in it."""
    from runtree.store import DisabledStore

    label = {"id": "", "display_id": "disabled", "name": "disabled"}
    info: dict[str, Any] = {
        "id": "disabled", "reference": "disabled", "run": label, "attempt": 0, "step": step or 0, "k": 0, "name": None,
        "created": 0, "state": "abandoned", "inherited": False, "effective": False, "superseded": False, "bytes": 0,
        "stored_bytes": 0, "tensors": 0, "metrics": {}, "tags": [], "pinned": False, "parts": [], "forks": [],
    }  # fmt: skip
    return Checkpoint(DisabledStore(), info)
