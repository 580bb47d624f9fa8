"""Which run of a store a model is.

A model's run has the model's name as its key, so that ``runtree.init(project, run_id="my-model", resume="allow")`` means the same
run. Where a forced fork takes the place of a run that is there, nothing of it is overwritten: the model goes on as a new run with the
key ``my-model:2``, and the run of before stays what it was. So the model is the run with the highest number.
"""

from __future__ import annotations

from typing import NamedTuple

from runtree.errors import Invalid
from runtree.store import Store
from runtree.stored import StoredRun

#: Begins the tag of a run that was pulled although a run of its key was here.
COPY = "copy from "


class Standing(NamedTuple):
    """What there is of a model."""

    run: StoredRun | None
    """Its run; None if there is none, or it was deleted."""
    key: str
    """The key of its run, or of the one to be made."""
    next_key: str
    """The key of a run that takes its place."""


def find(store: Store | None, project: str, name: str) -> Standing:
    """What a store has of a model.

    Raises:
        Invalid: Several runs have its key, as after pulls from several stores, and nothing says which is meant.
    """
    if store is None:
        return Standing(None, name, name)
    found: dict[int, list[StoredRun]] = {}
    for run in store.runs(f"key ~ {_quoted(name)}", project=project, deleted=True):
        number = _number(run.key or "", name)
        if number is not None:
            found.setdefault(number, []).append(run)
    if not found:
        return Standing(None, name, name)
    newest = max(found)
    key, next_key = _key(name, newest), _key(name, newest + 1)
    alive = [run for run in found[newest] if not _is_deleted(run)]
    if not alive:
        return Standing(None, next_key, next_key)
    own = [run for run in alive if not any(tag.startswith(COPY) for tag in run.tags)] or alive
    if len(own) > 1:
        told = ", ".join(run.display_id for run in own)
        raise Invalid(
            f"runs {told} of project {project!r} all have the key {key!r}",
            hint="delete those that are not meant: runtree delete " + own[-1].display_id,
        )
    return Standing(own[0], key, next_key)


def find_source(store: Store, project: str, name: str) -> StoredRun | None:
    """The run that is meant where a model is forked: of that key, else the newest run of that name."""
    by_key = find(store, project, name).run
    if by_key is not None:
        return by_key
    runs = store.runs(f"name = {_quoted(name)}", project=project)
    # What was imported on the way of another fork holds the checkpoints that were asked for then, not those there are.
    return next((run for run in runs if run.name == name and ":" not in (run.key or "")), None)


def names(store: Store, project: str) -> list[str]:
    """Some models of a project, newest first."""
    runs = store.runs(project=project, limit=12)
    return list(dict.fromkeys(run.key or run.name for run in runs if ":" not in (run.key or "")))


def _key(name: str, number: int) -> str:
    return name if number == 1 else f"{name}:{number}"


def _number(key: str, name: str) -> int | None:
    """Which of a model's runs a key is: 1 for its name alone; None if it is another model's."""
    if key == name:
        return 1
    start, _, rest = key.rpartition(":")
    is_number = start == name and rest.isascii() and rest.isdigit() and len(rest) < 10 and int(rest) > 1
    return int(rest) if is_number and str(int(rest)) == rest else None


def _is_deleted(run: StoredRun) -> bool:
    return bool(run._summary()["deleted"])  # pyright: ignore[reportPrivateUsage]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
