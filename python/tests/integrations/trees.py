"""Directories as the tests of integrations compare them: names, kinds, modes, links and bytes."""

from __future__ import annotations

import stat
from pathlib import Path

Look = dict[str, tuple[str, int, bytes]]


def look(root: Path) -> Look:
    """Everything below a directory: kind, permission bits and content (a link's target) by name."""
    found: Look = {}
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            found[name] = ("directory", 0, b"")
        else:
            found[name] = ("file", stat.S_IMODE(mode), path.read_bytes())
    return found
