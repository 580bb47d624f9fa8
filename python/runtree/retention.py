"""Which checkpoints stay: rules, and the plans that come of them.

A checkpoint stays if one rule keeps it. Whatever the rules are, these stay too: the newest checkpoint that can be loaded, what is
pinned, tagged or in use, what a run was forked at or started from, what is damaged. Only what the run itself saved can go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from runtree import _native
from runtree.checkpoint import Checkpoint, save_key
from runtree.errors import Invalid, InvalidType

if TYPE_CHECKING:
    from runtree.store import Store

#: ``"val/reward"``, ``"val/loss:min"``, ``"val/loss:min:3"``, ``("val/loss", "min", 3)``, or several of these.
KeepBest: TypeAlias = "str | Sequence[Any] | Mapping[str, Any]"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

# Names that other libraries have for the same rules.
_ALIASES = {"keep_every": "keep_interval", "max_to_keep": "keep_last", "keep_period": "keep_interval",
            "keep_checkpoints_without_metrics": "keep_without_metric"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Retention:
    """What is kept of a run's checkpoints: the union of its rules.

    Args:
        keep_last: The newest so many.
        keep_interval: Those whose step is a multiple of it.
        keep_best: The best by a metric: ``"val/reward"``, ``"val/loss:min"``, ``"val/loss:min:3"``, ``("val/loss", "min", 3)``, or a
            list of these. The value of a checkpoint is the one given to it (``save(metrics=)``), else the effective point at exactly
            its step; of what is no number there is no best. At a tie the later step wins. A name like a loss
            needs ``min`` or ``max``.
        keep_newer_than: Those that are younger: a ``timedelta``, seconds, or ``"90s"``, ``"15m"``, ``"2h"``, ``"7d"``, ``"1w"``.
        keep_without_metric: Whether checkpoints that have no value of a metric of ``keep_best`` stay.

    Raises:
        Invalid: There is no rule, or one can not be meant.
    """

    keep_last: int | None = None
    keep_interval: int | None = None
    keep_best: KeepBest = ()
    keep_newer_than: timedelta | float | str | None = None
    keep_without_metric: bool = True

    def __post_init__(self) -> None:
        _native.describe_policy(self._rules())

    @classmethod
    def of(cls, policy: Any) -> Retention:
        """A policy from itself, or from a mapping of its arguments (Orbax's ``max_to_keep`` and ``keep_period`` too)."""
        if isinstance(policy, Retention):
            return policy
        if not isinstance(policy, Mapping):
            raise InvalidType(
                f"a retention policy is a runtree.Retention or a dict of its rules, not a {type(policy).__name__}",
                hint="retention=runtree.Retention(keep_last=2)",
            )
        known = {field.name for field in dataclasses.fields(cls)}
        rules: dict[str, Any] = {}
        for key, value in cast("Mapping[str, Any]", policy).items():
            name = _ALIASES.get(key, key)
            if name not in known:
                raise Invalid(f"{key!r} is no rule of a retention policy", hint="there are " + ", ".join(sorted(known)))
            if name in rules:
                raise Invalid(f"{key!r} and another name of the same rule are given")
            rules[name] = value
        return cls(**rules)

    @classmethod
    def _stored(cls, rules: Mapping[str, Any]) -> Retention:
        micros = rules.get("keep_newer_than_micros")
        return cls(
            keep_last=rules.get("keep_last"),
            keep_interval=rules.get("keep_interval"),
            keep_best=[(rule["metric"], rule["mode"], rule["count"]) for rule in rules.get("keep_best", ())],
            keep_newer_than=None if micros is None else micros / 1e6,
            keep_without_metric=rules.get("keep_without_metric", True),
        )

    def __or__(self, other: Retention) -> Retention:
        """Keeps what either keeps. Of a rule in both, the one that keeps more; of two intervals one divides the other."""
        return Retention(
            keep_last=_larger(self.keep_last, other.keep_last),
            keep_interval=_finer(self.keep_interval, other.keep_interval),
            keep_best=[*_as_list(self.keep_best), *_as_list(other.keep_best)],
            keep_newer_than=_seconds(_larger(_micros(self.keep_newer_than), _micros(other.keep_newer_than))),
            keep_without_metric=self.keep_without_metric if not _as_list(other.keep_best)
            else other.keep_without_metric if not _as_list(self.keep_best)
            else self.keep_without_metric or other.keep_without_metric,
        )  # fmt: skip

    def _rules(self) -> dict[str, Any]:
        return {
            "keep_last": _count("keep_last", self.keep_last),
            "keep_interval": _count("keep_interval", self.keep_interval),
            "keep_best": [_best(rule) for rule in _as_list(self.keep_best)],
            "keep_newer_than_micros": _micros(self.keep_newer_than),
            "keep_without_metric": bool(self.keep_without_metric),
        }

    def _form(self) -> str:
        return _native.describe_policy(self._rules())[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retention) and self._form() == other._form()

    def __hash__(self) -> int:
        return hash(self._form())

    def __str__(self) -> str:
        return _native.describe_policy(self._rules())[0]


def LatestN(n: int) -> Retention:
    """Keeps the newest ``n``. Combine rules with ``|``."""
    return Retention(keep_last=n)


def EveryNSteps(interval_steps: int) -> Retention:
    """Keeps those whose step is a multiple."""
    return Retention(keep_interval=interval_steps)


def BestN(n: int, metric: str, mode: str | None = None, *, keep_checkpoints_without_metrics: bool = True) -> Retention:
    """Keeps the best ``n`` by a metric; ``mode`` is ``max`` unless given, and must be given for what is called like a loss."""
    return Retention(keep_best=[(metric, mode, n)], keep_without_metric=keep_checkpoints_without_metrics)


def NewerThan(age: timedelta | float | str) -> Retention:
    """Keeps those that are younger."""
    return Retention(keep_newer_than=age)


class PruneDecision:
    """What becomes of one checkpoint."""

    def __init__(self, store: Store, run: str, info: dict[str, Any]) -> None:
        self._store = store
        self._run = run
        self._info = info
        #: Its id, ``ck_…``.
        self.id: str = info["id"]
        #: Its step.
        self.step: int = info["step"]
        #: Its raw bytes.
        self.bytes: int = info["bytes"]
        #: Whether it stays.
        self.keep: bool = info["keep"]
        #: Why: everything that keeps it, or what there is to say about one that goes.
        self.reasons: list[str] = info["reasons"]

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, looked up now."""
        key = save_key(self._info["attempt"], self.step, self._info["k"])
        return Checkpoint(self._store, self._store.native.checkpoint_info(self._run, key))

    def __repr__(self) -> str:
        return f"<{'keep' if self.keep else 'delete'} step {self.step}: {'; '.join(self.reasons)}>"


class PrunePlan:
    """What becomes of the checkpoints that a run saved, and why. ``print`` it to see the table."""

    def __init__(self, store: Store, native: _native.PrunePlan | None, applied: bool) -> None:
        self._store = store
        self._native = native
        # Of a disabled run there is nothing to say.
        self._info: dict[str, Any] = (
            {"run": {"id": "", "display_id": "disabled"}, "decisions": [], "freed_bytes": 0, "unranked": None}
            if native is None
            else native.info(store.native)
        )
        #: Whether what goes is in the trash.
        self.applied = applied

    @property
    def decisions(self) -> list[PruneDecision]:
        """A decision for every checkpoint, ascending by step."""
        run = self._info["run"]["id"]
        return [PruneDecision(self._store, run, each) for each in self._info["decisions"]]

    @property
    def freed_bytes(self) -> int:
        """Bytes that would be free if those that go were gone: what others share, or are encoded against, is not counted."""
        return self._info["freed_bytes"] or 0

    @property
    def unranked(self) -> str | None:
        """Why nothing goes, if a rule ranks by a metric that no checkpoint has a value of."""
        return self._info["unranked"]

    def apply(self) -> int:
        """Puts what goes into the trash; returns how many went. What was pinned, tagged or forked since stays."""
        if self.applied or self._native is None:
            return 0
        count, _ = self._native.apply(self._store.native)
        self.applied = True
        return count

    def __str__(self) -> str:
        rows = [("step", "checkpoint", "bytes", "", "why")]
        for each in self.decisions:
            rows.append(
                (str(each.step), each.id, f"{each.bytes:,}", "keep" if each.keep else "delete", "; ".join(each.reasons))
            )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{step:>{widths[0]}}  {name:<{widths[1]}}  {size:>{widths[2]}}  {word:<{widths[3]}}  {why}".rstrip()
            for step, name, size, word, why in rows
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        gone = sum(not each.keep for each in self.decisions)
        return f"<PrunePlan of {self._info['run']['display_id']}: {gone} of {len(self.decisions)} go>"


def rules_of(policy: Any, **given: Any) -> dict[str, Any] | None:
    """The rules that a call was given, as a policy or one by one; None if there are none."""
    single = {name: value for name, value in given.items() if value is not None}
    if policy is not None and single:
        raise Invalid("a policy and single rules are two ways to say one thing: give one of them")
    if policy is not None:
        return Retention.of(policy)._rules()  # pyright: ignore[reportPrivateUsage]
    return Retention.of(single)._rules() if single else None  # pyright: ignore[reportPrivateUsage]


def _as_list(rules: KeepBest) -> list[Any]:
    if isinstance(rules, str):
        return [rules]
    if isinstance(rules, Mapping):
        return [(metric, mode) for metric, mode in rules.items()]
    # ("val/loss", "min") is one rule; ["val/loss:min", "val/reward"] are two.
    is_one = isinstance(rules, tuple) and len(rules) in (2, 3) and (rules[1] is None or rules[1] in ("min", "max"))
    return [rules] if is_one else list(cast("Iterable[Any]", rules))


def _best(rule: Any) -> tuple[str, str | None, int | None]:
    if isinstance(rule, str):
        return rule, None, None
    if isinstance(rule, tuple) and len(cast("tuple[Any, ...]", rule)) in (2, 3) and isinstance(rule[0], str):
        metric, mode, *count = cast("tuple[Any, ...]", rule)
        return metric, mode, _count("the count of keep_best", count[0]) if count else 1
    raise InvalidType(
        f"keep_best {rule!r} is no rule",
        hint='"val/reward", "val/loss:min", "val/loss:min:3" or ("val/loss", "min", 3)',
    )


def _count(what: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidType(f"{what} {value!r} is not a whole number")
    if not 0 < value < 2**32:
        raise Invalid(f"{what} is at least 1, not {value}")
    return value


def _micros(age: Any) -> int | None:
    if age is None:
        return None
    if isinstance(age, timedelta):
        seconds = age.total_seconds()
    elif isinstance(age, (int, float)) and not isinstance(age, bool):
        seconds = float(age)
    elif isinstance(age, str) and age[-1:] in _UNITS and age[:-1].isdecimal():
        seconds = float(int(age[:-1]) * _UNITS[age[-1]])
    else:
        raise Invalid(
            f"keep_newer_than {age!r} is no length of time",
            hint='a timedelta, seconds, or "90s", "15m", "2h", "7d", "1w"',
        )
    if not 0 <= seconds < 2**40:
        raise Invalid(f"keep_newer_than {age!r} is no length of time that there can be")
    return round(seconds * 1e6)


def _seconds(micros: int | None) -> float | None:
    return None if micros is None else micros / 1e6


def _larger(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)


def _finer(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    if max(a, b) % min(a, b) == 0:
        return min(a, b)
    raise Invalid(
        f"keep_interval {a} and {b} are two intervals, and a policy has one", hint="give one that divides both"
    )
