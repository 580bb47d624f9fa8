"""``docs/truss-train.md``: its code runs, and its table of variables is the contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runtree.compat.truss_train import Image, Job, TrainingJob, TrainingProject
from runtree.compat.truss_train.variables import variables

PAGE = Path(__file__).parents[3] / "docs" / "truss-train.md"
CONFIG = Path(__file__).parent / "samples" / "loading.md"


def test_the_code_runs_as_it_is_shown(tmp_path: Path) -> None:
    (complete,) = re.findall(r"```python\n(from truss_train.*?)```", CONFIG.read_text(), re.DOTALL)
    (tmp_path / "work" / "training").mkdir()
    (tmp_path / "work" / "training" / "config.py").write_text(complete)
    names: dict[str, Any] = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)), str(PAGE), "exec"), names)
    assert names["made"].files.root == str(tmp_path / "work" / "training")


def test_the_table_of_variables_is_the_contract() -> None:
    rows = re.findall(r"^\| (`BT_.*?) \| (.*?) \|$", PAGE.read_text(), re.MULTILINE)
    documented = {
        name: condition.replace("`", "") for names, condition in rows for name in re.findall(r"`(BT_\w+)`", names)
    }
    project = TrainingProject(name="p", job=TrainingJob(image=Image(base_image="i")))
    assert documented == {each.name: each.when.split(":")[0] for each in variables(project, Job())}
