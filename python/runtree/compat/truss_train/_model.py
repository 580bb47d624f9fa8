"""What the classes of a configuration are made of.

Not pydantic, which truss_train's classes are: ``pip install runtree`` brings no other package, and a configuration has to run where
nothing but runtree and the training code is installed. Two files of ours instead, which do of pydantic what these classes use:
strict and lax checks, forbidden extra fields, checks on assignment, ``model_dump`` and its like, the same kinds of errors. The tests
compare all of it with the real classes, value by value.
"""

from __future__ import annotations

import copy
import enum
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args, get_type_hints

from runtree.compat.truss_train._checks import Check, check_of, refused, saying
from runtree.compat.truss_train.errors import Problem, Refused, ValidationError

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[type], type]:
        """Says to type checkers how a class is constructed (in ``typing`` from Python 3.11 on)."""
        return lambda of: of


Mode = Literal["python", "json"]


@dataclass(frozen=True)
class Field:
    """One field of a class."""

    check: Check
    required: bool
    default: Callable[[], Any]
    exclude: bool
    # What a value is dumped as: a subclass loses what its base does not have.
    models: tuple[type[Model], ...]


@dataclass(frozen=True)
class _Specified:
    factory: Callable[[], Any] | None
    exclude: bool


@dataclass(frozen=True)
class _Dump:
    mode: Mode
    unset: bool
    defaults: bool
    none: bool
    include: Collection[str] | None = None
    exclude: Collection[str] = ()


