"""For programs that use torch: :func:`restore`, a saved model, optimizer and scheduler at the rate the script asks for now, and
:class:`StorageWriter`, :class:`StorageReader`, :class:`AsyncStager`, a run as the storage of ``torch.distributed.checkpoint``."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from runtree import _guard
from runtree.errors import NotFound

if TYPE_CHECKING:
    from runtree._dcp_reader import StorageReader
    from runtree._dcp_writer import StorageWriter
    from runtree._export_dcp import export_dcp
    from runtree._staging import AsyncStager

__all__ = ["AsyncStager", "StorageReader", "StorageWriter", "export_dcp", "restore"]

# torch.distributed.checkpoint takes a second to import; most programs do without.
_DISTRIBUTED = {
    "AsyncStager": "_staging", "DistributedBytes": "_dcp", "DistributedState": "_dcp", "StorageReader": "_dcp_reader",
    "StorageWriter": "_dcp_writer", "export_dcp": "_export_dcp",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _DISTRIBUTED:
        return getattr(import_module(f"runtree.{_DISTRIBUTED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_NAMES = {
    "model": ("model", "model_state_dict", "state_dict", "net"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optim", "opt"),
    "scheduler": ("scheduler", "lr_scheduler", "scheduler_state_dict", "sched"),
}
# What of a parameter group and of a scheduler makes up its rate.
_GROUP_LR = ("lr", "initial_lr", "max_lr", "min_lr")
_SCHEDULER_LR = ("base_lrs", "max_lrs")


def restore(
    state: Mapping[str, Any],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    keep: Iterable[str] = ("lr",),
) -> Mapping[str, Any]:
    """Restores a loaded state into a model, an optimizer and a scheduler, and keeps what the script has set anew.

    ``state`` has ``state_dict``s under the names of the arguments (``model``, ``optimizer``, ``scheduler``, or their usual
    spellings). ``keep`` names hyperparameters of the *new* objects that win over the saved ones. With ``"lr"``, the default,
    the first step trains at the rate the script asked for: an optimizer alone at its own ``lr``; one with a scheduler where the
    schedule would be by now, had it begun at the new rate. Where the rate is the same as before, nothing changes by a bit.
    With ``keep=()`` everything is as it was saved. Other names (``"weight_decay"``, ``"T_max"``) keep that option of the
    parameter groups and of the scheduler.

    Returns ``state``.
    """
    _guard.wait_all()
    kept = tuple(keep)
    parts = {
        name: _part(state, name)
        for name, value in (("model", model), ("optimizer", optimizer), ("scheduler", scheduler))
        if value is not None
    }
    if model is not None:
        model.load_state_dict(parts["model"])
    fresh_groups: list[dict[str, Any]] = []
    if optimizer is not None:
        fresh_groups = [
            {key: _number(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(parts["optimizer"])
    saved_groups = [dict(group) for group in optimizer.param_groups] if optimizer is not None else []
    if scheduler is not None:
        fresh = _attributes(scheduler, kept)
        scheduler.load_state_dict(parts["scheduler"])
        _set_attributes(scheduler, fresh, [name for name in kept if name != "lr"])
        if "lr" in kept:
            _rebase(scheduler, fresh, fresh_groups, saved_groups)
    if optimizer is not None:
        for group, fresh_group in zip(optimizer.param_groups, fresh_groups, strict=True):
            for name in kept:
                if name != "lr" and name in fresh_group:
                    group[name] = fresh_group[name]
        if "lr" in kept and scheduler is None:
            for group, fresh_group in zip(optimizer.param_groups, fresh_groups, strict=True):
                _set_lr(group, fresh_group["lr"])
                # A scheduler made later starts from `initial_lr` if it is there: it must not be the old one.
                if "initial_lr" in group:
                    group["initial_lr"] = fresh_group.get("initial_lr", fresh_group["lr"])
    return state


def _part(state: Mapping[str, Any], name: str) -> Any:
    for spelling in _NAMES[name]:
        if spelling in state:
            return state[spelling]
    raise NotFound(
        f"state has no {name}; it has {', '.join(map(str, state))}",
        hint=f"pass a mapping with the {name}'s state_dict under {name!r}",
    )


def _number(value: Any) -> Any:
    """A rate may be a tensor, which `load_state_dict` fills: its value now."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _set_lr(group: dict[str, Any], value: Any) -> None:
    if isinstance(group["lr"], torch.Tensor):
        with torch.no_grad():
            group["lr"].fill_(float(value))
    else:
        group["lr"] = float(value) if isinstance(value, torch.Tensor) else value


