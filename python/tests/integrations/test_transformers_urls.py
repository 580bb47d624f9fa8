"""``runtree://`` where Transformers takes a path; autolog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaForCausalLM,
    Trainer,
)

import runtree
from runtree.integrations import transformers as integration
from runtree.integrations.transformers import RuntreeCallback

from . import tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def urls() -> Iterator[None]:
    integration.enable_urls()
    integration.enable_urls()
    yield
    integration.disable_urls()


@pytest.mark.parametrize("kind", ["callback", "mixin"])
def test_models_tokenizers_and_configs_load_by_reference(kind: str, urls: None) -> None:
    trainer, callback = tiny.train("urls", kind=kind, max_steps=4, eval_strategy="steps", eval_steps=2)
    run = callback.run.display_id
    best = f"runtree://{run}@best:eval/loss:min"
    for name in (f"runtree://{run}", f"runtree://tiny/{run}@4", best):
        step = runtree.Store().checkpoint(name.removeprefix("runtree://")).step
        model = AutoModelForCausalLM.from_pretrained(name)
        assert isinstance(model, LlamaForCausalLM)
        if step == 4:
            assert tiny.differing(dict(model.state_dict()), dict(trainer.model.state_dict())) == []
    assert LlamaForCausalLM.from_pretrained(pretrained_model_name_or_path=best).config.hidden_size == 16
    assert AutoModel.from_pretrained(best).config.hidden_size == 16
    assert AutoConfig.from_pretrained(best).vocab_size == 32
    assert AutoTokenizer.from_pretrained(best)("w0")["input_ids"] == [4]
    assert GenerationConfig.from_pretrained(best).pad_token_id == 0


def test_an_address_may_name_its_store(urls: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, callback = tiny.train("away", kind="mixin", max_steps=2, callback={"store": str(tmp_path / "away")})
    place = callback.run.store.location
    address = callback.run.display_id
    monkeypatch.setenv("RUNTREE_STORE", str(tmp_path / "here"))
    assert AutoConfig.from_pretrained(f"runtree://{place}#{address}@2").hidden_size == 16


def test_what_is_wrong_is_said_in_runtrees_words_and_the_hook_can_be_taken_out(urls: None) -> None:
    tiny.train("known", max_steps=2)
    with pytest.raises(runtree.NotFound, match="2"):
        AutoConfig.from_pretrained("runtree://known@7")
    before = vars(LlamaForCausalLM).get("from_pretrained")
    integration.disable_urls()
    assert vars(LlamaForCausalLM).get("from_pretrained") is before
    with pytest.raises(OSError, match="runtree://known@2"):
        AutoConfig.from_pretrained("runtree://known@2")


def test_autolog_gives_every_new_trainer_the_callback_once_and_can_be_undone() -> None:
    def callbacks(trainer: Trainer) -> list[RuntreeCallback]:
        return [each for each in trainer.callback_handler.callbacks if isinstance(each, RuntreeCallback)]

    original = Trainer.__init__
    with pytest.raises(runtree.Invalid):
        integration.autolog(on_fork="nothing")
    with pytest.raises(TypeError, match="projekt: neither the callback nor runtree.init takes that"):
        integration.autolog(projekt="logged")
    assert Trainer.__init__ is original
    integration.autolog(project="logged", run_id="first", **tiny.QUIET)
    integration.autolog(project="logged", run_id="auto", **tiny.QUIET)
    try:
        own = RuntreeCallback(project="tiny", **tiny.QUIET)
        data = tiny.tiny_data()
        with_own = Trainer(tiny.tiny_model(), tiny.arguments(), train_dataset=data, callbacks=[own])
        assert callbacks(with_own) == [own]
        assert len(callbacks(tiny.MixedTrainer(tiny.tiny_model(), tiny.arguments(), train_dataset=data))) == 1
        trainer = Trainer(tiny.tiny_model(), tiny.arguments(max_steps=4), train_dataset=data)
        [made] = callbacks(trainer)
        trainer.train()
    finally:
        integration.undo()
    made.run.finish()
    assert Trainer.__init__ is original
    assert [each.step for each in runtree.Store().run("auto").checkpoints()] == [2, 4]
    assert callbacks(Trainer(tiny.tiny_model(), tiny.arguments(), train_dataset=data)) == []
