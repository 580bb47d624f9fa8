"""Accelerate, the real one: what ``save_state`` writes is a checkpoint, and a training goes on from it bit for bit."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtree

torch = pytest.importorskip("torch")
accelerate: Any = pytest.importorskip("accelerate")

from runtree.integrations import accelerate as integration  # noqa: E402

from .accelerate_trainer import Training, same, start  # noqa: E402

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
]
FILES = {"model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl"}


@pytest.fixture
def training() -> Callable[..., Training]:
    def make(key: str | None = None, lr: float = 0.1, on_fork: str = "use-args", **keywords: Any) -> Training:
        return Training(start(run_id=key, **keywords), lr, on_fork=on_fork)

    return make


def test_a_killed_training_goes_on_as_if_it_had_not_been_killed(training: Callable[..., Training]) -> None:
    killed = subprocess.run(
        [sys.executable, str(HERE / "accelerate_trainer.py"), "8", "5"], capture_output=True, text=True, timeout=200
    )
    assert killed.returncode == -9, killed.stderr
    assert not list(Path().glob(".runtree-state-*"))
    whole = training(store="whole")
    whole.train(8, save=False)
    second = training("mlp", resume="must")
    assert second.handle.run.resumed_from is not None
    assert second.handle.run.resumed_from.step == 4
    second.go_on()
    second.train(8)
    assert same(second.state(), whole.state())
    second.handle.run.finish()
    stored = runtree.Store().run("mlp")
    assert [each.step for each in stored.checkpoints()] == [2, 4, 6, 8]
    assert stored.history("loss").steps.tolist() == list(range(1, 9))
    assert stored.history("loss").values.tolist() == whole.handle.run.history("loss").values.tolist()
    # Step 5 was there before the kill, and came out the same again.
    report = stored.resume_report()
    assert report is not None
    assert report["bit_equal_steps"] == 1
    assert {path.name for path in stored.dir(4).iterdir()} == FILES


def test_a_fork_trains_at_the_rate_of_its_script_where_the_schedule_is(training: Callable[..., Training]) -> None:
    first = training("parent")
    first.train(4)
    first.handle.run.finish()
    rates: dict[str, list[float]] = {}
    for on_fork in ("use-args", "keep"):
        fork = training(on_fork, 0.01, on_fork, fork="parent@4")
        fork.go_on()
        moments = fork.optimizer.state_dict()["state"]
        assert same(moments, first.optimizer.state_dict()["state"])
        fork.train(6)
        rates[on_fork] = fork.rates
        fork.handle.run.finish()
    # Halved after three steps, and after six: step 5 is the first of the fork.
    assert rates == {"use-args": [0.005, 0.005], "keep": [0.05, 0.05]}
    # A resume of the fork is no fork: what it saved is restored as it was, whatever the script says.
    again = training("use-args", 0.7, resume="must")
    again.go_on()
    again.train(7)
    assert again.rates == [0.0025]


def test_the_same_rate_after_a_fork_changes_nothing(training: Callable[..., Training]) -> None:
    first = training("parent")
    first.train(4)
    first.train(6, save=False)
    first.handle.run.finish()
    fork = training("child", fork="parent@4")
    fork.go_on()
    fork.train(6, save=False)
    assert same(fork.state(), first.state())


def test_a_directory_that_is_deleted_at_once_is_in_the_store_byte_for_byte(training: Callable[..., Training]) -> None:
    trained = training()
    trained.train(1, save=False)
    big = torch.nn.Linear(1024, 1024)
    trained.accelerator.prepare(big)
    kept: list[tuple[runtree.PendingSave, dict[str, bytes]]] = []
    for step in range(10, 15):
        where = Path(f"out/step_{step}")
        trained.accelerator.save_state(where, metrics={"reward": float(step % 3)})
        kept.append((trained.handle.saved, {path.name: path.read_bytes() for path in where.iterdir()}))  # type: ignore[arg-type]
        # What a rotation of directories does, while the checkpoint is on its way.
        for path in where.iterdir():
            path.unlink()
        where.rmdir()
        with torch.no_grad():
            big.weight.add_(1)
    for pending, files in kept:
        checkpoint = pending.result()
        assert {path.name: path.read_bytes() for path in checkpoint.dir().iterdir()} == files
    run = trained.handle.run
    assert [(each.step, each.name) for each in run.checkpoints()] == [(step, f"step_{step}") for step in range(10, 15)]
    assert run.checkpoint("best:reward").step == 14


def test_every_way_to_name_what_is_loaded(training: Callable[..., Training]) -> None:
    trained = training()
    trained.train(4)
    run = trained.handle.run
    trained.handle.saved.result()  # type: ignore[union-attr]
    for wanted in ("latest", None, run.checkpoint(4), f"{run.display_id}@4", str(run.dir(4)), run.dir(4)):
        trained.counter.seen = 0
        trained.accelerator.load_state(wanted)  # type: ignore[arg-type]
        assert trained.counter.seen == 16
        assert trained.handle.loaded == run.checkpoint(4)
    trained.accelerator.load_state("2")
    assert trained.counter.seen == 8
    with pytest.raises(runtree.NotFound, match="is no directory"):
        trained.accelerator.load_state("3")
    # Somebody else's directory is loaded as accelerate does.
    trained.accelerator.save_state("mine", step=9)
    trained.accelerator.load_state("mine")
    assert trained.handle.loaded is None


def test_without_a_step_nothing_is_written(training: Callable[..., Training]) -> None:
    fresh = training()
    with pytest.raises(runtree.Invalid, match="which step"):
        fresh.accelerator.save_state()
    assert fresh.handle.run.checkpoints(pending=True) == []


def test_a_total_limit_is_refused_with_what_to_do_instead(training: Callable[..., Training]) -> None:
    settings = accelerate.utils.ProjectConfiguration(project_dir=".", automatic_checkpoint_naming=True, total_limit=2)
    limited = accelerate.Accelerator(cpu=True, project_config=settings)
    with pytest.raises(runtree.Invalid, match="total_limit=2") as refused:
        integration.register(limited, start())
    assert "keep_last" in (refused.value.hint or "")


def test_automatic_naming_goes_on_as_it_does(training: Callable[..., Training]) -> None:
    settings = accelerate.utils.ProjectConfiguration(project_dir="here", automatic_checkpoint_naming=True)
    named = accelerate.Accelerator(cpu=True, project_config=settings)
    model = named.prepare(torch.nn.Linear(2, 2))
    handle = integration.register(named, start())
    named.log({"loss": 1.0}, step=70)
    named.save_state()
    first = model.weight.detach().clone()
    torch.nn.init.zeros_(model.weight)
    named.log({"loss": 0.5}, step=80)
    named.save_state()
    assert handle.saved is not None
    assert handle.saved.result().dir().joinpath("model.safetensors").exists()
    assert [(each.step, each.name) for each in handle.run.checkpoints()] == [(70, "checkpoint_0"), (80, "checkpoint_1")]
    assert sorted(path.name for path in Path("here/checkpoints").iterdir()) == ["checkpoint_0", "checkpoint_1"]
    named.load_state("checkpoint_0")
    assert torch.equal(model.weight, first)
    named.load_state()
    assert not model.weight.any()


def test_retention_of_the_run_keeps_the_last(training: Callable[..., Training]) -> None:
    trained = training("kept", retention={"keep_last": 2})
    trained.train(8)
    trained.handle.run.finish()
    assert [each.step for each in runtree.Store().run("kept").checkpoints()] == [6, 8]


def test_autolog_registers_new_accelerators_once_and_can_be_undone() -> None:
    before = accelerate.Accelerator.__init__
    integration.autolog(project="auto", console=False, system_metrics=False, environment=False)
    integration.autolog(project="other")
    try:
        automatic = accelerate.Accelerator(cpu=True)
        assert runtree.Store(create=True).runs() == []
        automatic.init_trackers("ignored", config={"lr": 0.1})
        automatic.log({"loss": 1.0}, step=3)
        automatic.save_state()
        automatic.end_training()
    finally:
        integration.undo()
    assert accelerate.Accelerator.__init__ is before
    assert not hasattr(accelerate.Accelerator(cpu=True), "_runtree")
    [run] = runtree.Store().runs()
    assert (run.project, run.status, run.config["lr"]) == ("auto", "completed", 0.1)
    assert [each.step for each in run.checkpoints()] == [3]


def test_removing_the_handle_leaves_the_accelerator_as_it_was(training: Callable[..., Training]) -> None:
    trained = training()
    assert integration.register(trained.accelerator) is trained.handle
    trained.handle.remove()
    trained.train(1, save=False)
    trained.accelerator.save_state("plain")
    assert (Path("plain") / "model.safetensors").exists()
    assert trained.handle.run.checkpoints(pending=True) == []
    assert trained.handle.run.metrics == []


def test_the_tracker_alone_logs_and_leaves_a_given_run_open() -> None:
    run = start()
    alone = accelerate.Accelerator(cpu=True, log_with=integration.RuntreeTracker(run))
    alone.init_trackers("ignored", config={"lr": 0.1, "name": "a"})
    # Registering adds no second one.
    integration.register(alone, run)
    assert [each.name for each in alone.trackers] == ["runtree"]
    alone.log({"loss": 2.0, "nested": {"a": 1}}, step=3)
    alone.end_training()
    assert not run.finished
    assert (run.config["lr"], run.config["name"]) == (0.1, "a")
    assert run.history("loss").values.tolist() == [2.0]
    assert run.history("nested/a").steps.tolist() == [3]
    run.finish()
    with pytest.warns(runtree.RuntreeWarning, match="is finished"):
        alone.trackers[0].log({"loss": 1.0}, step=4)


RANKS = """
    import sys, warnings
    warnings.simplefilter("ignore")
    sys.path.insert(0, {here!r})
    import os, torch, runtree
    from accelerate_trainer import Training, same, start
    from accelerate import PartialState
    state = PartialState(cpu=True)
    rank = state.process_index
    training = Training(start(run_id="ranks"))
    torch.manual_seed(100 + rank)
    training.train(4)
    whole = training.state()
    run = training.handle.run
    assert (training.handle.saved is not None) == (rank == 0)
    if rank == 0:
        training.handle.saved.result()
    state.wait_for_everyone()
    assert [each.step for each in run.checkpoints()] == [2, 4], run.checkpoints()
    files = {{path.name for path in run.dir(2).iterdir()}}
    assert {{"random_states_0.pkl", "random_states_1.pkl"}} <= files, files
    # Back to step 2 and forward again, each rank with its own generators.
    training.accelerator.load_state("2")
    training.step = 2
    training.train(4, save=False)
    assert same(training.state(), whole), rank
    try:
        training.accelerator.load_state("17")
    except runtree.NotFound as error:
        print(f"rank {{rank}}: {{error.message}}", flush=True)
    run.finish()
    sys.stdout.flush()
    state.wait_for_everyone()
    os._exit(0)
"""


def test_two_ranks_make_one_checkpoint_with_the_files_of_both(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(textwrap.dedent(RANKS).format(here=str(HERE)))
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)],
        capture_output=True, text=True, timeout=250, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    # An error of the first rank is one of both: nobody waits for the other.
    assert sorted(re.findall(r"rank (\d): run \S+ has no checkpoint @17", result.stdout)) == ["0", "1"]