def field(*, factory: Callable[[], Any] | None = None, exclude: bool = False) -> Any:
    """A default that each object has of its own; a field that is not dumped."""
    return _Specified(factory, exclude)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Model:
    """A class whose annotations say what it takes."""

    #: Whether values must have their types already.
    _strict: ClassVar[bool] = True
    #: Whether there may be fields that the class does not have.
    _extra: ClassVar[Literal["forbid", "allow"]] = "forbid"
    _fields: ClassVar[dict[str, Field]] = {}

    __slots__ = ("__dict__", "_given")
    __hash__ = None  # type: ignore[assignment]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        hints = get_type_hints(cls, include_extras=True)
        own = {name: hints[name] for name in inspect.get_annotations(cls) if not name.startswith("_")}
        cls._fields = {**cls._fields, **{name: _field(cls, name, hint) for name, hint in own.items()}}

    def __init__(self, /, **data: Any) -> None:
        try:
            self._fill(data, type(self)._strict)
        except Refused as error:
            raise ValidationError(type(self).__name__, error.problems, self._fields) from error.__cause__

    @classmethod
    def _before(cls, data: Any) -> Any:
        """What is done to all that is given, before it is checked."""
        return data

    def _after(self) -> None:
        """What is asked of the whole; a ``ValueError`` refuses it."""

    @classmethod
    def _taken(cls, value: Any, strict: bool) -> Self:
        """An object of what is given for one: itself, or a mapping of its fields."""
        if isinstance(value, cls):
            return value
        value = saying(cls._before, value)
        if not isinstance(value, dict):
            message = f"Input should be a valid dictionary or instance of {cls.__name__}"
            raise refused("model_type", message, value)
        made = cls.__new__(cls)
        # Strict is the class itself, not what holds it, except where all is to be lax.
        made._fill(cast("dict[str, Any]", value), strict and cls._strict, begun=True)
        return made

    def _fill(self, data: Mapping[Any, Any], strict: bool, *, begun: bool = False) -> None:
        if not begun:
            data = saying(self._before, dict(data))
        values: dict[str, Any] = {}
        problems: list[Problem] = []
        for name, of in self._fields.items():
            if name not in data:
                values[name] = None if of.required else of.default()
                if of.required:
                    problems.append(Problem("missing", (name,), "Field required", data))
                continue
            try:
                values[name] = of.check(data[name], strict)
            except Refused as error:
                problems += [problem.below(name) for problem in error.problems]
        for name in data:
            if not isinstance(name, str):
                problems.append(Problem("invalid_key", (name,), "Keys should be strings", name))
            elif name not in self._fields:
                values[name] = data[name]
                if self._extra == "forbid":
                    problems.append(Problem("extra_forbidden", (name,), "Extra inputs are not permitted", data[name]))
        if problems:
            raise Refused(problems)
        object.__setattr__(self, "_given", set(data))
        self.__dict__.update(values)
        saying(type(self)._after, self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_given":
            object.__setattr__(self, name, value)
            return
        old = dict(self.__dict__)
        try:
            if name in self._fields:
                value = self._fields[name].check(value, self._strict)
            elif self._extra == "forbid":
                raise refused("no_such_attribute", f"Object has no attribute {name!r}", value)
        except Refused as error:
            problems = [problem.below(name) for problem in error.problems]
            raise ValidationError(type(self).__name__, problems) from error.__cause__
        self.__dict__[name] = value
        try:
            saying(type(self)._after, self)
        except Refused as error:
            self.__dict__.clear()
            self.__dict__.update(old)
            raise ValidationError(type(self).__name__, error.problems) from error.__cause__
        self._given.add(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model) or type(self) is not type(other):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self.__dict__.items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._shown())})"

    def __str__(self) -> str:
        return " ".join(self._shown())

    def _shown(self) -> Iterator[str]:
        return (f"{name}={value!r}" for name, value in self.__dict__.items())

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that were given."""
        return self._given

    @classmethod
    def model_validate(cls, obj: Any, *, strict: bool | None = None) -> Self:
        """An object of a mapping of its fields; ``strict=False`` takes what is only like the types, as texts for enums."""
        try:
            return cls._taken(obj, strict is not False)
        except Refused as error:
            raise ValidationError(cls.__name__, error.problems, cls._fields) from error.__cause__

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced, which are not checked."""
        copied = copy.deepcopy(self) if deep else copy.copy(self)
        object.__setattr__(copied, "_given", {*self._given, *(update or {})})
        copied.__dict__.update(update or {})
        return copied

    def model_dump(
        self,
        *,
        mode: Mode = "python",
        include: Collection[str] | None = None,
        exclude: Collection[str] = (),
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
    ) -> Any:
        """The fields as a mapping, nested ones too; mode ``"json"`` has texts for enums."""
        return self._dumped(type(self), _Dump(mode, exclude_unset, exclude_defaults, exclude_none, include, exclude))

    def model_dump_json(self, *, indent: int | None = None, exclude_none: bool = False) -> str:
        """The fields as a JSON document."""
        dumped = self._dumped(type(self), _Dump("json", False, False, exclude_none))
        separators = (",", ":") if indent is None else (",", ": ")
        return json.dumps(dumped, indent=indent, separators=separators, ensure_ascii=False)

    def _dumped(self, declared: type[Model], how: _Dump) -> Any:
        dumped: dict[str, Any] = {}
        below = replace(how, include=None, exclude=())
        for name, value in self.__dict__.items():
            of = declared._fields.get(name)
            if of is None and name in self._fields:
                continue
            left_out = (
                (of is not None and of.exclude)
                or (how.include is not None and name not in how.include)
                or name in how.exclude
                or (how.unset and name not in self._given)
                or (how.none and value is None)
                or (how.defaults and of is not None and not of.required and value == of.default())
            )
            if not left_out:
                dumped[name] = _plain(value, of.models if of else (), below)
        return dumped


def _plain(value: Any, models: tuple[type[Model], ...], how: _Dump) -> Any:
    if isinstance(value, Model):
        return value._dumped(  # pyright: ignore[reportPrivateUsage]
            next((each for each in models if isinstance(value, each)), type(value)), how
        )
    if isinstance(value, enum.Enum):
        return value.value if how.mode == "json" else value
    if isinstance(value, list):
        return [_plain(each, models, how) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _plain(each, models, how) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _field(cls: type[Model], name: str, hint: Any) -> Field:
    given = cls.__dict__.get(name, ...)
    specified = given if isinstance(given, _Specified) else None
    if specified is not None:
        # An object has its own; a class that showed the specification would be misleading.
        delattr(cls, name)
    required = given is ... or (specified is not None and specified.factory is None)
    default = specified.factory if specified and specified.factory else lambda: given
    return Field(check_of(hint), required, default, bool(specified and specified.exclude), tuple(_models(hint)))


def _models(hint: Any) -> Iterator[type[Model]]:
    if isinstance(hint, type) and issubclass(hint, Model):
        yield hint
    for argument in get_args(hint):
        yield from _models(argument)
