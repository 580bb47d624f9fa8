"""run.guard: saves that do not wait for their own copy, and are right all the same."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import runtree
import runtree.torch
from runtree import _device, _guard, _native, _torch
from runtree.errors import InvalidType

# Large enough that it is not copied in the call anyway (states up to 1 MiB are).
WIDTH = 512


def training(optimizer_class: Any = torch.optim.AdamW, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.Linear(WIDTH, WIDTH)
    )
    return model, optimizer_class(model.parameters(), lr=0.01, **options)


def step(model: Any, optimizer: Any) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(torch.randn(8, WIDTH)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)


def snapshot(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: snapshot(each) for key, each in value.items()}
    if isinstance(value, list):
        return [snapshot(each) for each in value]
    return value


def assert_equal(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list):
        for a, b in zip(left, right, strict=True):
            assert_equal(a, b)
    else:
        assert left == right


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.LBFGS, {"max_iter": 2}),
        (torch.optim.Adagrad, {}),
    ],
)
def test_every_guarded_save_is_the_state_it_was_called_with(tmp_path: Path, kind: Any, options: dict[str, Any]) -> None:
    model, optimizer = training(kind, **options)
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(optimizer)
        wanted: list[Any] = []
        saves: list[Any] = []
        for number in range(6):
            step(model, optimizer)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            wanted.append(snapshot(state))
            saves.append(run.save(state, step=number))
        for number, (save, state) in enumerate(zip(saves, wanted, strict=True)):
            save.result()
            assert_equal(run.load(number), state)


def test_the_step_waits_and_what_is_not_guarded_is_copied_at_once(tmp_path: Path) -> None:
    model, optimizer = training()
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        guard = run.guard(optimizer)
        step(model, optimizer)
        wanted = snapshot({"model": model.state_dict(), "average": average})
        save = run.save({"model": model.state_dict(), "average": average}, step=0)
        # Neither the average nor the buffers of the batch norm belong to the optimizer.
        for value in average.values():
            value.zero_()
        model[1].running_mean.fill_(7)
        step(model, optimizer)
        assert save.wait_staged(0)
        save.result()
        assert_equal(run.load(0), wanted)
        guard.remove()
        assert not optimizer._optimizer_step_pre_hooks


class Held:
    """A save whose guarded memory is not copied before it is let go, as if its device were slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived = threading.Event()
        # A tensor of a device that has no streams: it is there at once, and whoever waits for it is held.
        monkeypatch.setattr(_device, "streams_of", lambda kind: None)
        monkeypatch.setattr(_device.Transfer, "wait_all", lambda transfer: self.arrived.wait(60))
        describe = _torch.describe

        def described(tensor: Any) -> Any:
            found = describe(tensor)
            if hasattr(tensor, "_runtree_shards"):
                found.device = "cpu"
            return found

        monkeypatch.setattr(_torch, "describe", described)
        self.parameter = torch.nn.Parameter(torch.zeros(1 << 20))
        self.elsewhere = torch.zeros(1 << 10)
        self.elsewhere._runtree_shards = None  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer = torch.optim.SGD([self.parameter], lr=1.0)
        self.parameter.grad = torch.ones_like(self.parameter)

    def save(self, run: Any, step: int = 0) -> Any:
        save = run.save({"w": self.parameter, "d": self.elsewhere}, step=step)
        assert not save.wait_staged(0.05)
        return save

    def let_go_soon(self) -> None:
        threading.Timer(0.4, self.arrived.set).start()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


def test_a_step_does_not_begin_before_the_copy_is_made(tmp_path: Path, held: Held) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(held.optimizer)
        save = held.save(run)
        held.let_go_soon()
        held.optimizer.step()
        assert held.arrived.is_set()
        save.result()
        assert not run.load(0)["w"].any()


