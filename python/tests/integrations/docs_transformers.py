"""What ``docs/integrations/transformers.md`` takes for granted, and what its code has done."""

from __future__ import annotations

import os
from typing import Any

import runtree
from runtree import _live


def given() -> dict[str, Any]:
    from . import tiny

    return {"make_model": tiny.tiny_model, "make_data": tiny.tiny_data}


def check(names: dict[str, Any]) -> None:
    for run in list(_live._runs.values()):
        run.finish()
    from safetensors.torch import load_file

    from . import tiny

    names["integration"].disable_urls()
    store = runtree.Store()
    assert [each.step for each in store.run("llama-sft").checkpoints()] == [2, 4, 6]
    assert os.listdir("out") == ["checkpoint-6"]
    fork = names["forked"].run
    assert fork.fork_step == 4
    # Linear, from 1e-6 to nothing in six steps.
    assert fork.history("train/learning_rate").values[4] == 1e-6 * 2 / 6
    fast = store.run("fast-sft")
    assert [each.step for each in fast.checkpoints()] == [4, 6]
    assert not os.listdir("out-fast")
    weights = load_file(store.run("llama-sft").dir(4) / "model.safetensors")
    assert tiny.differing(dict(names["model"].state_dict()), weights) == []
    best = fast.checkpoint("best:train/loss:min")
    assert tiny.differing(dict(names["best"].state_dict()), dict(best.load()["model"])) == []
    assert [each.step for each in store.run("auto").checkpoints()] == [2]
