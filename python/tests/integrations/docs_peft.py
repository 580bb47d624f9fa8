"""What ``docs/integrations/peft.md`` takes for granted, and what its code has done."""

from __future__ import annotations

from typing import Any

import runtree
from runtree import _live


def given() -> dict[str, Any]:
    from . import tiny

    return {"make_model": tiny.tiny_model, "make_data": tiny.tiny_data}


def check(names: dict[str, Any]) -> None:
    for run in list(_live._runs.values()):
        run.finish()
    from runtree.integrations.transformers import disable_urls

    from . import tiny

    disable_urls()
    ours = {name: value for name, value in names["trained"].model.state_dict().items() if "lora" in name}
    theirs = {
        name: value for name, value in names["model"].state_dict().items() if "lora" in name and ".default." in name
    }
    earlier = {name.replace(".earlier.", ".default."): value for name, value in names["model"].state_dict().items()
               if ".earlier." in name}  # fmt: skip
    assert ours
    assert tiny.differing(ours, theirs) == []
    assert ours.keys() == earlier.keys()
    assert tiny.differing(ours, earlier) != []
    tensors = runtree.Store().checkpoint("adapter@4").tensors()
    assert not any(each["name"].endswith("embed_tokens.weight") for each in tensors)
