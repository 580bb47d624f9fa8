"""What is refused: a value that a class does not take, a configuration file that can not be loaded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtree.errors import Invalid


@dataclass(frozen=True)
class Problem:
    """One value that is not taken: of which kind, where and why, in pydantic's words."""

    type: str
    loc: tuple[str | int, ...]
    msg: str
    input: Any

    def below(self, *place: str | int) -> Problem:
        """The same problem, seen from what holds the value."""
        return replace(self, loc=(*place, *self.loc))

    def __str__(self) -> str:
        where = ".".join(str(part) for part in self.loc)
        # The value itself may be a secret.
        said = f" (it is {_article(type(self.input).__name__)})" if self.type.endswith("_type") else ""
        return f"{where}: {self.msg}{said}" if where else f"{self.msg}{said}"


class Refused(Exception):
    """The problems of a value, on their way to the class that is made."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = list(problems)


class ValidationError(Invalid):
    """A class does not take what it is given; all that is wrong is in :meth:`errors`.

    A ``ValueError``, like pydantic's, with the same kinds, places and words.
    """

    def __init__(self, title: str, problems: Sequence[Problem], fields: Iterable[str] = ()) -> None:
        super().__init__(
            f"{title}: " + "; ".join(str(problem) for problem in problems), hint=_meant(problems, list(fields))
        )
        self.title = title
        self.problems = list(problems)

    def errors(self) -> list[dict[str, Any]]:
        """What is wrong: ``type``, ``loc``, ``msg`` and ``input`` of each."""
        return [{"type": each.type, "loc": each.loc, "msg": each.msg, "input": each.input} for each in self.problems]

    def error_count(self) -> int:
        """How many things are wrong."""
        return len(self.problems)


class ConfigError(Invalid):
    """A configuration file can not be loaded; the message begins with the file and the line."""


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if name != "NoneType" else "None"


def _meant(problems: Sequence[Problem], fields: list[str]) -> str | None:
    for problem in problems:
        if problem.type == "extra_forbidden" and len(problem.loc) == 1:
            close = difflib.get_close_matches(str(problem.loc[0]), fields, n=1)
            return f"did you mean {close[0]}?" if close else f"there are {', '.join(fields)}"
    return None
