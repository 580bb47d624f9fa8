"""What lies at the paths of ``ModelCheckpoint``: a note of which checkpoint of the run is meant, a few hundred bytes.

``ModelCheckpoint`` thinks in files: it looks whether one exists, links to it, goes on from the newest, deletes the worst. With notes
in their place all of that works, and nothing waits for a disk: a note is written when ``save`` has returned, before the checkpoint
is durable, and says what was there before. Who reads it after a crash gets the checkpoint if it became one, else the one before.

Deleting a note is letting go of a name. The checkpoint goes to the trash when a newer one is durable, unless somebody else holds it.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from runtree import _warn
from runtree.checkpoint import Checkpoint, PendingSave, save_key
from runtree.errors import Error, Invalid, NotFound
from runtree.integrations._source import on_first
from runtree.run import Run
from runtree.store import Store

_FORMAT = "runtree.lightning"
# A note is short; anything else is somebody's weights.
_MOST_BYTES = 16384


class Note(NamedTuple):
    """Which checkpoint is meant: run id and save key, and the key of the one that was meant before."""

    store: str
    run: str
    key: str
    before: str | None


def read(path: str | os.PathLike[str]) -> Note | None:
    """The note at a path; None if there is none."""
    try:
        with open(path, "rb") as file:
            note = json.loads(file.read(_MOST_BYTES))
        if note["format"] == _FORMAT:
            return Note(str(note["store"]), str(note["run"]), str(note["save"]), note["before"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


class Paths:
    """The notes that one run writes."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._pending: dict[str, PendingSave] = {}
        self._leaving: list[tuple[str, PendingSave]] = []
        self._newest: PendingSave | None = None

    # ---- Writing.

    def refuse(self, path: str | os.PathLike[str]) -> None:
        """Raises if there is something at the path that is not ours to replace."""
        text = os.fspath(path)
        if "://" in text:
            raise Invalid(
                f"{text} is in a bucket, and the checkpoint goes to the run's store",
                hint="ModelCheckpoint(dirpath=...) of this machine: what is written there are notes; remote= of runtree.init pushes",
            )
        if os.path.lexists(text) and not os.path.islink(text) and read(text) is None:
            raise Invalid(f"{text} is not of runtree: it is left as it is", hint="another dirpath or filename")

    def saved(self, path: str | os.PathLike[str], pending: PendingSave, checkpoint_name: str | None) -> None:
        """Writes the note of a save that has returned. A disk that fails is a warning."""
        if pending._native is None:
            return
        key = save_key(*pending._native.key())
        self._pending[key] = self._newest = pending
        target = Path(path)
        old = read(target)
        before = None
        if old is not None and old.run == self.run.id:
            before = old.key if self._is_there(old.run, old.key) else old.before
            # Replacing a file lets go of what it was. What is replaced through a link has its own name still.
            if not os.path.islink(target):
                self._leaving += [(each, pending) for each in (old.key, old.before) if each is not None]
        note = {
            "format": _FORMAT, "version": 1, "store": self.run.store.location, "run": self.run.id, "save": key,
            "before": before, "reference": f"{self.run.display_id}@{pending._step}", "name": checkpoint_name,
        }  # fmt: skip
        made = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
            os.replace(made, target)
        except OSError as error:
            _warn.once(f"{self.run.id} notes", f"{target} was not written: {error}; the checkpoint is in the store")
        self.settle()

    def follow(self, pending: PendingSave) -> None:
        """Waits for a save of another rank's note, too, at the end."""
        if pending._native is not None:
            self._pending[save_key(*pending._native.key())] = self._newest = pending
        self.settle()

    def _is_there(self, run: str, key: str) -> bool:
        with contextlib.suppress(Error):
            self.run.store.native.checkpoint_info(run, key)
            return True
        return False

    # ---- Reading.

    def find(self, wanted: str | os.PathLike[str] | Checkpoint, alone: bool = False) -> Checkpoint | None:
        """What a path or a REF means, the same on all ranks; None if it is a file or a directory of somebody else's.

        ``"latest"`` is the checkpoint this launch starts from, until it has saved one of its own. ``alone``: one rank asks, and
        tells the others itself.
        """
        if isinstance(wanted, Checkpoint):
            return wanted
        text = os.fspath(wanted)
        note = read(text)
        if note is None and os.path.lexists(text):
            return None
        if note is not None:
            return self._meant(text, note)

        def resolve() -> tuple[str, str]:
            try:
                return self.run._to_load(text)._name
            except NotFound as error:
                raise NotFound(
                    error.message, hint=f"{text!r} is no file, and {error.hint or 'no checkpoint'}"
                ) from None

        # Only the rank that saved knows how far it is.
        name = on_first(resolve) if text == "latest" and not alone else resolve()
        return Checkpoint(self.run.store, self.run.store.native.checkpoint_info(*name))

    def _meant(self, path: str, note: Note) -> Checkpoint:
        pending = self._pending.get(note.key)
        if pending is not None:
            return pending.result()
        store = self.run.store if note.store == self.run.store.location else Store(note.store)
        for key in (note.key, note.before):
            if key is None:
                continue
            with contextlib.suppress(NotFound):
                info = store.native.checkpoint_info(note.run, key)
                if key != note.key:
                    _warn.once(
                        f"{self.run.id} {path}",
                        f"what was last saved as {path} did not become a checkpoint: {info['reference']} is taken instead",
                    )
                return Checkpoint(store, info)
        raise NotFound(
            f"what was saved as {path} did not become a checkpoint: the process ended before it was durable",
            hint="load an older one, or by REF: `runtree checkpoints` lists what there is",
        )

    # ---- Letting go.

    def drop(self, path: str | os.PathLike[str]) -> None:
        """Removes a note. Its checkpoint goes to the trash once what was saved after it is durable.

        What another run saved stays, and its note too: it is that run's to let go of.
        """
        note = read(path)
        if note is None or note.run != self.run.id:
            return
        is_link = os.path.islink(path)
        with contextlib.suppress(OSError):
            os.unlink(path)
        newest = self._newest
        # A link is one more name, and the newest checkpoint stays whoever lets go of it.
        if is_link or newest is None or newest is self._pending.get(note.key):
            return
        self._leaving.append((note.key, newest))
        self.settle()

    def settle(self, wait: bool = False) -> None:
        """Does what has become possible; with ``wait`` all of it. Nothing that fails is raised: the run tells it."""
        for key, pending in list(self._pending.items()):
            if wait:
                with contextlib.suppress(Error):
                    pending.result()
            if pending.done() and pending is not self._newest and key not in dict(self._leaving):
                del self._pending[key]
        left: list[tuple[str, PendingSave]] = []
        for key, newer in self._leaving:
            mine = self._pending.get(key)
            if any(each is not None and not each.done() for each in (mine, newer)):
                left.append((key, newer))
            elif newer.exception() is None:
                self._delete(key)
                self._pending.pop(key, None)
        self._leaving = left
        self.run._show_warnings()

    def _delete(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            checkpoint = Checkpoint(self.run.store, self.run.store.native.checkpoint_info(self.run.id, key))
            # What the launch starts from stays, as with Lightning's files.
            if checkpoint == self.run.resumed_from or checkpoint.pinned or checkpoint.tags or checkpoint._info["forks"]:
                return
            try:
                checkpoint.delete("let go of by ModelCheckpoint")
            except Error as error:
                _warn.once(f"{self.run.id} let go", f"{checkpoint.reference} was not put into the trash: {error}")
