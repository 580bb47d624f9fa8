"""Lightning, the real one: what it saves is in a run, and a training goes on from it bit for bit."""

from __future__ import annotations

import argparse
import datetime
import functools
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import runtree

torch = pytest.importorskip("torch")
lightning: Any = pytest.importorskip("lightning")

from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import CSVLogger  # noqa: E402
from lightning.pytorch.strategies import ModelParallelStrategy  # noqa: E402

from runtree.integrations import lightning as integration  # noqa: E402

from .accelerate_trainer import same  # noqa: E402
from .lightning_trainer import Data, Model, every_epoch, fit, start, state, trainer_of  # noqa: E402

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch.*"),
    # Lightning uses what newer torch warns of.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    # What Lightning says of workers, of directories, and of an epoch that is shorter than it logs.
    pytest.mark.filterwarnings("ignore::UserWarning:lightning.*"),
]


def test_a_killed_training_goes_on_as_if_it_had_not_been_killed() -> None:
    killed = subprocess.run(
        [sys.executable, str(HERE / "lightning_trainer.py"), "4", "8"], capture_output=True, text=True, timeout=250
    )
    assert killed.returncode == -9, killed.stderr
    whole = fit(None, 4, every_epoch(dirpath="plain"))
    # Another seed: all that the generators do comes from the checkpoint.
    second = start(run_id="mlp", resume="must")
    assert second.resumed_from is not None
    assert (second.resumed_from.step, second.resumed_from.name) == (6, "epoch=1-step=6")
    resumed = fit(second, 4, every_epoch(), seed=99)
    assert same(state(*resumed), state(*whole))
    second.finish()
    stored = runtree.Store().run("mlp")
    assert [each.step for each in stored.checkpoints()] == [3, 6, 9, 12]
    assert stored.history("loss").steps.tolist() == list(range(12))
    assert stored.history("val_loss").values.tolist() == [3, 1, 2, 0.5]
    report = stored.resume_report()
    assert report is not None
    assert report["bit_equal_steps"] == 1


def test_a_fork_trains_at_the_rate_of_its_script_where_the_schedule_is() -> None:
    first = start(run_id="parent")
    fit(first, 3, every_epoch())
    first.finish()
    rates: dict[str, list[float]] = {}
    for on_fork in ("use-args", "keep"):
        fork = start(run_id=on_fork, fork="parent@9")
        _, model = fit(fork, 4, every_epoch(), lr=0.01, on_fork=on_fork)
        rates[on_fork] = model.rates
        fork.finish()
        assert (fork.fork_step, fork.config["lr"]) == (9, 0.01)
        assert runtree.Store().run(on_fork).history("loss").steps.tolist() == list(range(12))
    # Halved after two epochs, and after four: the fork begins in the fourth.
    assert rates == {"use-args": [0.005] * 3, "keep": [0.05] * 3}
    # A resume of the fork is no fork: what it saved is restored as it was, whatever the script says.
    again = start(run_id="use-args", resume="must")
    _, model = fit(again, 5, every_epoch(), lr=0.7)
    assert model.rates == [0.0025] * 3


def test_a_fork_at_the_same_rate_equals_its_parent_bit_for_bit() -> None:
    first = start(run_id="parent")
    whole = fit(first, 4, every_epoch())
    first.finish()
    child = fit(start(run_id="child", fork="parent@6"), 4, every_epoch(), seed=5)
    assert same(state(*child), state(*whole))


class Look(Callback):
    """Notes the checkpoints of a run at the beginning of every epoch."""

    def __init__(self, run: runtree.Run) -> None:
        self.run = run
        self.seen: dict[str, runtree.Checkpoint] = {}

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.strategy.checkpoint_io.teardown()
        self.seen.update({each.id: each for each in self.run.checkpoints()})


