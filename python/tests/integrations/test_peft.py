"""PEFT: adapters alone are saved, by the callback and by the mixin; kill, resume, fork, the best, loading by reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer

import runtree
from runtree.integrations import transformers as integration

from . import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # PEFT looks for the base model of a model that was made from a config.
    pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning"),
]


def base_model() -> Any:
    """The model that adapters are trained for, with a directory of its own."""
    place = Path("base")
    if not place.is_dir():
        tiny.tiny_model().save_pretrained(place)
    return AutoModelForCausalLM.from_pretrained(place)


def with_adapter(kind: str, args: Any, callbacks: list[Any]) -> Any:
    model = base_model()
    tiny.torch.manual_seed(7)
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"]))
    data = tiny.tiny_data()
    chosen = tiny.MixedTrainer if kind == "mixin" else Trainer
    return chosen(model, args, train_dataset=data, eval_dataset=data[:8], callbacks=callbacks)


def train(run_id: str, kind: str, **keywords: Any) -> Any:
    return tiny.train(run_id, kind=kind, trainer=with_adapter, label_names=["labels"], **keywords)


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_an_adapter_that_was_killed_ends_as_one_that_was_not(kind: str) -> None:
    base_model()
    assert tiny.in_a_process(train, run_id="killed", kind=kind, kill_at=5) == -9
    resumed, callback = train("killed", kind)
    whole, _ = train("whole", kind)
    assert callback.run.resumed_from is not None
    assert callback.run.resumed_from.step == 4
    assert tiny.differing(tiny.final_state(resumed), tiny.final_state(whole)) == []
    # The adapter alone: the base model is not in there.
    names = [each["name"] for each in callback.run.checkpoint().tensors()]
    assert any("lora_A" in name for name in names)
    assert not any(name.endswith("embed_tokens.weight") for name in names)
    assert callback.run.config["peft"]["default"]["r"] == 2


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_an_adapter_loads_by_reference_and_forks_with_another_rate(kind: str) -> None:
    trainer, callback = train(
        "parent", kind, max_steps=4, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True
    )
    run = callback.run
    [best] = [each for each in run.checkpoints() if "best" in each.tags]
    address = f"runtree://{run.display_id}@{best.step}"
    integration.enable_urls()
    try:
        again = PeftModel.from_pretrained(base_model(), address)
        assert PeftConfig.from_pretrained(address).r == 2
        twice = get_peft_model(base_model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        twice.load_adapter(address, "second")
    finally:
        integration.disable_urls()
    ours = {name: value for name, value in trainer.model.state_dict().items() if "lora" in name}
    theirs = {name: value for name, value in again.state_dict().items() if "lora" in name}
    assert ours
    assert tiny.differing(ours, theirs) == []
    second = {
        name.replace(".second.", ".default."): value for name, value in twice.state_dict().items() if ".second." in name
    }
    assert tiny.differing(ours, second) == []

    rates = tiny.Rates()
    train(
        "fork", kind, callback={"fork": "parent@2"}, learning_rate=1e-4, lr_scheduler_type="constant", max_steps=4,
        callbacks=[rates],
    )  # fmt: skip
    assert {step: set(each) for step, each in rates.of.items()} == {3: {1e-4}, 4: {1e-4}}
    assert runtree.Store().run("fork").fork_step == 2
