"""A run as one HTML file. The command does it: it carries the pages, the library does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runtree import errors

_KINDS: dict[int, type[errors.Error]] = {
    3: errors.NotFound,
    4: errors.Conflict,
    5: errors.Invalid,
    6: errors.Denied,
    7: errors.Unavailable,
    8: errors.Corrupt,
    9: errors.Unsupported,
}


def export_html(store: str, run: str, path: Path) -> None:
    """Runs ``runtree export-html``, and raises what it says."""
    command = [
        sys.executable,
        "-m",
        "runtree",
        "--store",
        os.fspath(store),
        "--quiet",
        "export-html",
        run,
        "-o",
        os.fspath(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    text = done.stderr.strip() or f"runtree export-html ended with {done.returncode}"
    message, _, hint = text.removeprefix("error: ").partition("\nhint: ")
    raise _KINDS.get(done.returncode, errors.Internal)(message, hint=hint or None)