def test_the_best_two_stay_and_the_rest_is_in_the_trash() -> None:
    run = start(run_id="top")
    best = ModelCheckpoint(
        dirpath="best", monitor="val_loss", save_top_k=2, save_last="link", filename="{epoch}-{val_loss:.1f}"
    )
    look = Look(run)
    trainer, _ = fit(run, 6, best, look)
    assert {path.stem for path in Path("best").iterdir()} == {"epoch=1-val_loss=1.0", "epoch=3-val_loss=0.5", "last"}
    kept = {(each.step, each.name): each.metrics["val_loss"] for each in run.checkpoints()}
    assert kept == {(6, "epoch=1-val_loss=1.0"): 1.0, (12, "epoch=3-val_loss=0.5"): 0.5}
    assert run.checkpoint("best:val_loss:min").step == 12
    # "best" and "last" as Lightning knows them; another process has only the notes.
    io = integration.RuntreeCheckpointIO(run)
    for path in (best.best_model_path, "best/last.ckpt", "best:val_loss:min", "epoch=3-val_loss=0.5"):
        assert io.load_checkpoint(path)["global_step"] == 12
    trainer.validate(ckpt_path="best", datamodule=Data(), verbose=False)
    gone = [each for each in look.seen.values() if each not in run.checkpoints()]
    assert [each.step for each in gone] == [3, 9]
    gone[1].undelete()
    assert 9 in [each.step for each in run.checkpoints()]
    # A link is a name, not the checkpoint.
    io.remove_checkpoint("best/last.ckpt")
    assert io.load_checkpoint("best:val_loss:min")["global_step"] == 12


