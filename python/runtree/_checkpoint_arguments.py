"""The command line of a trainer: ``--ckpt``, ``--ckpt.interval 10``, ``--trainer @ train.toml``, ``--resume``, with ``argparse``.

Flags and files are kept in their order and become one tree when the block is asked for: files first, a later one over an earlier one,
then the flags. So a file behind a flag does not override it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from runtree import _checkpoint_rules as rules
from runtree._checkpoint_files import RESUME, Setting, contradictions, load, others, said_at, tree_of
from runtree._checkpoint_rules import Said
from runtree.errors import Error, Invalid

if TYPE_CHECKING:
    from runtree.checkpoint_config import CheckpointConfig

_DEST = "checkpoint_settings"
_COMPONENTS = "checkpoint_components"
_ROOT = "--settings-file"


class TrainerArguments(NamedTuple):
    """What :meth:`CheckpointConfig.parse` finds on a command line."""

    #: The block; None if there is none.
    config: CheckpointConfig | None
    #: What else is in the files.
    settings: dict[str, Any]
    #: Arguments that are not of checkpoints, in their order.
    rest: list[str]


# ---- Flags.


def add(parser: argparse.ArgumentParser, components: tuple[str, ...]) -> None:
    """Adds the flags; see :meth:`CheckpointConfig.add_arguments`."""
    if "@" in (parser.fromfile_prefix_chars or ""):
        raise Invalid("fromfile_prefix_chars='@' and '@ FILE' are two meanings of one sign", hint="take another sign")
    for component in components:
        if not component.isidentifier() or component in ("ckpt", "resume", "settings"):
            raise Invalid(f"component {component!r} is not a name that a flag can have", hint="like 'trainer'")
    parser.set_defaults(**{_DEST: (), _COMPONENTS: components, "settings": {}}, **{each: {} for each in components})
    group = parser.add_argument_group("checkpoints", "without --ckpt nothing is written")
    _add_block(group, ())
    group.add_argument(_ROOT, nargs=1, action=_File, path=(), help=argparse.SUPPRESS)
    for component in components:
        group.add_argument(f"--{component}", nargs="+", action=_File, path=(component,), metavar="@ FILE",
                           help=f"TOML files of the {component}; a later one overrides an earlier one")  # fmt: skip
        _add_block(group, (component,))
    parse = parser.parse_known_args

    def parse_known_args(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        return parse(_name_root_files(sys.argv[1:] if args is None else args), namespace)

    # argparse has no option that begins with another sign than "-": a bare `@ FILE` is given the name of one.
    parser.parse_known_args = parse_known_args  # type: ignore[method-assign, assignment]


def _add_block(group: Any, above: tuple[str, ...]) -> None:
    # Of components the help has one line each: they have the same flags as all together.
    hidden = argparse.SUPPRESS
    whose = f" of the {above[0]} alone, with the same settings below" if above else ""

    def option(action: type[argparse.Action], *path: str, help: str = hidden, no: bool = False, **more: Any) -> None:
        name = ".".join((*above, *path))
        # Both spellings, keep-last and keep_last; the help has the first.
        for position, each in enumerate(dict.fromkeys((name.replace("_", "-"), name))):
            shown = help if position == 0 and (not above or (path == ("ckpt",) and not no)) else hidden
            group.add_argument(
                f"--{'no-' if no else ''}{each}", action=action, path=(*above, *path), help=shown, **more
            )

    write = f"write checkpoints{whose or ': the final one alone, unless there is an interval'}"
    option(_File, "ckpt", nargs="*", metavar="@ FILE", help=write)
    option(_Off, "ckpt", no=True, nargs=0, help="write none, whatever a file says")
    for field in (each for each in rules.FIELDS if each != "resume_dir"):
        if field in rules.FLAGS:
            option(_Value, "ckpt", field, nargs=0, const=True, help=_HELP[field])
            option(_Value, "ckpt", field, no=True, nargs=0, const=False)
        else:
            option(_Value, "ckpt", field, metavar="DIR" if field in rules.PATHS else "N", help=_HELP[field])
    option(_File, "resume", nargs="*", metavar="@ FILE", help="go on from the newest whole checkpoint")
    option(_Off, "resume", no=True, nargs=0)
    option(_Value, "resume", "step", metavar="N", help=_HELP["resume_step"])
    option(_Value, "resume", "dir", metavar="DIR", help=_HELP["resume_dir"])


# As the class says it, in the words of a command line.
_HELP = {
    "interval": "save after every N steps, too",
    "save_async": "go on training while a checkpoint is being written",
    "keep_last": "keep the newest N checkpoints; all unless given",
    "keep_interval": "keep those at multiples of N for good, besides the newest",
    "resume_step": "go on from the checkpoint at step N; -1: from the newest whole one",
    "resume_dir": "go on from another run's checkpoint: .../step_<N> that --ckpt.output-dir wrote",
    "output_dir": "write every checkpoint as plain files besides: DIR/checkpoints/step_<N>/",
    "skip_progress": "do not restore the progress (step, samples, tokens)",
    "skip_scheduler": "do not restore the scheduler",
    "skip_dataloader": "do not restore the place in the data",
    "skip_optimizer": "do not restore the optimizer",
}


class _Kept(argparse.Action):
    """An option that adds to what is kept in its order."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, path: tuple[str, ...], **more: Any) -> None:
        kept: dict[str, Any] = {**more, "default": argparse.SUPPRESS}
        super().__init__(option_strings, _DEST, **kept)
        self._path = path

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        kept = [*getattr(namespace, _DEST, ())]
        try:
            kept += self.settings(values, option_string or self.option_strings[0])
        except Error as error:
            raise argparse.ArgumentError(self, f"{error.message}{f' ({error.hint})' if error.hint else ''}") from None
        setattr(namespace, _DEST, tuple(kept))
        _show_files(namespace, kept)

    def settings(self, values: Any, flag: str) -> Iterable[Setting]:
        """What the option says."""
        raise NotImplementedError


