"""What ART itself wrote: ``{root}/{project}/models/{name}/checkpoints/{step:04d}/…``, in a directory or a bucket.

Nothing there says that a checkpoint is whole, so names and files are looked at (:mod:`runtree.compat.art.adapters`), and what is
not whole never counts. Its own reader takes an empty directory for the newest step, and stumbles over ``7`` and ``²``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

from runtree import _warn
from runtree.compat.art import adapters, history, names
from runtree.compat.art.errors import NoCheckpoint
from runtree.compat.art.files import BucketFiles, Files, LocalFiles

_CHECKPOINTS = "checkpoints"
_A_FILE = "a file"
# Files that are read into memory, and how many bytes they may have: what a bucket holds is not believed either.
_MODEL, _HISTORY = "model.json", "history.jsonl"
_LONGEST = {_MODEL: 1 << 20, _HISTORY: 1 << 30}
# How many names an error lists.
_LISTED = 12


class ArtModel:
    """A model as ART left it. What is there is listed once, when it is made; :attr:`steps` are those that may be whole."""

    def __init__(self, files: Files, project: str, name: str) -> None:
        self.project = project
        self.name = name
        self._files = files
        sizes = files.sizes()
        self._sizes = {name: sizes[name] for name in _LONGEST if name in sizes}
        self.exists = bool(sizes)
        #: Directories (and files) that are no checkpoints, and why.
        self.passed_over: dict[str, str] = {}
        #: Steps of what may be whole checkpoints, ascending.
        self.steps: list[int] = []
        for directory, inside in sorted(_directories(sizes).items()):
            step = _step_of(directory)
            problem = _no_step(directory) if step is None else _A_FILE if inside is None else None
            problem = problem or adapters.is_candidate(inside or {})
            if step is None or problem is not None:
                self.passed_over[directory] = problem or ""
            else:
                self.steps.append(step)
        self.steps.sort()

    @property
    def location(self) -> str:
        """Where it is."""
        return self._files.location

    def base_model(self) -> str | None:
        """What ``model.json`` says it was trained from."""
        try:
            found: Any = json.loads(self._read(_MODEL) or b"null")
        except (ValueError, RecursionError):
            return None
        base: Any = cast("dict[str, Any]", found).get("base_model") if isinstance(found, dict) else None
        return base if isinstance(base, str) and base else None

    def history(self) -> history.History:
        """Its metrics."""
        return history.parse(self._read(_HISTORY).splitlines())

    def _read(self, name: str) -> bytes:
        """A file's bytes; none if it is not there, or has more than such a file has."""
        size = self._sizes.get(name, 0)
        if size > _LONGEST[name]:
            _warn.once(f"{self.location} {name}", f"{name} at {self.location} is left out: it has {size:,} bytes")
            return b""
        return (self._files.read(name) or b"") if size else b""

    @contextlib.contextmanager
    def newest(self, not_after: int | None) -> Generator[tuple[int, Path]]:
        """The newest whole checkpoint, not after a step: its step and its files.

        What turns out not to be whole is added to :attr:`passed_over`, and the one before it is taken, with a warning.

        Raises:
            NoCheckpoint: There is none; the message lists those there are, and what was passed over.
        """
        for step in reversed([step for step in self.steps if not_after is None or step <= not_after]):
            with self._files.directory(f"{_CHECKPOINTS}/{step:04d}") as directory:
                problem = adapters.find_problem(directory)
                if problem is None:
                    self._tell_passed_over(step, not_after)
                    yield step, directory
                    return
                self.passed_over[f"{step:04d}"] = problem
                self.steps.remove(step)
        raise self._no_checkpoint(not_after)

    def _tell_passed_over(self, taken: int, not_after: int | None) -> None:
        steps = {name: _step_of(name) for name, why in self.passed_over.items() if why != _A_FILE}
        later = [name for name, step in steps.items() if step is not None and step > taken]
        told = [f"{name} ({self.passed_over[name]})" for name in later if not_after is None or int(name) <= not_after]
        if told:
            _warn.once(
                f"{self.location} {told}",
                f"checkpoint {taken:04d} of {self.name} is taken, as not whole are {', '.join(told)} at {self.location}",
            )

    def _no_checkpoint(self, not_after: int | None) -> NoCheckpoint:
        limit = "" if not_after is None else f" not after step {not_after}"
        there = ", ".join(str(step) for step in self.steps[-_LISTED:]) or "none"
        hint = f"checkpoints there: {there}"
        if self.passed_over:
            listed = list(self.passed_over.items())[:_LISTED]
            told = [f"{name if name.isprintable() else repr(name)} ({why})" for name, why in listed]
            hint += "; passed over: " + ", ".join(told)
        return NoCheckpoint(
            f"model {self.name!r} of project {self.project!r} has no whole checkpoint{limit} at {self.location}",
            hint=hint,
        )


def open_model(root: str | Path, project: str, name: str) -> ArtModel:
    """A model below a directory or an address in a bucket that ART wrote to; :attr:`ArtModel.exists` says whether it is there.

    Raises:
        Invalid: ``project`` or ``name`` would leave it.
        Denied: The bucket may not be looked into; never taken for an empty one.
        NotFound: There is no such bucket.
    """
    names.check_source("project", project)
    names.check_source("model", name)
    below = f"{project}/models/{name}"
    files = LocalFiles(root / below) if isinstance(root, Path) else BucketFiles(f"{root}/{below}")
    return ArtModel(files, project, name)


def _directories(sizes: dict[str, int]) -> dict[str, dict[str, int] | None]:
    """What lies in ``checkpoints/``: directories with their own files' sizes; None for what is a file."""
    found: dict[str, dict[str, int] | None] = {}
    for path, size in sizes.items():
        top, _, rest = path.partition("/")
        directory, slash, name = rest.partition("/")
        if top != _CHECKPOINTS or not directory:
            continue
        if not slash:
            found[directory] = None
            continue
        inside = found.setdefault(directory, {})
        if inside is not None and name and "/" not in name:
            inside[name] = size
    return found


def _number(directory: str) -> int | None:
    # `isdigit` alone takes "²", which no int is.
    is_number = directory.isascii() and directory.isdigit() and len(directory) <= 18
    return int(directory) if is_number else None


def _step_of(directory: str) -> int | None:
    """The step of a directory that is called as ART calls it: at least four digits, no more than it needs."""
    step = _number(directory)
    return step if step is not None and f"{step:04d}" == directory else None


def _no_step(directory: str) -> str:
    step = _number(directory)
    return "not called as ART calls a step" + ("" if step is None else f", {step:04d}")