def test_what_others_hold_stays_when_it_is_let_go_of() -> None:
    run = start(run_id="held")

    class Hold(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.strategy.checkpoint_io.teardown()
            if trainer.current_epoch == 1:
                run.checkpoint(3).pin()
            if trainer.current_epoch == 2:
                run.store.fork("held@6", name="child")

    fit(run, 5, ModelCheckpoint(dirpath="one", save_top_k=1), Hold())
    assert len(list(Path("one").iterdir())) == 1
    assert [each.step for each in run.checkpoints()] == [3, 6, 15]
    # What a fork saves does not take its parent's away, though ModelCheckpoint goes on with its parent's paths.
    run.finish()
    child = start(run_id="other", fork="held@15")
    fit(child, 6, ModelCheckpoint(dirpath="one", save_top_k=1))
    assert [each.step for each in run.checkpoints()] == [3, 6, 15]
    assert [each.step for each in child.checkpoints(inherited=False)] == [18]


def test_rotation_while_checkpoints_are_on_their_way_loses_none_that_stays() -> None:
    run = start(run_id="race")

    class Wide(Model):
        def __init__(self) -> None:
            super().__init__()
            self.ballast = torch.nn.Parameter(torch.rand(1 << 20))

    seen: list[dict[str, Any]] = []

    class Remember(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            seen.append({key: value.clone() for key, value in pl_module.state_dict().items()})

    torch.manual_seed(0)
    every = ModelCheckpoint(dirpath="race", every_n_train_steps=1, save_top_k=1, save_last=True)
    trainer = trainer_of(run, 3, Remember(), every)
    trainer.fit(Wide(), datamodule=Data())
    assert {path.name for path in Path("race").iterdir()} == {"epoch=2-step=9.ckpt", "last.ckpt"}
    assert {each.step for each in run.checkpoints()} == {9}
    assert all(same(each.load()["checkpoint"]["state_dict"], seen[-1]) for each in run.checkpoints())
    report = run.finish()
    assert report.status == "completed"


def test_a_disk_that_fails_stops_no_training_and_takes_no_older_checkpoint() -> None:
    run = start(run_id="broken")
    chunks = run.path / "chunks"

    class Break(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.strategy.checkpoint_io.teardown()
                chunks.rename(run.path / "away")
                chunks.touch()

    with pytest.warns(runtree.RuntreeWarning, match="chunks"):
        trainer, _ = fit(run, 3, ModelCheckpoint(dirpath="one", save_top_k=1), Break(), is_broken=True)
    assert trainer.global_step == 9
    # ModelCheckpoint let go of the first; nothing newer is durable, so it is still there.
    assert {path.name for path in Path("one").iterdir()} == {"epoch=2-step=9.ckpt"}
    assert [each.step for each in run.checkpoints()] == [3]
    with pytest.raises(runtree.LostData):
        run.finish()


def test_every_path_loads_the_checkpoint_that_was_saved_there() -> None:
    run = start()
    _, model = fit(run, 1)
    io = integration.RuntreeCheckpointIO(run)
    odd = {
        "state_dict": model.state_dict(), "global_step": 7, "epoch": 1, "loops": {},
        "hyper_parameters": {
            "namespace": argparse.Namespace(lr=0.1), "partial": functools.partial(max, 3), "loss": torch.nn.MSELoss(),
            "since": datetime.timedelta(hours=1), "layers": (1, [torch.nn.Linear(2, 2)], {"deep": {3: range(4)}}),
            "parameter": torch.nn.Parameter(torch.ones(2)), "path": Path("x"), "set": {1, 2}, "shared": [model.net[0].weight] * 2,
        },
        "strange": {("a", 1): {None: True, 2.5: "a float is no key of a tree"}},
    }  # fmt: skip
    io.save_checkpoint(odd, "odd.ckpt")
    state = run.load(io.paths.find("odd.ckpt"))
    # Only what a state tree can not hold is opaque; the weights are tensors that the store knows.
    assert [each["path"] for each in state["objects"]] == [
        ("hyper_parameters", "namespace"), ("hyper_parameters", "partial"), ("hyper_parameters", "loss"),
        ("hyper_parameters", "layers", 1, 0), ("hyper_parameters", "layers", 2, "deep", 3), ("strange", ("a", 1)),
    ]  # fmt: skip
    loaded = io.load_checkpoint("odd.ckpt", weights_only=False)
    note = loaded.pop("runtree")
    assert note == {"reference": f"{run.display_id}@7", "step": 7, "foreign": False}
    assert list(loaded) == list(odd)
    assert same(loaded["state_dict"], odd["state_dict"])
    assert loaded["state_dict"]._metadata == odd["state_dict"]._metadata
    mine, theirs = odd["hyper_parameters"], loaded["hyper_parameters"]
    for key in ("namespace", "since", "path", "set"):
        assert theirs[key] == mine[key]
    assert theirs["partial"](2) == 3
    assert isinstance(theirs["loss"], torch.nn.MSELoss)
    assert isinstance(theirs["layers"], tuple)
    assert same(theirs["layers"][1][0].state_dict(), mine["layers"][1][0].state_dict())
    assert theirs["layers"][2]["deep"][3] == range(4)
    assert theirs["shared"][0] is theirs["shared"][1]
    assert loaded["strange"] == odd["strange"]
    # As in Lightning's own files nothing is unpickled that was not asked for.
    with pytest.raises(Exception, match="[Ww]eights.only"):
        io.load_checkpoint("odd.ckpt", weights_only=True)


def test_a_trainers_checkpoint_comes_back_as_lightning_dumped_it() -> None:
    run = start()
    trainer, _ = fit(run, 2, every_epoch())
    io = trainer.strategy.checkpoint_io
    dumped = trainer._checkpoint_connector.dump_checkpoint()
    io.save_checkpoint(dumped, "dumped.ckpt")
    loaded = io.load_checkpoint("dumped.ckpt")
    assert loaded.pop("runtree")["step"] == 6
    assert same(loaded, dumped)
    # And a program without runtree gets the weights.
    again = Model()
    again.load_state_dict(run.load("dumped")["checkpoint"]["state_dict"])
    assert same(again.state_dict(), trainer.lightning_module.state_dict())


def test_a_note_of_a_save_that_never_became_one_means_the_one_before() -> None:
    run = start()
    io = integration.RuntreeCheckpointIO(run)
    io.save_checkpoint({"global_step": 1}, "last.ckpt")
    io.teardown()
    first = Path("last.ckpt").read_text()
    io.save_checkpoint({"global_step": 2}, "last.ckpt")
    io.teardown()
    # As after a kill: the note names a save that is not in the store.
    second = Path("last.ckpt").read_text()
    assert '"save": "1-2-0"' in second
    assert '"before": "1-1-0"' in second
    Path("last.ckpt").write_text(second.replace("1-2-0", "1-9-0"))
    with pytest.warns(runtree.RuntreeWarning, match="did not become a checkpoint"):
        assert integration.RuntreeCheckpointIO(run).load_checkpoint("last.ckpt")["global_step"] == 1
    Path("last.ckpt").write_text(first.replace("1-1-0", "1-9-0"))
    with pytest.raises(runtree.NotFound, match="did not become a checkpoint"):
        integration.RuntreeCheckpointIO(run).load_checkpoint("last.ckpt")


def test_what_is_not_ours_is_neither_replaced_nor_misread() -> None:
    run = start()
    io = integration.RuntreeCheckpointIO(run)
    torch.save({"global_step": 5, "state_dict": {}}, "own.ckpt")
    kept = Path("own.ckpt").read_bytes()
    with pytest.raises(runtree.Invalid, match="not of runtree"):
        io.save_checkpoint({"global_step": 6}, "own.ckpt")
    assert io.load_checkpoint("own.ckpt")["global_step"] == 5
    assert Path("own.ckpt").read_bytes() == kept
    # A rotation of Lightning's own files is Lightning's.
    io.remove_checkpoint("own.ckpt")
    assert not Path("own.ckpt").exists()
    with pytest.raises(runtree.Invalid, match="bucket"):
        io.save_checkpoint({"global_step": 6}, "s3://bucket/last.ckpt")
    run.save({"mine": 1}, step=3).result()
    with pytest.raises(runtree.NotFound, match="not one that Lightning saved"):
        io.load_checkpoint("latest")
    with pytest.raises(runtree.NotFound, match="is no file"):
        io.load_checkpoint("best.ckpt")
    assert [each.step for each in run.checkpoints(pending=True)] == [3]


def test_with_several_optimizers_the_step_is_what_loggers_count() -> None:
    run = start()

    class Two(Model):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, index: int) -> None:
            for optimizer in self.optimizers():  # type: ignore[union-attr]
                optimizer.zero_grad()
                self.manual_backward(self.net(batch).square().mean())
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.01) for _ in range(2)], []

    trainer = trainer_of(run, 2, every_epoch())
    trainer.fit(Two(), datamodule=Data())
    assert trainer.global_step == 12
    assert [each.step for each in run.checkpoints()] == [3, 6]


