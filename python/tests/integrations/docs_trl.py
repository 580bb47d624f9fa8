"""What ``docs/integrations/trl.md`` takes for granted, and what its code has done."""

from __future__ import annotations

from typing import Any

from runtree import _live


def given() -> dict[str, Any]:
    from . import tiny

    texts = [{"text": " ".join(tiny.WORDS[(row * place) % 28] for place in range(1, 7))} for row in range(1, 17)]
    return {"make_model": tiny.tiny_model, "make_tokenizer": tiny.tiny_tokenizer, "make_texts": lambda: texts}


def check(names: dict[str, Any]) -> None:
    for run in list(_live._runs.values()):
        run.finish()
    parent, lower = names["parent"].run, names["lower"].run
    assert [each.step for each in parent.checkpoints()] == [2, 4]
    assert lower.fork_step == 2
    # Linear, to nothing in four steps; the third is the fork's first.
    assert lower.history("train/learning_rate").values.tolist()[2:] == [1e-5 * 2 / 4, 1e-5 * 1 / 4]
    assert parent.history("train/learning_rate").values.tolist()[2:] == [1e-4 * 2 / 4, 1e-4 * 1 / 4]
    assert "train/mean_token_accuracy" in parent.metrics
