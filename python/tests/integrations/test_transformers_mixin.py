"""The mixin: states instead of directories; kill and resume, forks, the best, retention, what else a Trainer can go on from."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import pytest

pytest.importorskip("transformers")

import torch
from transformers import EarlyStoppingCallback, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

import runtree
from runtree.integrations.transformers import RuntreeCallback, pretrained_dir

from . import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Told(tiny.MixedTrainer):
    """Evaluations whose outcome is known."""

    losses: Any = iter(())

    def evaluation_loop(self, *args: Any, **keywords: Any) -> Any:
        output = super().evaluation_loop(*args, **keywords)
        output.metrics["eval_told"] = next(self.losses)
        return output


def told(kind: str, args: Any, callbacks: list[Any]) -> Any:
    data = tiny.tiny_data()
    return Told(tiny.tiny_model(), args, train_dataset=data, eval_dataset=data[:4], callbacks=callbacks)


BEST = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "told", "greater_is_better": False,
        "load_best_model_at_end": True}  # fmt: skip


def test_a_training_that_was_killed_ends_as_one_that_was_not_and_as_one_of_the_plain_trainer() -> None:
    assert tiny.in_a_process(tiny.train, run_id="killed", kind="mixin", kill_at=5) == -9
    resumed, callback = tiny.train("killed", kind="mixin")
    whole, other = tiny.train("whole", kind="mixin")
    plain, _ = tiny.train("plain")
    assert callback.run.attempt == 2
    assert callback.run.resumed_from is not None
    assert callback.run.resumed_from.step == 4
    for trainer in (resumed, plain):
        assert tiny.differing(tiny.final_state(trainer), tiny.final_state(whole)) == []
    first, second = callback.run.load(), other.run.load()
    assert set(first) == {"model", "config", "files", "optimizer", "scheduler", "rng"}
    for state in (first, second):
        # Times of the day are in there.
        state["files"].pop("trainer_state.json")
    assert tiny.differing(first, second) == []
    assert os.listdir("out-killed") == []
    history = runtree.Store().run("killed").history("train/loss")
    assert history.steps.tolist() == list(range(1, 11))
    assert history.values.tolist() == other.run.history("train/loss").values.tolist()


def test_a_save_holds_what_was_trained_at_its_step_although_it_is_copied_later() -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Look(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            seen[state.global_step] = {name: value.clone() for name, value in model.state_dict().items()}

    _, callback = tiny.train("guarded", kind="mixin", save_steps=1, callbacks=[Look()])
    assert sorted(seen) == list(range(1, 11))
    for step, weights in seen.items():
        assert tiny.differing(dict(callback.run.load(step)["model"]), weights) == []


def test_a_fork_trains_at_the_rate_of_its_arguments_from_its_first_step() -> None:
    parent, changed, kept = tiny.Rates(), tiny.Rates(), tiny.Rates()
    tiny.train("parent", kind="mixin", warmup_steps=6, callbacks=[parent])
    fork = {"fork": "parent@4"}
    common = {"kind": "mixin", "warmup_steps": 6, "learning_rate": 1e-3}
    trainer, callback = tiny.train("changed", callback=fork, callbacks=[changed], **common)
    tiny.train("kept", callback={**fork, "on_fork": "keep"}, callbacks=[kept], **common)
    assert min(changed.of) == min(kept.of) == 5
    for step in range(5, 11):
        assert changed.of[step] == pytest.approx([rate / 10 for rate in parent.of[step]], rel=1e-12)
        assert kept.of[step] == parent.of[step]
    assert trainer.lr_scheduler.base_lrs == [1e-3, 1e-3]
    assert callback.run.fork_step == 4


def test_the_best_model_is_loaded_from_the_store_and_kept_by_the_limit() -> None:
    Told.losses = iter([3.0, 1.0, 2.0, 2.5, 4.0])
    trainer, callback = tiny.train("best", kind="mixin", trainer=told, save_total_limit=1, **BEST)
    run = runtree.Store().run("best")
    assert run.retention == runtree.Retention(keep_last=1)
    assert [(each.step, each.tags, each.pinned) for each in run.checkpoints()] == [
        (4, ["best"], False),
        (10, [], False),
    ]
    assert trainer.state.best_model_checkpoint == f"runtree://{run.display_id}@4"
    assert tiny.differing(dict(trainer.model.state_dict()), dict(run.load(4)["model"])) == []
    # Another launch knows what the best was, and loads it at its end.
    Told.losses = iter([5.0])
    again, _ = tiny.train("best", kind="mixin", trainer=told, save_total_limit=1, max_steps=12, **BEST)
    assert again.state.best_model_checkpoint == f"runtree://{run.display_id}@4"
    assert tiny.differing(dict(again.model.state_dict()), dict(run.load(4)["model"])) == []
    assert [each.step for each in run.checkpoints()] == [4, 12]
    assert callback.run.id == run.id


def test_callbacks_with_a_state_go_on_with_it() -> None:
    Told.losses = iter([1.0, 2.0])
    patient = {"restore_callback_states_from_checkpoint": True, "kind": "mixin", "trainer": told, **BEST}
    tiny.train("patient", max_steps=4, callbacks=[EarlyStoppingCallback(3)], **patient)
    # One evaluation that was not better was before, two more end it.
    Told.losses = iter([2.0, 2.0, 2.0])
    trainer, _ = tiny.train("patient", callbacks=[EarlyStoppingCallback(3)], **patient)
    assert trainer.state.global_step == 8


def test_what_a_training_can_go_on_from() -> None:
    tiny.train("directories", max_steps=4)
    _, callback = tiny.train("states", kind="mixin", max_steps=4)
    states = callback.run.display_id

    def start(resume: Any, run_id: str = "states", **keywords: Any) -> list[int]:
        rates = tiny.Rates()
        tiny.train(run_id, kind="mixin", resume=resume, callbacks=[rates], max_steps=6, **keywords)
        return sorted(rates.of)

    assert start("runtree:2") == [3, 4, 5, 6]
    assert start(f"runtree://{states}@<=5") == [5, 6]
    # Of another run, a fork; of one that saved directories, too.
    assert start(True, "fork", callback={"fork": "states@4"}) == [5, 6]
    assert start("runtree:latest", "other-fork", callback={"fork": "directories@4"}) == [5, 6]
    with pytest.warns(runtree.RuntreeWarning, match="which it has no checkpoint of: its history begins there"):
        assert start("out-directories/checkpoint-2", "third") == [3, 4, 5, 6]
    assert start("runtree:latest", "fresh") == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="No valid checkpoint found"):
        start(True, "fresh-too")
    with pytest.raises(runtree.NotFound, match="2, 4, 6"):
        start("runtree:5", "fresh")


def test_the_plain_trainer_is_told_that_a_state_is_no_directory() -> None:
    tiny.train("states", kind="mixin", max_steps=2)
    callback = RuntreeCallback(project="tiny", run_id="states", **tiny.QUIET)
    with pytest.raises(runtree.Invalid, match='resume_from_checkpoint="runtree:latest"'):
        callback.resume_path()


def test_a_state_becomes_a_directory_that_from_pretrained_loads() -> None:
    trainer, callback = tiny.train("exported", kind="mixin", max_steps=2)
    directory = pretrained_dir(callback.run.checkpoint())
    model = LlamaForCausalLM.from_pretrained(directory)
    assert tiny.differing(dict(model.state_dict()), dict(trainer.model.state_dict())) == []
    assert model.config.hidden_size == 16
    assert model.generation_config.eos_token_id == 2
    assert PreTrainedTokenizerFast.from_pretrained(directory)("w1 w2")["input_ids"] == [5, 6]
    assert pretrained_dir(callback.run.checkpoint()) == directory
    # The command line's own layout has the weights and the config.
    callback.run.checkpoint().export("elsewhere", layout="hf")
    assert (
        tiny.differing(dict(LlamaForCausalLM.from_pretrained("elsewhere").state_dict()), dict(model.state_dict())) == []
    )


class Odd(torch.optim.SGD):
    """An optimizer whose state is more than tensors and plain values."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "odd": Fraction(1, 3)}


