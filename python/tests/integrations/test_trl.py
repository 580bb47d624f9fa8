"""TRL: SFT, DPO and GRPO are trainers of Transformers, and take the callback and the mixin as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

import runtree
from runtree.integrations.transformers import RuntreeTrainerMixin, pretrained_dir

from . import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:trl"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]


class MixedSFT(RuntreeTrainerMixin, SFTTrainer):
    """The mixin before TRL's trainer."""


class MixedDPO(RuntreeTrainerMixin, DPOTrainer):
    """The mixin before TRL's trainer."""


class MixedGRPO(RuntreeTrainerMixin, GRPOTrainer):
    """The mixin before TRL's trainer."""


def base_model() -> Any:
    place = Path("base")
    if not place.is_dir():
        tiny.tiny_model().save_pretrained(place)
        tiny.tiny_tokenizer().save_pretrained(place)
    return AutoModelForCausalLM.from_pretrained(place)


def words(row: int, count: int = 6) -> str:
    return " ".join(tiny.WORDS[(row * place) % len(tiny.WORDS)] for place in range(1, count + 1))


def settings(kind: type[Any], args: Any, **more: Any) -> Any:
    """The tests' arguments as those of a TRL trainer."""
    names = ("output_dir", "max_steps", "per_device_train_batch_size", "learning_rate", "logging_steps", "save_steps",
             "warmup_steps", "report_to", "disable_tqdm", "use_cpu", "dataloader_pin_memory", "lr_scheduler_type",
             "eval_strategy", "eval_steps", "load_best_model_at_end", "save_total_limit")  # fmt: skip
    return kind(**{name: getattr(args, name) for name in names}, bf16=False, gradient_checkpointing=False, **more)


def sft(kind: str, args: Any, callbacks: list[Any]) -> Any:
    data = Dataset.from_list([{"text": words(row)} for row in range(1, 33)])
    chosen = MixedSFT if kind == "mixin" else SFTTrainer
    return chosen(
        base_model(), args=settings(SFTConfig, args, max_length=16), train_dataset=data, eval_dataset=data.select(range(8)),
        processing_class=tiny.tiny_tokenizer(), callbacks=callbacks,
        peft_config=LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )  # fmt: skip


def dpo(kind: str, args: Any, callbacks: list[Any]) -> Any:
    rows = [
        {"prompt": words(row, 3), "chosen": words(row + 1, 3), "rejected": words(row + 2, 3)} for row in range(1, 33)
    ]
    chosen = MixedDPO if kind == "mixin" else DPOTrainer
    return chosen(
        base_model(), args=settings(DPOConfig, args, max_length=16), train_dataset=Dataset.from_list(rows),
        processing_class=tiny.tiny_tokenizer(), callbacks=callbacks,
    )  # fmt: skip


def reward(completions: list[str], **_: Any) -> list[float]:
    return [float(text.count("w1")) for text in completions]


def grpo(kind: str, args: Any, callbacks: list[Any]) -> Any:
    chosen = MixedGRPO if kind == "mixin" else GRPOTrainer
    more = {"num_generations": 2, "max_completion_length": 6}
    return chosen(
        base_model(), reward_funcs=reward, args=settings(GRPOConfig, args, **more),
        train_dataset=Dataset.from_list([{"prompt": words(row, 3)} for row in range(1, 33)]),
        processing_class=tiny.tiny_tokenizer(), callbacks=callbacks,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_sft_of_an_adapter_that_was_killed_ends_as_one_that_was_not(kind: str) -> None:
    base_model()
    assert tiny.in_a_process(tiny.train, run_id="killed", kind=kind, trainer=sft, kill_at=5) == -9
    best = {"eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 2}
    resumed, callback = tiny.train("killed", kind=kind, trainer=sft, **best)
    whole, _ = tiny.train("whole", kind=kind, trainer=sft)
    assert callback.run.resumed_from is not None
    assert callback.run.resumed_from.step == 4
    assert tiny.differing(tiny.final_state(resumed), tiny.final_state(whole)) == []
    run = runtree.Store().run("killed")
    assert {"train/loss", "train/mean_token_accuracy", "eval/loss"} <= set(run.metrics)
    assert (pretrained_dir(run.checkpoint()) / "adapter_config.json").is_file()


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_dpo_resumes_in_a_fork_at_another_rate(kind: str) -> None:
    tiny.train("parent", kind=kind, trainer=dpo, max_steps=4, lr_scheduler_type="constant")
    rates = tiny.Rates()
    _, callback = tiny.train(
        "fork", kind=kind, trainer=dpo, max_steps=4, lr_scheduler_type="constant", learning_rate=1e-4,
        callback={"fork": "parent@2"}, callbacks=[rates],
    )  # fmt: skip
    assert {step: set(each) for step, each in rates.of.items()} == {3: {1e-4}, 4: {1e-4}}
    assert callback.run.fork_step == 2
    assert callback.run.history("train/rewards/margins").steps.tolist() == [1, 2, 3, 4]


def test_grpo_saves_states_and_goes_on_from_them() -> None:
    tiny.train("grpo", kind="mixin", trainer=grpo, max_steps=2)
    trainer, callback = tiny.train("grpo", kind="mixin", trainer=grpo, max_steps=4)
    run = callback.run
    assert [each.step for each in run.checkpoints()] == [2, 4]
    assert run.history("train/reward").steps.tolist() == [1, 2, 3, 4]
    assert tiny.differing(dict(run.load(4)["model"]), dict(trainer.model.state_dict())) == []