def test_fabric_saves_and_loads_by_the_same_plugin() -> None:
    run = start()
    fabric = lightning.Fabric(accelerator="cpu", devices=1, plugins=[integration.RuntreeCheckpointIO(run)])
    model, optimizer = fabric.setup(net := torch.nn.Linear(3, 1), torch.optim.AdamW(net.parameters()))
    fabric.backward(model(torch.ones(2, 3)).sum())
    optimizer.step()
    fabric.save("fabric/step-5.ckpt", {"model": model, "optimizer": optimizer, "seen": 40})
    saved = {key: each.clone() for key, each in model.state_dict().items()}
    torch.nn.init.zeros_(net.weight)
    rest = fabric.load("fabric/step-5.ckpt", {"model": model, "optimizer": optimizer})
    assert same(dict(model.state_dict()), saved)
    assert rest["seen"] == 40
    assert [(each.step, each.name) for each in run.checkpoints()] == [(5, "step-5")]


def test_hyperparameters_are_config_whatever_they_are() -> None:
    run = start()
    logger = integration.RuntreeLogger(run)
    logger.log_hyperparams(
        {"lr": 0.1, "net": torch.nn.ReLU(), "act": torch.nn.ReLU, "size": torch.tensor(3), "more": {"path": Path("x")}}
    )
    logger.log_hyperparams(argparse.Namespace(seed=4))
    assert run.config == {"lr": 0.1, "net": "ReLU", "act": "ReLU", "size": 3, "more": {"path": "x"}, "seed": 4}
    assert (logger.name, logger.version) == ("light", run.display_id)


