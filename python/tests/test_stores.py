"""Stores that talk to each other, from Python. Beside ``scripts/with-s3`` the other store is in a real bucket, too."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest

import runtree

_BUCKET = os.environ.get("RUNTREE_TEST_BUCKET")


def trained(store: str | None = None) -> runtree.Run:
    run = runtree.init("p", store=store, config={"lr": 0.1}, system_metrics=False)
    for step in range(21):
        run.log({"loss": 1 / (step + 1)}, step=step)
        if step % 10 == 0:
            run.save({"w": numpy.full(1000, step, "f4")})
    run.finish()
    return run


def assert_whole(run: runtree.StoredRun) -> None:
    assert [each.step for each in run.checkpoints()] == [0, 10, 20]
    assert (run.checkpoint(10).load()["w"] == 10).all()
    assert len(run.history("loss")) == 21
    assert run.config["lr"] == 0.1


def test_a_store_is_pushed_and_pulled_back(place: str, tmp_path: Path) -> None:
    run = trained()
    looked = run.store.push(place, dry_run=True)
    assert looked["copied"] is None
    assert looked["checkpoints"] == 3
    pushed = run.store.push(place)
    assert pushed["copied"]["checkpoints"] == 3
    there = runtree.Store(place)
    assert_whole(there.run(run.display_id))
    assert run.store.push(place)["copied"]["bytes"] == 0
    home = runtree.Store(tmp_path / "home", create=True)
    pulled = home.pull(place, [f"{run.display_id}@10"])
    assert pulled["copied"]["checkpoints"] == 1
    assert [each.step for each in home.run(run.display_id).checkpoints()] == [10]
    home.pull(place)
    assert_whole(home.run(run.display_id))


def test_a_run_trains_wherever_its_store_is(place: str) -> None:
    run = trained(place)
    store = runtree.Store(place)
    assert store.location == place
    assert_whole(store.run(run.id))
    fork = runtree.init("p", store=place, fork=f"{run.id}@10", system_metrics=False)
    assert fork.next_step == 11
    fork.log({"loss": 0.0})
    fork.delete_checkpoints("loss:min")
    fork.finish()
    assert [each.step for each in fork.checkpoints()] == [0, 10]


def test_a_store_in_a_bucket_has_no_directory(place: str) -> None:
    store = runtree.Store(place, create=True)
    if "://" in place:
        assert store.directory is None
        with pytest.raises(runtree.Invalid, match="in a bucket"):
            _ = store.path
    else:
        assert store.directory == store.path == Path(place)


def test_what_is_no_store_says_what_one_is() -> None:
    with pytest.raises(runtree.Invalid, match="no kind of bucket") as wrong:
        runtree.Store("ftp://host/x")
    assert "s3://bucket/prefix" in str(wrong.value)


@pytest.mark.skipif(not _BUCKET, reason="no scripts/with-s3")
def test_missing_and_empty_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(runtree.NotFound, match="does not exist"):
        runtree.Store("s3://no-such-bucket/x")
    with pytest.raises(runtree.NotFound, match="is empty"):
        runtree.Store(f"{_BUCKET}/nothing-here")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(runtree.Denied, match="may not be accessed"):
        runtree.Store(f"{_BUCKET}/nothing-there")
