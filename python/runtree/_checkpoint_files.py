"""What flags and TOML files say of checkpoints, as one tree: ``ckpt`` and ``resume``, at the root and below each component."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

from runtree import _checkpoint_rules as rules
from runtree._checkpoint_rules import Namer, Problem, Said
from runtree.errors import Invalid, NotFound

#: The new spelling, and what the block calls it.
RESUME = {"step": "resume_step", "dir": "resume_dir"}


class Setting(NamedTuple):
    """What a flag or a file says."""

    path: tuple[str, ...]
    value: Any
    is_file: bool
    flag: str


def load(path: Path) -> dict[str, Any]:
    """A TOML file as a dict.

    Raises:
        NotFound: There is none.
        Invalid: It can not be read as TOML.
    """
    toml = _toml()
    if toml is None:
        raise Invalid(f"reading {path} needs Python 3.11 or tomli", hint="pip install tomli")
    if not path.name:
        raise Invalid("@ is followed by a TOML file", hint="@ train.toml")
    try:
        settings: dict[str, Any] = toml.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no file {path}", hint="it is looked for from the working directory") from None
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} is not a TOML file: {error}") from None
    if "toml_files" in settings:
        raise Invalid(
            f"{path} names other files in toml_files, which are not read",
            hint="@ base.toml @ train.toml, in that order",
        )
    return settings


def _toml() -> Any:
    """What reads TOML: of Python from 3.11 on."""
    for name in ("tomllib", "tomli"):
        with contextlib.suppress(ModuleNotFoundError):
            return import_module(name)
    return None


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        here = merged.get(key)
        both = isinstance(here, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(cast("Mapping[str, Any]", here), cast("Mapping[str, Any]", value)) if both else value
    return merged


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return cast("dict[str, Any]", value)


def tree_of(settings: Iterable[Setting]) -> dict[str, Any]:
    """All settings in one: files first, a later one over an earlier one, then the flags."""
    kept = list(settings)
    tree: dict[str, Any] = {}
    for each in [each for each in kept if each.is_file] + [each for each in kept if not each.is_file]:
        tree = _merge(tree, _spelled(_nested(each.path, each.value)))
    return tree


def _spelled(tree: Mapping[str, Any]) -> dict[str, Any]:
    """``keep-last`` and ``keep_last`` of a block are one setting."""
    spelled: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            below = cast("Mapping[str, Any]", value)
            value = {each.replace("-", "_"): below[each] for each in below} if key == "ckpt" else _spelled(below)
        spelled[key] = value
    return spelled


def others(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What is not of checkpoints."""
    return {key: others(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
            for key, value in tree.items() if key not in ("ckpt", "resume")}  # fmt: skip


def said_at(level: Mapping[str, Any], name: Namer) -> tuple[Said, list[Problem]]:
    """What ``ckpt`` and ``resume`` of one level say, and what is wrong."""
    there, resume = level.get("ckpt", ...), None if level.get("no-resume") else level.get("resume")
    problems: list[Problem] = []
    fields: dict[str, Any] = {}
    if isinstance(there, Mapping):
        fields, problems = rules.read(cast("Mapping[str, Any]", there), name)
    elif there not in (..., None, "None", False):
        problems.append(
            Problem(f"{name('')} {there!r} is not a table of settings", '[ckpt] with settings below, or "None"')
        )
    if isinstance(resume, Mapping):
        given = {str(key): value for key, value in cast("Mapping[Any, Any]", resume).items()}
        unknown = [key for key in given if key not in RESUME]
        problems += [Problem(f"resume.{key} is no setting", "there are resume.step and resume.dir") for key in unknown]
        new, wrong = rules.read({RESUME[key]: value for key, value in given.items() if key in RESUME}, name)
        problems += wrong
        new = {key: value for key, value in new.items() if value is not None} or {"resume_step": -1}
        old = fields.get("resume_step")
        if old is not None and new != {"resume_step": old} and not wrong:
            where = "the newest checkpoint" if new.get("resume_step") == -1 else next(map(str, new.values()))
            problems.append(Problem(f"{name('resume_step')} {old} and --resume ({where}) differ", "give one of them"))
        fields = {**fields, **new}
    elif resume not in (None, "None", False):
        problems.append(Problem(f"resume {resume!r} is not a table of settings", "[resume] with step or dir below it"))
    if level.get("no-resume"):
        fields = {field: value for field, value in fields.items() if field not in RESUME.values()}
    is_on = False if level.get("no-ckpt") else None if there is ... else isinstance(there, Mapping)
    return Said(fields, is_on), problems


def contradictions(settings: Iterable[Setting]) -> Iterable[Problem]:
    """Flags that turn off what other flags ask for. What a file asks for may be turned off."""
    flags = [each for each in settings if not each.is_file]
    for off in flags:
        *above, last = off.path
        if not last.startswith("no-"):
            continue
        what = last.removeprefix("no-")
        for each in flags:
            # The old spelling of a resume is one of the block's.
            path = (*each.path[:-2], "resume") if each.path[-1] in RESUME.values() and what == "resume" else each.path
            place = path.index(what) if what in path else None
            if place is None or (above and list(path[:place]) != above):
                continue
            below = path[place + 1 :]
            # Without a block one may still say what a resume leaves out.
            if what == "resume" or not below or (below[0] in rules.WRITING and each.value is not False):
                yield Problem(f"{off.flag} and {each.flag} contradict each other", "leave one out")
