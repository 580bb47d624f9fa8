"""The real ART (OpenPipe's), beside the tests' own packages: installed once, into ``target/``, and run in a process of its own."""

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
_ART = "openpipe-art==0.5.18"
_NEEDED = HERE / "art_requirements.txt"
_REPOSITORY = HERE.parents[2]


def installed() -> Path:
    """Where it is. A directory is renamed to its place when it is whole, so that it does not matter who else makes it."""
    made_of = f"{_ART} {sys.version_info[:2]} {_NEEDED.read_text()}"
    place = _REPOSITORY / "target" / f"art-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not place.exists():
        making = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            _pip(making, "--no-deps", _ART)
            _pip(making, "-r", str(_NEEDED))
            with contextlib.suppress(OSError):  # Somebody else was faster.
                making.rename(place)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return place


def run(program: Path, *arguments: str) -> Any:
    """What a program says on its last line, as JSON. It sees the real package, and what the tests have."""
    path = os.pathsep.join([str(installed()), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-W", "error::runtree.errors.RuntreeWarning", str(program), *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return json.loads(done.stdout.splitlines()[-1])


def _pip(place: Path, *what: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run(
        [*command, "--only-binary", ":all:", "--target", str(place), *what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    print(installed())
