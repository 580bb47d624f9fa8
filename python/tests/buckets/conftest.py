"""Tests of stores in a bucket, with a proxy between. They need ``scripts/with-s3``."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runtree
from buckets.proxy import Proxy
from runtree.store import _open

# Before the tests' own environment hides it.
BUCKET = os.environ.get("RUNTREE_TEST_BUCKET")
Start = Callable[..., runtree.Run]
Fresh = Callable[..., runtree.Store]
# `make chaos`.
LONG = "RUNTREE_CHAOS_SECONDS" in os.environ
SEED = int(os.environ.get("RUNTREE_SEED", random.randrange(1 << 30)))
_places = itertools.count()


@pytest.fixture
def server() -> str:
    """The address of the S3 server itself."""
    if not BUCKET:
        pytest.skip("no scripts/with-s3")
    return os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What everything in this test, and its child processes, takes for the server."""
    print(f"RUNTREE_SEED={SEED}")
    with Proxy(server, seed=SEED) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.fixture
def place() -> str:
    """Where in the bucket a store may be made."""
    return f"{BUCKET}/faults-{os.getpid()}-{next(_places)}"


@pytest.fixture
def fresh(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    """Opens a store as a machine that never saw it, past the proxy: with a cache of its own, by the server's address."""

    def open_anew(place: str, cache: str = "fresh") -> runtree.Store:
        _open.clear()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        return runtree.Store(place)

    return open_anew
