"""Every test has a store, a cache and an environment of its own."""

from __future__ import annotations

import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import runtree
from runtree import _live, _warn
from runtree.store import _open

settings.register_profile(
    "fast", max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("slow", parent=settings.get_profile("fast"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


# Read before the environment is swept for the first test.
_BUCKET = os.environ.get("RUNTREE_TEST_BUCKET")
_places = itertools.count()


@pytest.fixture(
    params=["directory", pytest.param("bucket", marks=pytest.mark.skipif(not _BUCKET, reason="no scripts/with-s3"))]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where another store may be made: a directory and, beside ``scripts/with-s3``, a real bucket."""
    if request.param == "directory":
        return str(tmp_path / "other")
    return f"{_BUCKET}/python-{os.getpid()}-{next(_places)}"


@pytest.fixture(scope="session")
def memory_dir() -> Iterator[str]:
    """Where processes stage, so that what those that are killed leave goes with the tests."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield path


@pytest.fixture(autouse=True)
def hermetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_dir: str) -> Iterator[None]:
    """No variable of the outside, no run of another test."""
    for name in list(os.environ):
        if name.startswith(("RUNTREE_", "SLURM_", "TORCHELASTIC_", "OMPI_")) or name in (
            "RANK",
            "WORLD_SIZE",
            "LOCAL_RANK",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNTREE_STAGING_DIR", memory_dir)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    _warn._seen.clear()
    yield
    for run in list(_live._runs.values()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                run.finish()
            except runtree.Error:
                pass
    _open.clear()


@pytest.fixture
def start() -> Callable[..., runtree.Run]:
    """``runtree.init`` without capture, sampling and environment, which tests of other things do not need."""

    def init(project: str = "digits", *args: Any, **keywords: Any) -> runtree.Run:
        return runtree.init(
            project, *args, **{"console": False, "system_metrics": False, "environment": False, **keywords}
        )

    return init


@pytest.fixture
def round_trip(start: Callable[..., runtree.Run]) -> Callable[[Any], Any]:
    """Saves a state and loads it."""
    run = start()

    def save_and_load(state: Any, **keywords: Any) -> Any:
        return run.load(run.save({"it": state}, step=0).result(), **keywords)["it"]

    return save_and_load


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begins the next launch, of however many processes."""
    count = itertools.count()

    def begin() -> None:
        monkeypatch.setenv("RUNTREE_ATTEMPT", f"launch-{next(count)}")

    begin()
    return begin


@pytest.fixture
def again(start: Callable[..., runtree.Run], launch: Callable[[], None]) -> Callable[..., runtree.Run]:
    """The next launch of the run with the key ``sft``."""

    def resumed(**keywords: Any) -> runtree.Run:
        launch()
        return start(**{"run_id": "sft", "resume": "must", **keywords})

    return resumed
