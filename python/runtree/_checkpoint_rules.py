"""What a checkpoint block may say: values as texts and files have them, every problem at once, blocks that several share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from runtree.errors import Invalid

#: How a field is called where the user wrote it: ``interval``, ``--ckpt.interval``.
Namer: TypeAlias = "Callable[[str], str]"

COUNTS = {
    "interval": "leave it out for the final checkpoint alone",
    "keep_last": "leave it out to keep all",
    "keep_interval": "leave it out to keep none for that",
}
FLAGS = ("save_async", "skip_progress", "skip_scheduler", "skip_dataloader", "skip_optimizer")
PATHS = ("output_dir", "resume_dir")
#: What a file or a command line may say. `load_only` follows from what else is said.
FIELDS = (*COUNTS, "resume_step", *PATHS, *FLAGS)
_SWITCHES = (*FLAGS, "load_only")
#: What means nothing where no checkpoint is written.
WRITING = ("interval", "save_async", "keep_last", "keep_interval", "output_dir")
# What processes that make one checkpoint together must agree on.
_EQUAL = ("interval", "resume_step", "resume_dir")
# What is of the whole checkpoint: said by one, it counts for all.
_COMMON = ("keep_last", "keep_interval", "output_dir")
_LARGEST = 2**32
_STEP_DIR = re.compile(r"step_(\d+)", re.ASCII)


class Problem(NamedTuple):
    """Something that can not be meant, and what to do about it."""

    what: str
    remedy: str


class Said(NamedTuple):
    """What was said of a block, and not what its defaults are."""

    fields: dict[str, Any]
    #: Whether there is a block: True, False (``--no-ckpt``), None if nothing was said.
    is_on: bool | None

    @property
    def resumes(self) -> bool:
        """Whether it says where to go on."""
        return self.fields.get("resume_step") is not None or self.fields.get("resume_dir") is not None


def refuse(problems: Sequence[Problem], where: str = "the checkpoint block") -> None:
    """Raises ``Invalid`` with all problems, if there are any."""
    found = list(dict.fromkeys(problems))
    if len(found) == 1:
        raise Invalid(found[0].what, hint=found[0].remedy)
    if found:
        lines = "".join(f"\n  {problem.what}: {problem.remedy}" for problem in found)
        raise Invalid(f"{len(found)} problems in {where}:{lines}")


def plain(name: str) -> str:
    """A field as Python calls it."""
    return name


def read(given: Mapping[Any, Any], name: Namer = plain) -> tuple[dict[str, Any], list[Problem]]:
    """The fields of a block from a file or a command line, where numbers may be texts and ``"None"`` is None, and what is wrong."""
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in given.items():
        field = str(key).replace("-", "_")
        if field not in FIELDS and not (field == "load_only" and name is plain):
            near = difflib.get_close_matches(field, FIELDS, 1)
            remedy = f"did you mean {name(near[0])}?" if near else "there are " + ", ".join(map(name, FIELDS))
            problems.append(Problem(f"{name(field)} is no setting of checkpoints", remedy))
        elif field in fields:
            problems.append(Problem(f"{name(field)} is given in two spellings", "leave one out"))
        else:
            fields[field] = _converted(field, value)
    return fields, problems + check(fields, name)


def _converted(field: str, value: Any) -> Any:
    """A value as its field has it, or as it was: then :func:`check` says what is wrong."""
    if value == "None":
        return False if field in _SWITCHES else None
    if isinstance(value, str):
        if field in _SWITCHES and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if field in (*COUNTS, "resume_step") and re.fullmatch(r"[+-]?\d{1,19}", value, re.ASCII):
            return int(value)
        if field in PATHS and value:
            return Path(value)
    return value


def check(fields: Mapping[str, Any], name: Namer = plain) -> list[Problem]:
    """Everything that is wrong with the fields of one block."""
    problems = [problem for field, value in fields.items() for problem in _check_field(field, value, name(field))]
    problems += _two_resumes(fields, name)
    wrong = {field for field in fields if list(_check_field(field, fields[field], field))}
    for field in WRITING if fields.get("load_only") is True else ():
        if not fields.get(field) or field in wrong:
            continue
        problems.append(
            Problem(
                f"{name(field)} {fields[field]} is of checkpoints that are not written", "add --ckpt, or leave it out"
            )
        )
    return problems


def _two_resumes(fields: Mapping[str, Any], name: Namer) -> Iterable[Problem]:
    step, directory = fields.get("resume_step"), fields.get("resume_dir")
    if step is not None and directory is not None:
        by_step, by_dir = name("resume_step"), name("resume_dir")
        yield Problem(
            f"{by_step} {step} and {by_dir} {directory} both say where to go on",
            f"{by_step} goes on with this run, {by_dir} with another's checkpoint: leave one out",
        )


def _check_field(field: str, value: Any, called: str) -> Iterable[Problem]:
    if field in _SWITCHES:
        if not isinstance(value, bool):
            yield Problem(f"{called} {value!r} is neither true nor false", "it is off unless given")
    elif value is None:
        return
    elif field in PATHS:
        if not isinstance(value, Path) or value == Path():
            yield Problem(f"{called} {value!r} is not a directory", "give its path")
        elif field == "resume_dir" and step_of(value) is None:
            yield Problem(
                f"{called} {value} is not called step_<N>", "name one checkpoint, like outputs/checkpoints/step_20"
            )
    elif isinstance(value, bool) or not isinstance(value, int):
        yield Problem(f"{called} {value!r} is not a whole number", COUNTS.get(field, "-1 is the newest checkpoint"))
    elif field == "resume_step":
        if not -1 <= value < 2**63:
            yield Problem(f"{called} {value} is not a step", "-1 is the newest checkpoint, 0 and above a step")
    elif not 0 < value < _LARGEST:
        yield Problem(f"{called} {value} is {'less than 1' if value < 1 else 'too large'}", COUNTS[field])


def step_of(directory: Path) -> int | None:
    """The step that a directory ``…/step_<N>`` is named after."""
    named = _STEP_DIR.fullmatch(directory.name)
    return None if named is None else int(named[1])


# ---- Several that make one checkpoint together.


def share(
    shared: Said, own: Mapping[str, Said], name: Callable[[str, str], str]
) -> tuple[dict[str, dict[str, Any] | None], list[Problem]]:
    """The fields of every component's block (None: there is none), of what all were told and what each was.

    ``name(component, field)`` is how a field is called; the component ``""`` is what all were told.
    """
    problems: list[Problem] = []
    told: set[str] = set()
    merged: dict[str, Said] = {}
    for component, said in own.items():
        for field in sorted(said.fields.keys() & shared.fields.keys()):
            here, there = shared.fields[field], said.fields[field]
            if here != there:
                what = f"{name('', field)} is {here}, {name(component, field)} {there}"
                problems.append(Problem(what, "give it once, or twice the same"))
                told.add(field)
        both = {**shared.fields, **said.fields}
        if not any({"resume_step", "resume_dir"} <= each.fields.keys() for each in (shared, said)):
            whose = {field: component if field in said.fields else "" for field in both}

            def called(field: str, whose: Mapping[str, str] = whose) -> str:
                return name(whose[field], field)

            problems += _two_resumes(both, called)
        # What all were told not to do, nobody does.
        is_on = False if shared.is_on is False else shared.is_on if said.is_on is None else said.is_on
        merged[component] = Said(both, is_on)
    problems += _differences(merged, name, told)
    for field in _COMMON:
        values = [said.fields[field] for said in merged.values() if said.fields.get(field) is not None]
        if values:
            merged = {each: Said({**said.fields, field: values[0]}, said.is_on) for each, said in merged.items()}
    return {component: block(said) for component, said in merged.items()}, problems


def block(said: Said) -> dict[str, Any] | None:
    """The fields of a block, None if there is none. Without a block nothing is written, but a run may still go on from somewhere."""
    if said.is_on:
        return dict(said.fields)
    if not said.resumes:
        return None
    kept = {field: value for field, value in said.fields.items() if field not in WRITING}
    return {**kept, "load_only": True}


def _differences(merged: Mapping[str, Said], name: Callable[[str, str], str], told: set[str]) -> Iterable[Problem]:
    if not merged:
        return
    first, *others = merged
    on = [component for component in merged if merged[component].is_on]
    for component in merged:
        if on and component not in on:
            yield Problem(
                f"{on[0]} writes checkpoints and {component} does not, so none would be whole",
                f"{name('', '')} for both, or none for {on[0]}",
            )
    for other in others:
        for field in (*_EQUAL, *_COMMON):
            here, there = merged[first].fields.get(field), merged[other].fields.get(field)
            if field in told or here == there or (field in _COMMON and (here is None or there is None)):
                continue
            if field == "interval" and not (merged[first].is_on and merged[other].is_on):
                continue
            yield Problem(
                f"{name(first, field)} is {here}, {name(other, field)} {there}",
                f"a checkpoint is of both: give {name('', field)} once for both",
            )
