"""Where models come from: a store or ART's directories, here, elsewhere, in a bucket; and the real truss_train."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtree.compat import art
from runtree.compat.art.local import LocalBackend
from runtree.compat.truss_train.installing import standing_in

from . import describe, made
from . import real_truss as real_truss_package

_BUCKET = os.environ.get("RUNTREE_TEST_BUCKET", "").removeprefix("s3://")
_numbers = itertools.count()

in_bucket = pytest.mark.skipif(not _BUCKET, reason="no scripts/with-s3")


class Origin:
    """A place that models are forked from."""

    def __init__(self, kind: str, tmp_path: Path) -> None:
        self.kind = kind
        self._tmp_path = tmp_path
        self._prefix = f"art-{os.getpid()}-{next(_numbers)}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What names it in a fork."""
        if self.kind in _HERE:
            return {}
        if "bucket" in self.kind:
            return {"from_s3_bucket": _BUCKET, "prefix": self._prefix}
        return {"from_s3_bucket": str(self._tmp_path / "elsewhere")}

    def put(self, name: str, steps: Mapping[int, float], **facts: Any) -> None:
        """Puts a model there, with a checkpoint of each step whose weights are all its value."""
        if "art" in self.kind:
            root = self._tmp_path / {"art": "work/.art", "art elsewhere": "elsewhere"}.get(self.kind, "sent")
            made.write_art(root, name, steps, **facts)
            if "bucket" in self.kind:
                made.put_tree(_BUCKET, self._prefix, root)
            return
        made.write_run(name, steps, store=self.store, **facts)

    @property
    def store(self) -> str | None:
        """The store, if it is one."""
        return {"store": None, "store elsewhere": str(self._tmp_path / "elsewhere")}.get(
            self.kind, f"s3://{_BUCKET}/{self._prefix}"
        )


_MARKS = {"store in bucket": in_bucket, "art in bucket": in_bucket}
_HERE = ["store", "art"]
_ELSEWHERE = ["store elsewhere", "art elsewhere", "store in bucket", "art in bucket"]


def _kinds(kinds: list[str]) -> list[Any]:
    return [pytest.param(kind, marks=_MARKS.get(kind, ())) for kind in kinds]


@pytest.fixture(params=_kinds(_HERE + _ELSEWHERE))
def origin(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """Each kind of place."""
    return Origin(request.param, tmp_path)


@pytest.fixture(params=_kinds(_HERE))
def beside(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """Each kind that is looked at without a name."""
    return Origin(request.param, tmp_path)


@pytest.fixture(params=_kinds(_ELSEWHERE))
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """Each kind that is named."""
    return Origin(request.param, tmp_path)


@pytest.fixture(params=_kinds([kind for kind in _ELSEWHERE if "store" in kind]))
def other_store(request: pytest.FixtureRequest, tmp_path: Path) -> Origin:
    """Each other store."""
    return Origin(request.param, tmp_path)


@pytest.fixture
def backend() -> Callable[..., LocalBackend]:
    """A backend that trains by adding one, with the store and the ``.art`` of the working directory."""

    def make(**given: Any) -> LocalBackend:
        return LocalBackend(**{"trainer": made.add_one, "init": made.QUIET, **given})

    return make


@pytest.fixture(autouse=True)
def no_trainer() -> Iterator[None]:
    """What a test makes the trainer of all is not another's."""
    yield
    art.trainer(None)


@pytest.fixture(scope="session")
def real_truss() -> Path:
    """Where the real ``truss_train`` is installed."""
    return real_truss_package.installed()


@pytest.fixture(scope="session")
def both(real_truss: Path) -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    """Asks runtree's classes and the real ones the same (``describe.py``)."""

    def ask(question: dict[str, Any]) -> tuple[Any, Any]:
        with standing_in():
            ours = describe.answer(question)
        # As JSON has it: no tuples.
        real = real_truss_package.ask(real_truss, Path(describe.__file__), question)
        return json.loads(json.dumps(ours)), real

    return ask
