"""``docs/art.md``: its code runs, and its tables name every row's test, and no test that is not there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import runtree

from .made import write_adapter

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "art.md"


def test_the_tables_name_every_row_and_nothing_else() -> None:
    there = {
        name
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named <= there
    assert {name for name in there if name.startswith(("test_row_", "test_rows_"))} <= named


def test_the_code_runs_as_it_is_shown() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    rates: list[float] = []

    def save_adapter(target: Path, learning_rate: float) -> None:
        rates.append(learning_rate)
        write_adapter(target, len(rates))

    names: dict[str, Any] = {"save_adapter": save_adapter}
    exec(compile(code, str(PAGE), "exec"), names)
    first = asyncio.run(names["main"]("first", 2))
    assert first.run is not None
    # The reward was the same in each step: the later one is the best, and the newest.
    assert [each.step for each in first.run.checkpoints()] == [2]
    assert first.run.history("train/loss").steps.tolist() == [1, 2]
    lower = asyncio.run(names["lower"]("second"))
    assert lower.run is not None
    assert (lower.run.fork_step, lower.run.parent) == (2, first.run.display_id)
    assert rates == [1e-5, 1e-5, 1e-6]
    asyncio.run(names["main"]("first", 4))
    assert runtree.Store().run("first").attempt == 2
    # What a fork starts from stays.
    assert [each.step for each in runtree.Store().run("first").checkpoints()] == [2, 4]