def _subschedulers(scheduler: Any) -> Sequence[Any]:
    return getattr(scheduler, "_schedulers", [])


def _attributes(scheduler: Any, kept: tuple[str, ...]) -> dict[str, Any]:
    """What the fresh scheduler was made with, its parts included."""
    names = (*_SCHEDULER_LR, *(name for name in kept if name != "lr"))
    found: dict[str, Any] = {name: _copied(getattr(scheduler, name)) for name in names if hasattr(scheduler, name)}
    found["_schedulers"] = [_attributes(each, kept) for each in _subschedulers(scheduler)]
    return found


def _copied(value: Any) -> Any:
    return [*cast("list[Any]", value)] if isinstance(value, list) else value


def _set_attributes(scheduler: Any, fresh: dict[str, Any], names: Iterable[str]) -> None:
    names = list(names)
    for name in names:
        if name in fresh:
            setattr(scheduler, name, fresh[name])
    for each, fresh_each in zip(_subschedulers(scheduler), fresh["_schedulers"], strict=True):
        _set_attributes(each, fresh_each, names)


def _rebase(
    scheduler: Any, fresh: dict[str, Any], fresh_groups: list[dict[str, Any]], saved_groups: list[dict[str, Any]]
) -> None:
    """Moves a restored scheduler to the rates of the fresh one, at the place where it is."""
    optimizer: Any = scheduler.optimizer
    groups: list[dict[str, Any]] = optimizer.param_groups
    old_bases = _bases(scheduler, saved_groups)
    old_family = [_family(group) for group in saved_groups] if saved_groups else [_family(group) for group in groups]
    _set_attributes(scheduler, fresh, _SCHEDULER_LR)
    for group, fresh_group in zip(groups, fresh_groups or groups, strict=True):
        for name in _GROUP_LR[1:]:
            if name in fresh_group:
                group[name] = fresh_group[name]
    new_bases = _bases(scheduler, fresh_groups or groups)
    new_family = [_family(group) for group in groups]
    same = [
        float(old) == float(new) and old_name == new_name
        for old, new, old_name, new_name in zip(old_bases, new_bases, old_family, new_family, strict=True)
    ]
    if not all(same):
        rates = _rates(scheduler, old_bases, new_bases)
        for group, rate, unchanged in zip(groups, rates, same, strict=True):
            if not unchanged:
                _set_lr(group, rate)
    _set_last_lr(scheduler, [group["lr"] for group in groups])


def _family(group: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(group[name]) for name in _GROUP_LR[1:] if name in group)


def _bases(scheduler: Any, groups: list[dict[str, Any]]) -> list[Any]:
    """The rates a schedule is relative to."""
    for each in (scheduler, *_subschedulers(scheduler)):
        if getattr(each, "base_lrs", None):
            return list(each.base_lrs)
    return [group.get("initial_lr", group["lr"]) for group in groups]


def _rates(scheduler: Any, old_bases: list[Any], new_bases: list[Any]) -> list[Any]:
    """The rate of each group where the schedule is now."""
    kind = type(scheduler).__name__
    active = scheduler
    if kind == "SequentialLR":
        active = scheduler._schedulers[bisect.bisect_right(scheduler._milestones, scheduler.last_epoch)]
    closed: Callable[[], list[Any]] | None = getattr(active, "_get_closed_form_lr", None)
    if closed is not None:
        return list(closed())
    if type(active).__name__ in ("LambdaLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts"):
        # Theirs is a function of the step alone; the flag keeps torch from warning that nobody steps.
        active._get_lr_called_within_step = True
        try:
            return list(active.get_lr())
        finally:
            active._get_lr_called_within_step = False
    # Others multiply: what they have done to the old rate, they have done to the new one.
    groups: list[dict[str, Any]] = scheduler.optimizer.param_groups
    return [
        float(group["lr"]) * float(new) / float(old) if float(old) else new
        for group, old, new in zip(groups, old_bases, new_bases, strict=True)
    ]


def _set_last_lr(scheduler: Any, rates: list[Any]) -> None:
    for each in (scheduler, *_subschedulers(scheduler)):
        if hasattr(each, "_last_lr"):
            each._last_lr = [_number(rate) for rate in rates]


if __name__ == "__main__":
    from runtree._export_dcp import main

    main()
