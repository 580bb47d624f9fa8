"""What libraries leave in the process they run in is gone with the test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_NAMES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Lightning tells processes that it starts who they are by variables of this one."""
    before = {name: os.environ.get(name) for name in _NAMES}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