class _Value(_Kept):
    """``--ckpt.interval 10``, ``--ckpt.save-async``."""

    def settings(self, values: Any, flag: str) -> Iterable[Setting]:
        yield Setting(self._path, self.const if self.nargs == 0 else values, False, flag)


class _Off(_Kept):
    """``--no-ckpt``."""

    def settings(self, values: Any, flag: str) -> Iterable[Setting]:
        yield Setting((*self._path[:-1], f"no-{self._path[-1]}"), True, False, flag)


class _File(_Kept):
    """``--ckpt``, ``--ckpt @ FILE``, ``--trainer @ FILE``: the flag, and the files behind it."""

    def settings(self, values: Any, flag: str) -> Iterable[Setting]:
        if self._path and self._path[-1] in ("ckpt", "resume"):
            yield Setting(self._path, {}, False, flag)
        for path in values if flag == _ROOT else _files_in(values):
            yield Setting(self._path, load(Path(path)), True, f"{flag.replace(_ROOT, '')} @ {path}".strip())


def _files_in(values: Sequence[str]) -> Iterable[str]:
    """The files of ``@ a.toml @b.toml``."""
    rest = list(values)
    while rest:
        sign = rest.pop(0)
        path = sign[1:] or (rest.pop(0) if rest else "")
        if not sign.startswith("@") or not path:
            raise Invalid(f"{sign!r} is not what follows", hint="@ FILE, or the next flag; other arguments go first")
        yield path


def _name_root_files(args: Sequence[str]) -> list[str]:
    named: list[str] = []
    rest = list(args)
    while rest:
        each = rest.pop(0)
        before = named[-1] if named else ""
        if each == "--":
            return [*named, each, *rest]
        # Behind a flag the file is the flag's.
        if each.startswith("@") and not _takes_files(named, before):
            path = each[1:] or (rest.pop(0) if rest else "")
            named.append(f"{_ROOT}={path}")
        else:
            named.append(each)
    return named


