"""The callback in an unmodified Trainer: metrics, config, checkpoints, kill and resume, forks, the best, rotation."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("transformers")

import torch
from transformers import Trainer, TrainerCallback

import runtree
from runtree.integrations import _transformers_taking as taking
from runtree.integrations.transformers import RuntreeCallback

from . import tiny

pytestmark = [
    # What Python and the libraries warn of among themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
]


def loaded(directory: Path) -> dict[str, Any]:
    """What the Trainer reads of one of its directories."""
    from safetensors.torch import load_file

    state: dict[str, Any] = {"model": load_file(directory / "model.safetensors")}
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        state[name] = torch.load(directory / name, weights_only=False)
    return state


def test_a_training_that_was_killed_ends_as_one_that_was_not() -> None:
    assert tiny.in_a_process(tiny.train, run_id="killed", kill_at=5) == -9
    assert runtree.Store().run("killed").status != "completed"
    resumed, callback = tiny.train("killed")
    whole, other = tiny.train("whole")
    assert callback.run.attempt == 2
    assert callback.run.resumed_from is not None
    assert callback.run.resumed_from.step == 4
    assert tiny.differing(tiny.final_state(resumed), tiny.final_state(whole)) == []
    # The last checkpoints have the random generators, too.
    assert tiny.differing(loaded(callback.run.dir()), loaded(other.run.dir())) == []
    stored = runtree.Store().run("killed")
    assert [each.step for each in stored.checkpoints()] == [2, 4, 6, 8, 10]
    assert stored.history("train/loss").steps.tolist() == list(range(1, 11))
    assert stored.history("train/loss").values.tolist() == other.run.history("train/loss").values.tolist()


def test_metrics_have_the_names_of_the_trainers_own_callback_and_the_config_no_secrets() -> None:
    _, callback = tiny.train(
        "named", max_steps=2, eval_strategy="steps", eval_steps=2, hub_token="hf_secretsecretsecretsecret"
    )
    run = runtree.Store().run("named")
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "eval/loss"} <= set(run.metrics)
    assert run.history("eval/loss").steps.tolist() == [2]
    assert run.config["learning_rate"] == 1e-2
    assert run.config["model"]["hidden_size"] == 16
    assert run.config["num_parameters"] == callback._run.config["num_parameters"] > 0
    assert "secretsecret" not in json.dumps(dict(run.config))
    assert run.checkpoint(2).metrics["eval/loss"] == run.history("eval/loss").values[-1]


class Slow(taking.Taking):
    """A copy that takes until somebody waits for it, as one of a large checkpoint on a slow disk."""

    waited: ClassVar[list[str]]
    gate: threading.Event

    def _save(self) -> Any:
        assert self.gate.wait(60)
        return super()._save()

    def wait_copied(self, timeout: float | None = None) -> bool:
        if not self._copied.is_set():
            self.waited.append(self._path.name)
        self.gate.set()
        return super().wait_copied(timeout)


@pytest.mark.parametrize("order", ["before", "after"])
def test_rotation_never_deletes_what_is_still_being_copied(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    class EveryStep(TrainerCallback):
        """Saves at each step, whatever the arguments say, and decides so before or after runtree looks."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = True

    class Gated(Slow):
        waited: ClassVar[list[str]] = []

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.gate = threading.Event()

    monkeypatch.setattr(taking, "Taking", Gated)
    data = tiny.tiny_data()
    callback = RuntreeCallback(project="tiny", run_id="rotated", **tiny.QUIET)
    callbacks = [EveryStep(), callback] if order == "before" else [callback, EveryStep()]
    args = tiny.arguments(save_total_limit=1, max_steps=5, save_strategy="no")
    Trainer(tiny.tiny_model(), args, train_dataset=data, callbacks=callbacks).train()
    callback.run.finish()
    assert os.listdir("out") == ["checkpoint-5"]
    assert [each.step for each in callback.run.checkpoints()] == [1, 2, 3, 4, 5]
    assert {"checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"} <= set(Gated.waited)
    for step in range(1, 6):
        assert json.loads((callback.run.dir(step) / "trainer_state.json").read_text())["global_step"] == step


