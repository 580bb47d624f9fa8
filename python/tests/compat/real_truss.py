"""The real ``truss_train``, beside the tests' own packages: installed once, into ``target/``, and asked in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_TRUSS = "truss>=0.18,<0.19"
_NEEDED = HERE / "truss_requirements.txt"
_REPOSITORY = HERE.parents[2]


def installed() -> Path:
    """Where it is. A directory is renamed to its place when it is whole, so that it does not matter who else makes it."""
    made_of = f"{_TRUSS} {sys.version_info[:2]} {_NEEDED.read_text()}"
    place = _REPOSITORY / "target" / f"truss-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not place.exists():
        making = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            _pip(making, "--no-deps", _TRUSS)
            _pip(making, "-r", str(_NEEDED))
            with contextlib.suppress(OSError):  # Somebody else was faster.
                making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return place


def ask(place: Path, program: Path, question: Any) -> Any:
    """What a program of the tests answers with the real package, and nothing else but the standard library: JSON in, JSON out."""
    # -S: without the packages that the tests themselves have.
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", program],
        input=json.dumps(question),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _pip(place: Path, *what: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--target", str(place), *what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    installed()