def test_a_state_that_only_a_pickle_holds_is_saved_as_the_trainer_does() -> None:
    def odd(kind: str, args: Any, callbacks: list[Any]) -> Any:
        model = tiny.tiny_model()
        optimizers = (Odd(model.parameters(), lr=args.learning_rate), None)
        return tiny.MixedTrainer(
            model, args, train_dataset=tiny.tiny_data(), callbacks=callbacks, optimizers=optimizers
        )

    with pytest.warns(runtree.RuntreeWarning, match="in directories: .*odd.*Fraction"):
        _, callback = tiny.train("odd", kind="mixin", trainer=odd, max_steps=4)
    assert [each.step for each in callback.run.checkpoints()] == [2, 4]
    saved = torch.load(callback.run.dir(4) / "optimizer.pt", weights_only=False)
    assert saved["odd"] == Fraction(1, 3)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_name_from_a_store_does_not_leave_the_directory(name: str, start: Any) -> None:
    run = start()
    saved = run.save({"model": {"w": torch.ones(2)}, "files": {name: b"text"}}, step=1).result()
    with pytest.raises(runtree.Corrupt, match="outside"):
        pretrained_dir(saved)


def test_without_runtree_the_mixin_saves_as_the_trainer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_MODE", "disabled")
    trainer, callback = tiny.train("off", kind="mixin", max_steps=2)
    assert callback.run.disabled
    assert trainer.state.global_step == 2
    assert os.listdir("out-off") == ["checkpoint-2"]
