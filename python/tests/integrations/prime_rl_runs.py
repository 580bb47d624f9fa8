"""What two ranks wrote as prime-rl writes it, once for all tests that look at it: files, and a run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_WRITER = Path(__file__).with_name("prime_rl_writer.py")
_made: list[Path] = []


def written(factory: pytest.TempPathFactory) -> Path:
    """A directory: ``outputs`` as prime-rl has it, ``store`` with the run ``math``."""
    if not _made:
        place = factory.mktemp("prime-rl")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        own = {"RUNTREE_STORE": str(place / "store"), "RUNTREE_ATTEMPT": "1", "XDG_CACHE_HOME": str(place / "cache")}
        ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", str(_WRITER), str(place / "outputs")],
                env={**os.environ, **group, **own, "RANK": str(rank)},
            )
            for rank in range(2)
        ]
        assert [rank.wait(250) for rank in ranks] == [0, 0]
        _made.append(place)
    return _made[0]
