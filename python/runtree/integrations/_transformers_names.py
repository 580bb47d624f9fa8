"""What Transformers calls its metrics and settings, and what they are called in a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from runtree._redact import is_secret_key


def metric_names(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a log by the names that the Trainer's own W&B callback gives them: ``eval/…``, ``test/…``, the rest ``train/…``."""
    found: dict[str, Any] = {}
    for name, value in logs.items():
        if isinstance(value, (str, bytes, bool, type(None), Mapping, list, tuple)):
            continue
        group, _, rest = name.partition("_")
        found[f"{group}/{rest}" if group in ("eval", "test") and rest else f"train/{name}"] = value
    return found


def config_of(args: Any, model: Any) -> dict[str, Any]:
    """The config of a training: its arguments uppermost, those of the model below ``model``, of PEFT below ``peft``. No secrets."""
    config = _clean(args.to_dict())
    settings = getattr(model, "config", None)
    if settings is not None:
        config["model"] = _clean(settings if isinstance(settings, Mapping) else settings.to_dict())
    adapters: Any = getattr(model, "peft_config", None)
    if adapters is not None:
        named = cast("Mapping[str, Any]", adapters) if isinstance(adapters, Mapping) else {"default": adapters}
        config["peft"] = _clean({name: each.to_dict() for name, each in named.items()})
    if hasattr(model, "num_parameters"):
        config["num_parameters"] = int(model.num_parameters())
    return config


def _clean(value: Any) -> Any:
    """Plain data: no secrets, no infinities that JSON has not, text for what is neither."""
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): _clean(each) for key, each in items if not is_secret_key(str(key))}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, cast("set[Any]", value)))
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in cast("list[Any]", value)]
    if isinstance(value, (str, int, float, type(None))):
        return value
    return json.loads(json.dumps(value, default=str))