def test_what_the_trainer_deletes_as_soon_as_it_is_written_is_taken_in_before() -> None:
    # Checkpoints of a longer training lie there: by number, the new one is the oldest.
    for step in (100, 200):
        Path(f"out-short/checkpoint-{step}").mkdir(parents=True)
    _, callback = tiny.train("short", max_steps=4, save_total_limit=1)
    assert os.listdir("out-short") == ["checkpoint-200"]
    assert [each.step for each in callback.run.checkpoints()] == [2, 4]
    assert json.loads((callback.run.dir(2) / "trainer_state.json").read_text())["global_step"] == 2


def test_without_a_limit_nobody_waits_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Free(Slow):
        waited: ClassVar[list[str]] = []
        gate = threading.Event()

    class Count(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.append(len(taking._uncopied))

    monkeypatch.setattr(taking, "Taking", Free)
    callback = RuntreeCallback(project="tiny", run_id="free", **tiny.QUIET)
    data = tiny.tiny_data()
    Trainer(tiny.tiny_model(), tiny.arguments(max_steps=6), train_dataset=data, callbacks=[callback, Count()]).train()
    callback.run.finish()
    assert seen == [1, 2, 3]
    assert [each.step for each in callback.run.checkpoints()] == [2, 4, 6]


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_directory_that_somebody_deletes_is_a_warning_and_no_error(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Held(Slow):
        waited: ClassVar[list[str]] = []
        gate = threading.Event()

    class Delete(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            shutil.rmtree(f"{args.output_dir}/checkpoint-{state.global_step}")

    monkeypatch.setattr(taking, "Taking", Held)
    callback = RuntreeCallback(project="tiny", run_id="gone", **tiny.QUIET)
    callbacks = [Delete(), callback] if when == "before" else [callback, Delete()]
    trainer = Trainer(
        tiny.tiny_model(), tiny.arguments(max_steps=2), train_dataset=tiny.tiny_data(), callbacks=callbacks
    )
    with pytest.warns(runtree.RuntreeWarning, match="checkpoint-2 (is not there|was not taken into)"):  # noqa: PT031
        trainer.train()
        callback.run.finish()
    assert trainer.state.global_step == 2
    assert callback.run.status == "completed"


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_fork_trains_at_the_rate_of_its_arguments_from_its_first_step(schedule: str) -> None:
    parent = tiny.Rates()
    tiny.train("parent", lr_scheduler_type=schedule, warmup_steps=6, callbacks=[parent], save_total_limit=1)
    fork = {"fork": "parent@4"}
    changed, kept = tiny.Rates(), tiny.Rates()
    with_args, callback = tiny.train(
        "changed", callback=fork, lr_scheduler_type=schedule, warmup_steps=6, learning_rate=1e-3, callbacks=[changed]
    )
    tiny.train(
        "kept", callback={**fork, "on_fork": "keep"}, lr_scheduler_type=schedule, warmup_steps=6, learning_rate=1e-3,
        callbacks=[kept],
    )  # fmt: skip
    assert min(changed.of) == min(kept.of) == 5
    for step in range(5, 11):
        # The parent's schedule, at a tenth of its rate; a warm-up that was not over goes on.
        assert changed.of[step] == pytest.approx([rate / 10 for rate in parent.of[step]], rel=1e-12)
        assert kept.of[step] == parent.of[step]
    assert with_args.lr_scheduler.base_lrs == [1e-3, 1e-3]
    assert [group["initial_lr"] for group in with_args.optimizer.param_groups] == [1e-3, 1e-3]
    run = callback.run
    assert (run.fork_step, run.config["learning_rate"]) == (4, 1e-3)
    assert runtree.Store().run("parent").config["learning_rate"] == 1e-2
    logged = run.history("train/learning_rate")
    assert dict(zip(logged.steps.tolist(), logged.values.tolist(), strict=True))[5] == pytest.approx(changed.of[5][0])
    # Its own checkpoints have its rate: resuming it changes nothing.
    again = tiny.Rates()
    tiny.train(
        "changed", callback=fork, lr_scheduler_type=schedule, warmup_steps=6, learning_rate=1e-3, max_steps=12,
        callbacks=[again],
    )  # fmt: skip
    assert min(again.of) == 11


def test_groups_with_rates_of_their_own_keep_their_proportion_in_a_fork() -> None:
    def two_rates(kind: str, args: Any, callbacks: list[Any]) -> Trainer:
        model = tiny.tiny_model()
        head = [model.lm_head.weight]
        body = [each for name, each in model.named_parameters() if not name.startswith("lm_head")]
        groups = [{"params": body}, {"params": head, "lr": args.learning_rate * 5}]
        optimizer = torch.optim.AdamW(groups, lr=args.learning_rate)
        return Trainer(model, args, train_dataset=tiny.tiny_data(), callbacks=callbacks, optimizers=(optimizer, None))

    rates = tiny.Rates()
    tiny.train("wide", trainer=two_rates, lr_scheduler_type="constant", max_steps=2)
    tiny.train(
        "narrow", trainer=two_rates, callback={"fork": "wide"}, lr_scheduler_type="constant", max_steps=3,
        learning_rate=1e-4, callbacks=[rates],
    )  # fmt: skip
    assert rates.of == {3: pytest.approx([1e-4, 5e-4])}


def test_the_best_model_has_a_tag_that_retention_keeps_and_is_loaded_at_the_end() -> None:
    losses = iter([3.0, 1.0, 2.0, 2.5, 4.0])

    class Told(Trainer):
        """Evaluations whose outcome is known."""

        def evaluation_loop(self, *args: Any, **keywords: Any) -> Any:
            output = super().evaluation_loop(*args, **keywords)
            output.metrics["eval_told"] = next(losses)
            return output

    def told(kind: str, args: Any, callbacks: list[Any]) -> Trainer:
        data = tiny.tiny_data()
        return Told(tiny.tiny_model(), args, train_dataset=data, eval_dataset=data[:4], callbacks=callbacks)

    best = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "told", "greater_is_better": False}
    trainer, _ = tiny.train(
        "best", trainer=told, callback={"retention": {"keep_last": 1}}, save_total_limit=1,
        load_best_model_at_end=True, **best,
    )  # fmt: skip
    run = runtree.Store().run("best")
    assert [(each.step, each.tags, each.pinned) for each in run.checkpoints()] == [
        (4, ["best"], False),
        (10, [], False),
    ]
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert tiny.differing(dict(trainer.model.state_dict()), loaded(run.dir(4))["model"]) == []
    # Elsewhere the Trainer's directories are gone; the best one comes from the store.
    shutil.rmtree("out-best")
    losses = iter([5.0])
    moved, _ = tiny.train("best", trainer=told, max_steps=12, load_best_model_at_end=True, **best)
    assert tiny.differing(dict(moved.model.state_dict()), loaded(run.dir(4))["model"]) == []
    assert [each.step for each in run.checkpoints() if "best" in each.tags] == [4]


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_two_ranks_are_one_run_with_the_random_generators_of_both(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, steps in enumerate((4, 6)):
        monkeypatch.setenv("RUNTREE_ATTEMPT", f"launch-{number}")
        codes = tiny.in_processes(
            2, tiny.train, run_id="ranks", kind=kind, max_steps=steps, ddp_backend="gloo", save_total_limit=1
        )
        assert codes == [0, 0]
    run = runtree.Store().run("ranks")
    assert run.attempt == 2
    assert [each.step for each in run.checkpoints()] == [2, 4, 6]
    assert run.history("train/loss").steps.tolist() == [1, 2, 3, 4, 5, 6]
    files = {path.name for path in run.dir(4).iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors", "optimizer.pt"} <= files


def test_each_trial_of_a_search_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.hp_params", dict)
    callback = RuntreeCallback(project="tiny", run_id="search", **tiny.QUIET)
    trainer = Trainer(
        tiny.tiny_model(), tiny.arguments(max_steps=2), train_dataset=tiny.tiny_data(), callbacks=[callback],
    )  # fmt: skip
    for rate in (1e-2, 1e-3, 1e-4):
        trainer.args.learning_rate = rate
        trainer.train(trial={"learning_rate": rate})
    callback.run.finish()
    runs = runtree.Store().runs(sort="created", descending=False)
    assert [(each.key, each.config["learning_rate"]) for each in runs] == [
        ("search", 1e-2), ("search-trial-1", 1e-3), ("search-trial-2", 1e-4),
    ]  # fmt: skip
    assert [[each.step for each in run.checkpoints()] for run in runs] == [[2], [2], [2]]
