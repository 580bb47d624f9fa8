"""docs/jobs.md, executed as it stands, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "runtree").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m runtree "$@"\n')
    (bin_dir / "runtree").chmod(0o755)
    environment = {**os.environ, "RUNTREE_STORE": "store", "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    for kind, code in BLOCKS:
        command = ["sh", "-euc", code] if kind == "sh" else [sys.executable, "-c", code]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, f"{code}\n{ran.stdout}{ran.stderr}"
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "sh", "python"]
