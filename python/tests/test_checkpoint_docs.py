"""``docs/checkpoint-config.md``: its code runs as it is shown, and its table has every flag, field and default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree

PAGE = Path(__file__).parents[2] / "docs" / "checkpoint-config.md"


def code() -> dict[str, Any]:
    """The names that the page's Python makes."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile("\n".join(blocks), str(PAGE), "exec", dont_inherit=True), names)
    return names


def test_the_split_run_of_the_page_equals_an_unsplit_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main = code()["main"]
    text = re.search(r"```\n(train\.py --max-steps 20.*?)```", PAGE.read_text(), re.DOTALL)
    assert text is not None
    lines = [re.split(r" {2,}", line)[0].split()[1:] for line in text[1].splitlines()]
    assert len(lines) == 2
    assert [each.step for each in main(["--max-steps", "30"]).checkpoints(pending=True)] == []
    for argv in lines:
        split = main(argv)
    assert [each.step for each in split.checkpoints()] == [20, 40]
    monkeypatch.setenv("RUNTREE_STORE", str(tmp_path / "other"))
    whole = main(["--max-steps", "40", "--ckpt"])
    assert (
        split.load()["progress"] == whole.load()["progress"] == {"step": 40, "total_samples": 320, "total_tokens": 4000}
    )
    assert np.array_equal(split.load()["model"]["w"], whole.load()["model"]["w"])
    assert split.history("loss").values.tolist() == whole.history("loss").values.tolist()


def test_the_file_of_the_page_is_read_as_it_says() -> None:
    toml = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert toml is not None
    Path("train.toml").write_text(toml[1])
    config, settings = code()["settings"](["@", "train.toml", "--ckpt.keep-last", "3"])
    assert config == runtree.CheckpointConfig(interval=10, keep_last=3, resume_step=20)
    assert settings == {"max_steps": 40}


def test_trainer_and_orchestrator_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    process = code()["process"]
    for number, (argv, last, expected) in enumerate(((["--ckpt"], 3, None), (["--ckpt.resume-step", "3"], 5, 3))):
        monkeypatch.setenv("RUNTREE_ATTEMPT", str(number))
        assert [process(component, argv, last) for component in ("orchestrator", "trainer")] == [expected] * 2
        # Here both are one process, and have one run.
        for run in list(runtree._live._runs.values()):  # type: ignore[attr-defined]
            run.finish()
    assert [each.step for each in runtree.Store().run("rl").checkpoints()] == [3, 5]


def test_the_error_of_the_page_is_what_is_raised() -> None:
    said = re.search(r"runtree\.errors\.Invalid: (3 problems.*?)```", PAGE.read_text(), re.DOTALL)
    assert said is not None
    with pytest.raises(runtree.Invalid) as raised:
        runtree.CheckpointConfig.parse(
            ["--ckpt.interval", "0", "--ckpt.keep-last", "x", "--ckpt.resume-step", "3", "--resume"]
        )
    assert str(raised.value) == said[1].strip()


def test_the_table_has_every_field() -> None:
    rows = re.findall(r"^\| (`--(?:ckpt|resume).*?) \| (.*?) \| (.*?) \| .*\|$", PAGE.read_text(), re.MULTILINE)
    named = {name for _, field, _ in rows for name in re.findall(r"`(\w+)", field)}
    fields = {field.name for field in dataclasses.fields(runtree.CheckpointConfig)}
    assert named == fields - {"load_only"}
    for flags, field, default in rows:
        for name in re.findall(r"`(\w+)`", field):
            value = getattr(runtree.CheckpointConfig(), name)
            assert default == "" or default.startswith("off" if value is False else str(value)), (flags, default)
            flag = re.findall(r"--ckpt\.[\w-]+", flags)
            assert flag in ([], [f"--ckpt.{name.replace('_', '-')}"])