def _takes_files(named: Sequence[str], before: str) -> bool:
    """Whether what comes next belongs to a flag: ``--trainer``, ``--trainer @ a.toml``."""
    if before == "@" or (before.startswith("--") and "=" not in before):
        return True
    at = next((place for place in range(len(named) - 1, -1, -1) if named[place].startswith("--")), None)
    return at is not None and any(each.startswith("@") for each in named[at + 1 : at + 2])


def _show_files(namespace: argparse.Namespace, kept: Sequence[Setting]) -> None:
    """What else is in the files, for the program."""
    tree = tree_of(each for each in kept if each.is_file)
    components: tuple[str, ...] = getattr(namespace, _COMPONENTS, ())
    namespace.settings = others({key: value for key, value in tree.items() if key not in components})
    for component in components:
        own = tree.get(component)
        setattr(namespace, component, others(cast("dict[str, Any]", own)) if isinstance(own, dict) else {})


# ---- Blocks.


def block_of(args: argparse.Namespace, component: str | None) -> dict[str, Any] | None:
    """The fields of a block; see :meth:`CheckpointConfig.from_arguments`."""
    components: tuple[str, ...] | None = getattr(args, _COMPONENTS, None)
    if components is None:
        raise Invalid("the arguments have no flags of checkpoints", hint="CheckpointConfig.add_arguments(parser) first")
    if component not in (components or (None,)):
        named = ", ".join(map(repr, components)) or "none: leave it out"
        raise Invalid(f"component {component!r} is not one of those the parser was told", hint=f"there are {named}")
    settings: tuple[Setting, ...] = getattr(args, _DEST, ())
    tree = tree_of(settings)
    problems = list(contradictions(settings))

    def name(whose: str, field: str) -> str:
        new = {old: f"resume.{new}" for new, old in RESUME.items()}
        own = new["resume_dir"] if field == "resume_dir" else ".".join(each for each in ("ckpt", field) if each)
        return f"--{'.'.join(each for each in (whose, own) if each)}".replace("_", "-")

    def said(whose: str, level: Mapping[str, Any]) -> Said:
        found, wrong = said_at(level, lambda field: name(whose, field))
        problems.extend(wrong)
        return found

    above = {"no-resume": True} if tree.get("no-resume") else {}
    shared = said("", tree)
    if not components:
        rules.refuse(problems, "the command line")
        return rules.block(shared)
    own = {each: said(each, _below(tree, each, above)) for each in components}
    blocks, conflicts = rules.share(shared, own, name)
    rules.refuse([*problems, *conflicts], "the command line")
    return blocks[cast("str", component)]


def _below(tree: Mapping[str, Any], component: str, above: Mapping[str, Any]) -> dict[str, Any]:
    level = tree.get(component)
    return {**cast("dict[str, Any]", level), **above} if isinstance(level, dict) else dict(above)


# ---- Without a parser of the program's.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Invalid(message)


def split(argv: Sequence[str] | None, components: tuple[str, ...]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of checkpoints of a command line, parsed, and the rest of it."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    add(parser, components)
    return parser.parse_known_args(argv)


def flags_of(said: Mapping[str, Any], component: str) -> list[str]:
    """Flags that say what differs from the defaults."""
    above = f"{component}." if component else ""
    fields = dict(said)
    flags = [f"--no-{above}ckpt" if fields.pop("load_only", False) else f"--{above}ckpt"]
    resume = {name: fields.pop(field) for name, field in RESUME.items() if field in fields}
    for field, value in fields.items():
        flag = f"--{above}ckpt.{field.replace('_', '-')}"
        flags += [flag] if value is True else [f"{flag}={value}"]
    return flags + [f"--{above}resume.{name}={value}" for name, value in resume.items()]