def test_a_finish_that_gives_up_leaves_the_step_waiting(tmp_path: Path, held: Held) -> None:
    run = runtree.init("p", store=str(tmp_path / "s"), run_id="r", system_metrics=False, console=False)
    run.guard(held.optimizer)
    save = held.save(run)
    with pytest.raises(runtree.LostData):
        run.finish(timeout=0)
    # Somebody else's hook, behind ours.
    held.optimizer.register_step_pre_hook(lambda *_: None)
    held.let_go_soon()
    held.optimizer.step()
    assert held.arrived.is_set()
    held.optimizer.step()
    save.result()
    assert not runtree.Store(str(tmp_path / "s")).run("r").checkpoint(0).load()["w"].any()


def test_a_wait_that_is_interrupted_is_waited_for_again(
    tmp_path: Path, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(held.optimizer)
        save = held.save(run)
        with monkeypatch.context() as interrupted:
            interrupted.setattr(_guard, "_wait", lambda save: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                held.optimizer.step()
        held.let_go_soon()
        held.optimizer.step()
        assert held.arrived.is_set()
        save.result()
        assert not run.load(0)["w"].any()


def test_two_threads_may_wait_for_the_same_save(tmp_path: Path, held: Held) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(held.optimizer)
        held.save(run)
        failed: list[BaseException] = []

        def load() -> None:
            try:
                _guard.wait_all()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        held.let_go_soon()
        for thread in threads:
            thread.join(60)
        assert not failed
        assert held.arrived.is_set()


@pytest.mark.parametrize("how", ["load", "restore"])
def test_what_is_loaded_into_guarded_memory_waits(tmp_path: Path, held: Held, how: str) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.save({"w": torch.full_like(held.parameter, 7.0)}, step=0).result()
        run.guard(held.optimizer)
        save = held.save(run, step=1)
        held.let_go_soon()
        if how == "load":
            run.checkpoint(0).load(into={"w": held.parameter})
        else:
            model = torch.nn.ParameterDict({"w": held.parameter})
            runtree.torch.restore({"model": {"w": torch.full_like(held.parameter, 7.0)}}, model=model)
        assert held.arrived.is_set()
        assert bool((held.parameter == 7).all())
        save.result()
        assert not run.load(1)["w"].any()


def test_state_that_belongs_to_no_parameter(tmp_path: Path) -> None:
    model, optimizer = training()
    step(model, optimizer)
    optimizer.state["step"] = 5  # pyright: ignore[reportArgumentType]
    optimizer.state["scale"] = torch.tensor(2.0)  # pyright: ignore[reportArgumentType]
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(optimizer)
        run.save(model.state_dict(), step=0).result()


FORKED = """
import os, sys
import runtree, torch
torch.set_num_threads(1)  # OpenMP does not survive a fork
parameter = torch.nn.Parameter(torch.zeros(1 << 20))
parameter.grad = torch.ones_like(parameter)
optimizer = torch.optim.SGD([parameter], lr=1.0)
run = runtree.init("p", store=sys.argv[1], system_metrics=False, console=False)
run.guard(optimizer)
run.save({"w": parameter}, step=0)
child = os.fork()
if not child:
    optimizer.step()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
run.finish()
"""


def test_a_forked_child_may_step(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "s")], check=True, timeout=120)


def test_a_guard_covers_only_the_memory_of_its_optimizer() -> None:
    memory = _native.GuardedMemory([(300, 10), (100, 50), (150, 50), (120, 10), (5, 0)])
    inside = [(100, 100), (199, 1), (300, 10)]
    outside = [(99, 2), (199, 2), (300, 11), (250, 1), (0, 1), (5, 1)]
    assert all(memory.covers(*each) for each in inside)
    assert not any(memory.covers(*each) for each in outside)
    assert _native.GuardedMemory(None).covers(7, 7)
    assert not _native.GuardedMemory([]).covers(7, 1)


def test_the_block_of_any_other_loop(tmp_path: Path) -> None:
    state = {"w": np.arange(1 << 20, dtype=np.float32), "more": [np.ones(1 << 19), "text"]}
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        saves: list[Any] = []
        for number in range(5):
            with run.guard():
                saves.append(run.save(state, step=number))
            assert saves[-1].wait_staged(0)
            state["w"] += 1.0
        for number, save in enumerate(saves):
            save.result()
            loaded = run.load(number)
            assert np.array_equal(loaded["w"], np.arange(1 << 20, dtype=np.float32) + number)


