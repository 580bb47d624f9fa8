"""From the annotation of a field to the check of its values.

What pydantic does for the types that occur in these classes, and no other: ``str``, ``int``, ``bool``, enums, ``Literal``,
``list``, ``dict``, unions, models, and constraints in ``Annotated``. A check returns the value, converted where the class is lax,
or raises :class:`Refused`.
"""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from runtree.compat.truss_train.errors import Problem, Refused, ValidationError

#: A value, and whether it must have the type already.
Check = Callable[[Any, bool], Any]

_WHOLE = re.compile(r"\s*[+-]?\d+(_\d+)*(\.0*)?\s*")


@dataclass(frozen=True)
class MinLength:
    """A text has at least so many characters."""

    characters: int

    def __call__(self, value: Any) -> Any:
        """Refuses a shorter one."""
        if len(value) < self.characters:
            unit = "character" if self.characters == 1 else "characters"
            raise refused("string_too_short", f"String should have at least {self.characters} {unit}", value)
        return value


@dataclass(frozen=True)
class AtLeast:
    """A number is not smaller."""

    least: int

    def __call__(self, value: Any) -> Any:
        """Refuses a smaller one."""
        if value < self.least:
            raise refused("greater_than_equal", f"Input should be greater than or equal to {self.least}", value)
        return value


@dataclass(frozen=True)
class Before:
    """What is done to a value before it is checked."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class Also:
    """What is asked of a value that is of its type; a ``ValueError`` refuses it."""

    function: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        """What the function returns."""
        return saying(self.function, value)


def refused(kind: str, message: str, value: Any) -> Refused:
    """One value that is not taken."""
    return Refused([Problem(kind, (), message, value)])


def saying(function: Callable[..., Any], value: Any) -> Any:
    """Calls what says with a ``ValueError`` that it refuses the value."""
    try:
        return function(value)
    except ValidationError as error:
        raise Refused(error.problems) from error
    except ValueError as error:
        raise refused("value_error", f"Value error, {error}", value) from error


def check_of(annotation: Any) -> Check:
    """The check of a resolved annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:])
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is list:
        return _list(check_of(arguments[0]))
    if origin is dict:
        return _dict(check_of(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum(annotation)
    model: Check | None = getattr(cast("Any", annotation), "_taken", None)
    if model is not None:
        return model
    return {str: _text, int: _number, bool: _truth}[annotation]


def _text(value: Any, strict: bool) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    if not strict and isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise refused(
                "string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string", value
            ) from None
    raise refused("string_type", "Input should be a valid string", value)


def _number(value: Any, strict: bool) -> int:
    if isinstance(value, int) and not (strict and isinstance(value, bool)):
        return int(value)
    if not strict and isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise refused("int_from_float", "Input should be a valid integer, got a number with a fractional part", value)
    if not strict and isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode(errors="replace")
        if _WHOLE.fullmatch(text):
            return int(text.strip().split(".")[0])
        raise refused("int_parsing", "Input should be a valid integer, unable to parse string as an integer", value)
    raise refused("int_type", "Input should be a valid integer", value)


def _truth(value: Any, strict: bool) -> bool:
    del strict  # The lax classes have no field of this type.
    if isinstance(value, bool):
        return value
    raise refused("bool_type", "Input should be a valid boolean", value)


def _enum(members: type[enum.Enum]) -> Check:
    def check(value: Any, strict: bool) -> Any:
        if isinstance(value, members):
            return value
        if strict:
            raise refused("is_instance_of", f"Input should be an instance of {members.__name__}", value)
        for member in members:
            if member.value == value:
                return member
        raise refused("enum", f"Input should be {_either([each.value for each in members])}", value)

    return check


def _literal(values: Sequence[Any]) -> Check:
    def check(value: Any, strict: bool) -> Any:
        del strict
        if value in values:
            return value
        raise refused("literal_error", f"Input should be {_either(values)}", value)

    return check


def _list(item: Check) -> Check:
    def check(value: Any, strict: bool) -> list[Any]:
        texts = isinstance(value, (str, bytes, bytearray, Mapping))
        if not isinstance(value, list) and (strict or texts or not isinstance(value, Iterable)):
            raise refused("list_type", "Input should be a valid list", value)
        taken: list[Any] = []
        problems: list[Problem] = []
        for at, each in enumerate(cast("Iterable[Any]", value)):
            try:
                taken.append(item(each, strict))
            except Refused as error:
                problems += [problem.below(at) for problem in error.problems]
        if problems:
            raise Refused(problems)
        return taken

    return check


def _dict(item: Check) -> Check:
    def check(value: Any, strict: bool) -> dict[str, Any]:
        if not isinstance(value, dict if strict else Mapping):
            raise refused("dict_type", "Input should be a valid dictionary", value)
        taken: dict[str, Any] = {}
        problems: list[Problem] = []
        for key, each in cast("Mapping[Any, Any]", value).items():
            for part, checked, place in ((key, _text, (key, "[key]")), (each, item, (key,))):
                try:
                    taken[key] = checked(part, strict)
                except Refused as error:
                    problems += [problem.below(*place) for problem in error.problems]
        if problems:
            raise Refused(problems)
        return taken

    return check


def _union(members: Sequence[Any]) -> Check:
    optional = type(None) in members
    others = [(getattr(each, "__name__", str(each)), check_of(each)) for each in members if each is not type(None)]

    def check(value: Any, strict: bool) -> Any:
        if optional and value is None:
            return None
        if len(others) == 1:
            return others[0][1](value, strict)
        problems: list[Problem] = []
        # The first that takes it: none of these unions has a value that two members take.
        for name, member in others:
            try:
                return member(value, strict)
            except Refused as error:
                problems += [problem.below(name) for problem in error.problems]
        raise Refused(problems)

    return check


def _annotated(inner: Any, marks: Sequence[Any]) -> Check:
    first = [mark.function for mark in marks if isinstance(mark, Before)]
    then = [mark for mark in marks if not isinstance(mark, Before)]
    typed = check_of(inner)

    def check(value: Any, strict: bool) -> Any:
        for function in first:
            value = function(value)
        value = typed(value, strict)
        for mark in then:
            value = mark(value)
        return value

    return check


def _either(values: Sequence[Any]) -> str:
    *most, last = [repr(value) for value in values]
    return f"{', '.join(most)} or {last}" if most else last
