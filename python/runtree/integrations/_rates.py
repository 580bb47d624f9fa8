"""The learning rate of a fork: what the script has set, put back after a library has restored the saved one.

A library restores optimizers and schedulers in one call and offers no word in between. So what the script made is noted before, and
afterwards the objects are made as they were and restored once more, by :func:`runtree.torch.restore`, which knows how a schedule goes
on at another rate.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from runtree.torch import restore


class Rates:
    """What the script has set of optimizers and schedulers."""

    def __init__(self, optimizers: Sequence[Any], schedulers: Sequence[Any]) -> None:
        self._optimizers = [
            (optimizer, [_options(group) for group in optimizer.param_groups])
            for optimizer in optimizers
            # An engine that has its own idea of an optimizer restores it by itself.
            if isinstance(optimizer, torch.optim.Optimizer)
        ]
        self._schedulers = [(scheduler, _state(scheduler)) for scheduler in schedulers]

    def put_back(self) -> None:
        """Moves what has been restored since to the rates of the script. Where they are the same, nothing changes by a bit."""
        for optimizer, fresh in self._optimizers:
            saved = optimizer.state_dict()
            # The groups are dicts of the optimizer's own: they must not change with it.
            saved = {**saved, "param_groups": [dict(group) for group in saved["param_groups"]]}
            mine = [each for each in self._schedulers if each[0].optimizer is optimizer]
            after = [(scheduler, _state(scheduler)) for scheduler, _ in mine]
            for group, options in zip(optimizer.param_groups, fresh, strict=True):
                group.update(copy.deepcopy(options))
            for scheduler, made in mine:
                scheduler.load_state_dict(copy.deepcopy(made))
            # One of several on an optimizer moves the rate; what the others count is what they have counted.
            for scheduler, state in after[1:]:
                bases = getattr(scheduler, "base_lrs", None)
                scheduler.load_state_dict(state)
                if bases is not None:
                    scheduler.base_lrs = bases
            state: dict[str, Any] = {"optimizer": saved}
            if after:
                state["scheduler"] = after[0][1]
            restore(state, optimizer=optimizer, scheduler=after[0][0] if after else None, keep=("lr",))


def _options(group: dict[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in group.items() if key != "params"}
    return {
        key: value.detach().clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
        for key, value in options.items()
    }


def _state(scheduler: Any) -> dict[str, Any]:
    return copy.deepcopy(scheduler.state_dict())