def test_autolog_takes_in_the_files_of_lightning_before_they_are_deleted() -> None:
    before = lightning.Trainer.__init__
    integration.autolog(project="auto", console=False, system_metrics=False, environment=False)
    integration.autolog(project="other")
    contents: dict[str, bytes] = {}

    class Read(ModelCheckpoint):
        def _remove_checkpoint(self, trainer: Any, filepath: str) -> None:
            contents[Path(filepath).name] = Path(filepath).read_bytes()
            super()._remove_checkpoint(trainer, filepath)

    try:
        trainer, _ = fit(None, 3, Read(dirpath="files", save_top_k=1), logger=CSVLogger("csv"))
        assert sum(isinstance(each, integration.RuntreeLogger) for each in trainer.loggers) == 1
        assert len(trainer.loggers) == 2
        quiet = trainer_of(None, 1)
        assert quiet.loggers == []
    finally:
        integration.undo()
    assert lightning.Trainer.__init__ is before
    [run] = runtree.Store().runs()
    live = integration.RuntreeLogger().experiment
    assert live.id == run.id
    live.finish()
    assert run.project == "auto"
    assert run.history("loss").steps.tolist() == list(range(9))
    assert [each.step for each in run.checkpoints()] == [3, 6, 9]
    [left] = Path("files").glob("*.ckpt")
    contents[left.name] = left.read_bytes()
    assert len(contents) == 3
    for checkpoint in run.checkpoints():
        name = f"{checkpoint.name}.ckpt"
        assert (checkpoint.dir() / name).read_bytes() == contents[name]
    # Lightning goes on from such a file.
    first = run.checkpoint(3)
    _, model = fit(None, 2, ckpt_path=first.dir() / f"{first.name}.ckpt", enable_checkpointing=False)
    assert len(model.rates) == 3


def test_what_the_logger_starts_is_the_run_of_the_checkpoints_too() -> None:
    other = start(run_id="other")
    given = integration.connect(project="late", console=False, system_metrics=False, environment=False)
    assert [each.key for each in runtree.Store().runs()] == ["other"]
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **given,
    )
    trainer.fit(Model(), datamodule=Data())
    run = given["logger"].experiment
    assert run.project == "late"
    assert [each.step for each in run.checkpoints()] == [3]
    assert other.checkpoints() == []


def test_without_runtree_a_training_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    run = start()
    fit(run, 1, every_epoch(dirpath="none"))
    assert not Path("none").exists() or list(Path("none").iterdir()) == []
    assert integration.start_of(run) is None


def test_wrong_calls_say_what_to_do() -> None:
    with pytest.raises(runtree.Invalid, match="'use-args', 'keep'"):
        integration.RuntreeCallback("use_args")
    with pytest.raises(runtree.Invalid, match="no run"):
        integration.RuntreeCheckpointIO().save_checkpoint({}, "a.ckpt")
    run = start()
    with pytest.raises(runtree.Invalid, match="two ways"):
        integration.RuntreeLogger(run, project="p")
    with pytest.raises(runtree.Invalid, match="save_distributed_checkpoint"):
        integration.RuntreeModelParallelStrategy(run, save_distributed_checkpoint=False)
    past = ModelParallelStrategy()
    past.checkpoint_io = integration.RuntreeCheckpointIO(run)
    with pytest.warns(runtree.RuntreeWarning, match="ModelParallelStrategy writes its shards by itself"):
        integration.RuntreeCallback().setup(types.SimpleNamespace(strategy=past), None, "fit")
    with pytest.raises(TypeError, match="storage_options"):
        integration.RuntreeCheckpointIO(run).save_checkpoint({}, "a.ckpt", {"compress": True})
