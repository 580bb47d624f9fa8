"""What classes of ``truss_train`` make of what they are given, as JSON: of the real ones as a program, of runtree's as a function."""

from __future__ import annotations

import json
import sys
from typing import Any


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Fields of classes, outcomes of expressions, dumps of what snippets define."""
    names = _names()
    return {
        "fields": {each: _fields(names[each], names) for each in question.get("classes", [])},
        "outcomes": [_outcome(each, dict(names)) for each in question.get("expressions", [])],
        "snippets": [_snippet(each, names) for each in question.get("snippets", [])],
        "exported": sorted(__import__("truss_train").__all__),
    }


def _names() -> dict[str, Any]:
    import truss_train
    from truss.base import truss_config
    from truss_train import definitions

    return {
        "truss_train": truss_train,
        "truss_config": truss_config,
        "definitions": definitions,
        **{name: value for name, value in vars(truss_config).items() if isinstance(value, type)},
        # After it: both have a CheckpointList.
        **{name: value for name, value in vars(definitions).items() if isinstance(value, type)},
    }


def _fields(of: Any, names: dict[str, Any]) -> list[str]:
    return list(getattr(of, "model_fields", None) or of._fields)


def _outcome(expression: str, names: dict[str, Any]) -> Any:
    """``name = value; expression`` too: a statement before the last ``;`` is executed."""
    *statements, last = expression.split("; ")
    try:
        for each in statements:
            exec(each, names)
        return _shown(eval(last, names))
    except Exception as error:
        if hasattr(error, "errors"):
            return {"refused": [[repr(each["loc"]), each["type"], each["msg"]] for each in error.errors()]}
        return {"raised": type(error).__name__, "message": str(error)}


def _snippet(source: str, names: dict[str, Any]) -> Any:
    found: dict[str, Any] = {}
    exec(compile(source, "snippet", "exec"), found)
    return {
        name: _shown(value)
        for name, value in found.items()
        if hasattr(value, "model_dump") and not isinstance(value, type)
    }


def _shown(value: Any) -> Any:
    if not hasattr(value, "model_dump"):
        return repr(value)
    return {
        "repr": repr(value),
        "str": str(value),
        "dump": repr(value.model_dump()),
        "json": repr(value.model_dump(mode="json")),
        "document": value.model_dump_json(),
        "unset": repr(value.model_dump(exclude_unset=True)),
        "defaults": repr(value.model_dump(exclude_defaults=True)),
        "none": repr(value.model_dump(exclude_none=True)),
        "set": sorted(value.model_fields_set),
        "job": _shown(value.job) if hasattr(value, "job") else None,
    }


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
