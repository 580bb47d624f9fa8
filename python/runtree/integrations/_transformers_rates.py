"""A fork that trains at the rate of its own arguments.

The Trainer loads optimizer and scheduler after it has made them, so that the rate of the checkpoint silently replaces
``TrainingArguments.learning_rate``. What both were made with is still known: an optimizer keeps its ``defaults``, and the shape of
the schedule (warm-up, decay, the number of steps) is that of the new arguments anyhow.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtree.errors import Invalid
from runtree.torch import _bases, _rebase, _set_lr


def use_arguments(optimizer: Any, scheduler: Any, parent: Mapping[str, Any]) -> None:
    """Moves an optimizer and a scheduler that were just loaded to the rate that they were made with.

    Groups that had one rate get the new one. Where groups had rates of their own, each is scaled as the rate of the arguments
    changed: ``parent`` is the config of the run that saved, which knows the old one.
    """
    plain = getattr(optimizer, "optimizer", optimizer)
    groups: list[dict[str, Any]] = plain.param_groups
    new = float(plain.defaults["lr"])
    old_bases = [float(each) for each in (_bases(scheduler, groups) if scheduler is not None else _initial(groups))]
    bases = [new] * len(groups)
    if len(set(old_bases)) > 1:
        old = parent.get("learning_rate")
        if not isinstance(old, (int, float)) or not old:
            raise Invalid(
                f"parameter groups have the rates {old_bases}, and the run that was forked has no config.learning_rate "
                "to tell how they follow from it",
                hint='keep them: RuntreeCallback(on_fork="keep"); or use RuntreeTrainerMixin, which knows the new ones',
            )
        bases = [each * new / float(old) for each in old_bases]
    saved = [dict(group) for group in groups]
    fresh = [{**group, "lr": base, **({"initial_lr": base} if "initial_lr" in group else {})}
             for group, base in zip(groups, bases, strict=True)]  # fmt: skip
    if scheduler is None:
        for group, base in zip(groups, bases, strict=True):
            _set_lr(group, base)
        return
    attributes: dict[str, Any] = {"_schedulers": []}
    if hasattr(scheduler, "base_lrs"):
        attributes["base_lrs"] = list(bases)
    _rebase(scheduler, attributes, fresh, saved)


def _initial(groups: list[dict[str, Any]]) -> list[Any]:
    return [group.get("initial_lr", group["lr"]) for group in groups]
