"""Optimizers and schedulers: all of torch.optim round trips; a fork with another rate trains its first step at it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import runtree
import runtree.torch

OPTIMIZERS = sorted(
    name
    for name, cls in vars(torch.optim).items()
    if inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
)
# Muon is for matrices, SparseAdam for sparse gradients, LBFGS wants a closure.
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "warmup": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 10)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 8),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=10),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 20, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2, eta_min=1e-4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(
        o, [10 * g["lr"] for g in o.param_groups], total_steps=20, cycle_momentum=False
    ),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(
        o, [g["lr"] for g in o.param_groups], [4 * g["lr"] for g in o.param_groups], 4, cycle_momentum=False
    ),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 20)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
}


def test_no_scheduler_of_torch_is_forgotten() -> None:
    mine = {make(_optimizer(torch.nn.Linear(1, 1), 0.1)).__class__.__name__ for make in SCHEDULERS.values()}
    theirs = {
        name
        for name, cls in vars(lr_scheduler).items()
        if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert theirs - {"LRScheduler", "LRSchedulerProtocol"} <= mine


def _optimizer(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def _train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[float]:
    """Trains, and returns the rate of each step."""
    rates = []
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = model(torch.rand(4, model.in_features)).square().mean()
        loss.backward()
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()
    return rates


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_round_trips(name: str, start: Any) -> None:
    run = start()

    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        if name == "SparseAdam":
            model: Any = torch.nn.Embedding(5, 3, sparse=True)
        else:
            model = torch.nn.Linear(3, 3, bias=False)
        cls = getattr(torch.optim, name)
        return model, cls(model.parameters(), lr=0.01)

    def step(model: Any, optimizer: Any) -> None:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            inputs = torch.tensor([1, 2]) if name == "SparseAdam" else torch.ones(2, 3)
            loss = model(inputs).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    model, optimizer = make()
    for _ in range(3):
        step(model, optimizer)
    checkpoint = run.save({"model": model, "optimizer": optimizer}, step=3).result()
    assert _same(run.load(checkpoint)["optimizer"], optimizer.state_dict())
    other_model, other = make()
    run.load(checkpoint, into={"model": other_model, "optimizer": other})
    for _ in range(2):
        step(model, optimizer)
        step(other_model, other)
    assert torch.equal(model.weight, other_model.weight)
    assert _same(other.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_round_trips(name: str, start: Any) -> None:
    run = start()

    def make() -> tuple[Any, Any, Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        optimizer = _optimizer(model, 0.1)
        return model, optimizer, SCHEDULERS[name](optimizer)

    saved = make()
    _train(*saved, 5)
    checkpoint = run.save(dict(zip(("model", "optimizer", "scheduler"), saved, strict=True)), step=5).result()
    again = make()
    run.load(checkpoint, into=dict(zip(("model", "optimizer", "scheduler"), again, strict=True)))
    assert _train(*again, 8) == _train(*saved, 8)
    assert torch.equal(again[0].weight, saved[0].weight)


def test_a_grad_scaler_and_an_average_round_trip(start: Any) -> None:
    run = start()
    model = torch.nn.Linear(2, 2)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    checkpoint = run.save({"average": average, "scaler": scaler}, step=0).result()
    other = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2))
    other_scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    run.load(checkpoint, into={"average": other, "scaler": other_scaler})
    assert other.n_averaged == 1
    assert torch.equal(other.module.weight, model.weight)
    assert other_scaler.get_scale() == 8.0


def _parent(start: Any, scheduler: str | None, lr: float, steps: int) -> tuple[runtree.Run, dict[str, Any]]:
    run = start(config={"lr": lr})
    model = torch.nn.Linear(3, 1)
    optimizer = _optimizer(model, lr)
    sched = SCHEDULERS[scheduler](optimizer) if scheduler else None
    for step, rate in enumerate(_train(model, optimizer, sched, steps)):
        run.log({"lr": rate}, step=step)
    state = {"model": model, "optimizer": optimizer}
    if sched is not None:
        state["scheduler"] = sched
    run.save(state).result()
    run.finish()
    return run, state


def test_a_fork_without_a_scheduler_trains_its_first_step_at_the_new_rate(start: Any) -> None:
    parent, _ = _parent(start, None, 0.1, 5)
    fork = start(fork=parent.display_id, config={"lr": 0.003})
    model = torch.nn.Linear(3, 1)
    optimizer = _optimizer(model, fork.config["lr"])
    runtree.torch.restore(fork.load(), model=model, optimizer=optimizer)
    assert _train(model, optimizer, None, 1) == [0.003]
    assert len(optimizer.state) == 2, "momentum was restored"


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "ReduceLROnPlateau"])
def test_a_fork_with_a_scheduler_trains_where_the_schedule_of_the_new_rate_is(name: str, start: Any) -> None:
    parent, _ = _parent(start, name, 0.1, 5)
    fork = start(fork=parent.display_id, config={"lr": 0.003})
    model = torch.nn.Linear(3, 1)
    optimizer = _optimizer(model, fork.config["lr"])
    scheduler = SCHEDULERS[name](optimizer)
    runtree.torch.restore(fork.load(), model=model, optimizer=optimizer, scheduler=scheduler)
    # What a run would do that had begun at the new rate.
    reference = torch.nn.Linear(3, 1)
    reference_optimizer = _optimizer(reference, 0.003)
    expected = _train(reference, reference_optimizer, SCHEDULERS[name](reference_optimizer), 11)
    assert scheduler.get_last_lr() == pytest.approx([expected[5]], rel=1e-9)
    assert _train(model, optimizer, scheduler, 6) == pytest.approx(expected[5:], rel=1e-9)


def test_a_fork_with_a_plateau_scheduler_keeps_its_reductions(start: Any) -> None:
    parent, state = _parent(start, "ReduceLROnPlateau", 0.1, 5)
    reduced = state["optimizer"].param_groups[0]["lr"]
    assert reduced == pytest.approx(0.025)
    fork = start(fork=parent.display_id)
    model = torch.nn.Linear(3, 1)
    optimizer = _optimizer(model, 0.01)
    scheduler = SCHEDULERS["ReduceLROnPlateau"](optimizer)
    runtree.torch.restore(fork.load(), model=model, optimizer=optimizer, scheduler=scheduler)
    assert optimizer.param_groups[0]["lr"] == 0.01


# A plateau's rate is not a function of the rate it began with.
@pytest.mark.parametrize("name", [None, *(name for name in SCHEDULERS if name != "ReduceLROnPlateau")])
def test_the_same_rate_changes_nothing_by_a_bit(name: str | None, start: Any) -> None:
    parent, state = _parent(start, name, 0.1, 5)
    again = torch.nn.Linear(3, 1)
    optimizer = _optimizer(again, 0.1)
    scheduler = SCHEDULERS[name](optimizer) if name else None
    runtree.torch.restore(parent.load(), model=again, optimizer=optimizer, scheduler=scheduler)
    assert _same(optimizer.state_dict(), state["optimizer"].state_dict())
    rates = _train(again, optimizer, scheduler, 5)
    assert rates == _train(state["model"], state["optimizer"], state.get("scheduler"), 5)
    assert torch.equal(again.weight, state["model"].weight)


def test_keep_nothing_is_as_saved_and_other_options_can_be_kept(start: Any) -> None:
    parent, _ = _parent(start, "CosineAnnealingLR", 0.1, 5)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.5)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 50)
    runtree.torch.restore(parent.load(), model=model, optimizer=optimizer, scheduler=scheduler, keep=())
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert scheduler.base_lrs == [0.1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003, momentum=0.5)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 50)
    runtree.torch.restore(parent.load(), optimizer=optimizer, scheduler=scheduler, keep=("lr", "momentum", "T_max"))
    assert optimizer.param_groups[0]["momentum"] == 0.5
    assert scheduler.T_max == 50
    assert scheduler.base_lrs == [0.003]


def test_a_scheduler_made_after_restore_begins_at_the_new_rate(start: Any) -> None:
    parent, _ = _parent(start, "StepLR", 0.1, 5)
    model = torch.nn.Linear(3, 1)
    optimizer = _optimizer(model, 0.003)
    runtree.torch.restore(parent.load(), model=model, optimizer=optimizer)
    assert lr_scheduler.StepLR(optimizer, 3).base_lrs == [0.003]


def test_restore_says_what_is_missing() -> None:
    with pytest.raises(LookupError, match="state has no optimizer; it has model, step"):
        runtree.torch.restore({"model": {}, "step": 3}, optimizer=_optimizer(torch.nn.Linear(1, 1), 0.1))
