"""Leaves of state trees that need more than a constructor: long ints, named tuples, enums.

A class is only ever looked up among what the program has imported itself: a checkpoint must not be able to run code.
"""

from __future__ import annotations

import builtins
import enum
import keyword
import sys
from typing import Any, cast

from runtree import _warn

# Digits that CPython converts without a limit of its own (PEP 0: sys.int_info.default_max_str_digits is 4300).
_DIGITS = 4000
_CHUNK = 10**_DIGITS


def decimal(value: int) -> str:
    """The digits of an int of any size."""
    if value < 0:
        return "-" + decimal(-value)
    parts: list[str] = []
    while value >= _CHUNK:
        value, rest = divmod(value, _CHUNK)
        parts.append(str(rest).zfill(_DIGITS))
    parts.append(str(value))
    return "".join(reversed(parts))


def integer(digits: str) -> int:
    """The int that :func:`decimal` wrote."""
    if digits.startswith("-"):
        return -integer(digits[1:])
    head = len(digits) % _DIGITS
    value = int(digits[:head] or "0")
    for at in range(head, len(digits), _DIGITS):
        value = value * _CHUNK + int(digits[at : at + _DIGITS])
    return value


def _find_class(name: str) -> Any:
    """The class ``module:qualname``, if the program has imported it. ``vars`` alone: no module's ``__getattr__`` runs."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        names: dict[str, Any] = getattr(found, "__dict__", {})
        found = names.get(part)
    return found if isinstance(found, type) else None


def named_tuple(name: str, fields: list[str], values: tuple[Any, ...]) -> Any:
    """A named tuple of the class it was saved from; of a class like it, if the program does not have that one."""
    cls: Any = _find_class(name)
    make: Any = getattr(tuple, "__new__")  # noqa: B009 (untyped on purpose)
    if cls is not None and issubclass(cls, tuple) and getattr(cast("Any", cls), "_fields", None) == tuple(fields):
        return make(cls, values)
    from collections import namedtuple

    title = name.rpartition(".")[2].rpartition(":")[2]
    # Only identifiers become names of the new class: `rename` replaces what is none.
    title = title if title.isidentifier() and not keyword.iskeyword(title) else "NamedTuple"
    like: Any = namedtuple(title, fields, rename=True)  # type: ignore[misc]
    return make(like, values)


def enumeration(class_name: str, name: str, value: int | str) -> Any:
    """An enum member; its value, with a warning, if the program does not have its class."""
    cls: Any = _find_class(class_name)
    if cls is not None and issubclass(cls, enum.Enum):
        members: dict[str, Any] = dict(cls.__members__)
        member = members.get(name)
        if member is not None and member.value == value:
            return member
        for member in members.values():
            if member.value == value:
                return member
        if issubclass(cls, enum.Flag) and isinstance(value, int):
            return cls(value)
    _warn.once(
        f"enum {class_name}", f"{class_name} is not imported here, or has no {name}: its value {value!r} is loaded"
    )
    return value


def factory(name: str) -> Any:
    """The factory of a defaultdict."""
    if name not in ("int", "float", "str", "bool", "list", "dict", "set", "tuple"):
        return None
    return getattr(builtins, name)