def test_a_state_dict_that_is_loaded_waits_too(tmp_path: Path) -> None:
    model, optimizer = training()
    step(model, optimizer)
    first = snapshot(optimizer.state_dict())
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        run.guard(optimizer)
        save = run.save(optimizer.state_dict(), step=0)
        optimizer.load_state_dict(first)
        assert save.wait_staged(0)
        # load(into=) writes to guarded memory.
        save.result()
        step(model, optimizer)
        second = snapshot(optimizer.state_dict())
        save = run.save(optimizer.state_dict(), step=1)
        run.load(0, into=optimizer.state_dict())
        assert_equal(optimizer.state_dict(), first)
        save.result()
        assert_equal(run.load(1), second)


def test_grad_scaler_and_two_optimizers(tmp_path: Path) -> None:
    model, _ = training()
    optimizers = [
        torch.optim.AdamW(model[0].parameters()),
        torch.optim.SGD(model[2].parameters(), lr=0.1, momentum=0.9),
    ]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        for optimizer in optimizers:
            run.guard(optimizer)
        wanted: list[Any] = []
        saves: list[Any] = []
        for number in range(4):
            loss = model(torch.randn(8, WIDTH)).square().mean()
            model.zero_grad()
            scaler.scale(loss).backward()
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
            state = {
                "model": model.state_dict(),
                "optimizers": [each.state_dict() for each in optimizers],
                "scaler": scaler.state_dict(),
            }
            wanted.append(snapshot(state))
            saves.append(run.save(state, step=number))
        for number, (save, state) in enumerate(zip(saves, wanted, strict=True)):
            save.result()
            assert_equal(run.load(number), state)


SHARDED = """
import sys
import runtree, torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=0, world_size=1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 512))
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters())
run = runtree.init("p", store=sys.argv[1], run_id="r", system_metrics=False, console=False)
run.guard(optimizer)
wanted, saves = [], []
for number in range(3):
    optimizer.zero_grad()
    model(torch.randn(4, 512)).square().mean().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    wanted.append({name: value.to_local().clone() for name, value in model.state_dict().items()})
    saves.append(run.save(state, step=number))
    assert saves[-1]._native.reads_on, "shards are guarded as whole tensors are"
for number, save in enumerate(saves):
    save.result()
    loaded = run.load(number)["model"]
    for name, value in wanted[number].items():
        assert torch.equal(loaded[name], value), (number, name)
run.finish()
dist.destroy_process_group()
"""


def test_shards_of_fsdp_are_guarded(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARDED, str(tmp_path / "s"), str(tmp_path / "meet")]
    subprocess.run(command, check=True, env=os.environ | {"RUNTREE_ATTEMPT": "1"})


def test_what_can_not_wait_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        with pytest.raises(InvalidType, match="register_step_pre_hook") as refusal:
            run.guard(object())
        assert "with run.guard()" in str(refusal.value.hint)


def test_guarded_tensors_are_let_go_when_they_are_staged(tmp_path: Path) -> None:
    with runtree.init("p", store=str(tmp_path / "s"), system_metrics=False, console=False) as run:
        freed = threading.Event()

        class Watched(np.ndarray[Any, Any]):
            def __del__(self) -> None:
                freed.set()

        base = np.zeros(1 << 20).view(Watched)
        with run.guard():
            run.save({"w": np.asarray(base)}, step=0).result()
        del base
        # The owner is let go by the next native call that has the interpreter.
        run.log({"x": 1.0})
        gc.collect()
        assert freed.wait(10)


def test_a_disabled_run_guards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    model, optimizer = training()
    with runtree.init("p", store=str(tmp_path / "s")) as run, run.guard(optimizer):
        run.save(model.state_dict(), step=0)
        step(model, optimizer)
