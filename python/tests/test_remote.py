"""Runs with a remote, and forks from another store. Beside ``scripts/with-s3`` the other store is in a real bucket, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

import runtree


def state(step: int) -> dict[str, Any]:
    return {"w": numpy.full(1000, step, "f4"), "step": step}


def train(run: runtree.Run, steps: range, every: int = 10) -> None:
    for step in steps:
        run.log({"loss": 1 / (step + 1)}, step=step)
        if step % every == 0:
            run.save(state(step), step=step).result()


def start(**keywords: Any) -> runtree.Run:
    return runtree.init("p", system_metrics=False, console=False, environment=False, **keywords)


def test_a_run_is_pushed_while_it_trains(place: str) -> None:
    run = start(remote=place)
    run.log({"loss": 1.0}, step=0)
    saved = run.save(state(0), step=0).result(60, durable="remote")
    there = runtree.Store(place)
    assert there.checkpoint(f"{run.id}@0").id == saved.id
    train(run, range(1, 21))
    report = run.finish()
    assert report.remote is not None
    assert report.remote.complete, report.remote
    assert report.remote.behind == []
    assert report.remote.pushed_until is not None
    there = runtree.Store(place)
    assert [each.step for each in there.run(run.id).checkpoints()] == [0, 10, 20]
    assert (there.checkpoint(f"{run.id}@20").load()["w"] == 20).all()
    assert len(there.run(run.id).history("loss")) == 21


def test_the_environment_names_a_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_REMOTE", str(tmp_path / "far"))
    run = start()
    train(run, range(11))
    report = run.finish()
    assert report.remote is not None
    assert report.remote.location == str(tmp_path / "far")
    assert len(runtree.Store(tmp_path / "far").runs()) == 1


def test_a_remote_that_is_away_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    away = tmp_path / "far"
    away.write_text("in the way")
    run = start(run_id="k", remote=away)
    pending = run.save(state(0), step=0)
    with pytest.raises(runtree.Unavailable, match="durable here, and not at the remote"):
        pending.result(1, durable="remote")
    assert pending.result().step == 0
    health = run.health()
    assert health.remote is not None
    assert health.remote.behind == [0]
    assert health.remote.error
    with pytest.warns(runtree.RuntreeWarning, match="runtree push"):
        report = run.finish()
    assert report.remote is not None
    assert not report.remote.complete
    assert report.remote.behind == [0]
    away.unlink()
    again = start(run_id="k", resume="must", remote=away)
    report = again.finish()
    assert report.remote is not None
    assert report.remote.complete
    assert (runtree.Store(away).checkpoint(f"{run.id}@0").load()["w"] == 0).all()


def test_what_the_remote_keeps_goes_here_and_comes_back(place: str) -> None:
    run = start(remote=place, keep_local=1)
    train(run, range(31))
    run.finish()
    assert [each.step for each in run.checkpoints()] == [30]
    with pytest.raises(runtree.Unavailable, match=f"step 10 is in {place}, not here") as caught:
        run.checkpoint("<=15")
    assert caught.value.hint is not None
    assert "--restore" in caught.value.hint
    store = runtree.Store()
    store.pull(place, f"{run.id}@10", restore=True)
    assert (store.checkpoint(f"{run.id}@10").load()["w"] == 10).all()


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"keep_local": 2}, "there is none"),
        ({"keep_local": 0, "remote": "far"}, "from 1"),
        ({"keep_local": True, "remote": "far"}, "not a number"),
        ({"remote": "ftp://far"}, "no kind of bucket"),
    ],
)
def test_what_can_not_be_meant_is_refused(keywords: dict[str, Any], error: str) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        start(**keywords)


def test_the_environment_is_read_as_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_REMOTE", "ftp://far")
    with pytest.raises(runtree.Invalid, match="no kind of bucket"):
        start()
    assert not Path(".runtree").exists()


def test_a_store_is_not_its_own_remote(tmp_path: Path) -> None:
    with pytest.raises(runtree.Invalid, match="one place"):
        start(store=tmp_path / "s", remote=tmp_path / "s")


def test_a_wait_is_local_or_remote() -> None:
    run = start()
    pending = run.save(state(0), step=0)
    with pytest.raises(runtree.Invalid, match="'local', 'remote'"):
        pending.result(durable="nowhere")
    with pytest.raises(runtree.Invalid, match="pushes to no remote"):
        pending.result(durable="remote")
    run.finish()


def test_a_fork_of_another_store_takes_the_newest_at_or_before_a_step_there(place: str) -> None:
    parent = start(store=place, run_id="my-model")
    train(parent, range(41))
    parent.finish()
    # The same name and key, and later steps: not what is meant.
    lookalike = start(run_id="my-model")
    train(lookalike, range(36))
    lookalike.finish()
    run = start(fork=f"{place}#p/my-model@<=35")
    assert run.fork_step == 30
    assert run.resumed_from is not None
    assert run.resumed_from.step == 30
    assert (run.load()["w"] == 30).all()
    assert run.load()["step"] == 30
    run.log({"loss": 0.0})
    run.finish()
    assert len(run.history("loss")) == 32
    assert [each.step for each in run.checkpoints()] == [30]
    assert run.lineage()[0].run != lookalike.id
    other = runtree.Store().fork(f"{place}#p/my-model@20", name="another")
    assert other.fork_step == 20
    with pytest.raises(runtree.NotFound, match="0, 10, 20, 30, 40"):
        runtree.Store().fork(f"{place}#p/my-model@25")


def test_a_fork_of_another_store_goes_on_when_that_is_away(tmp_path: Path) -> None:
    there = tmp_path / "there"
    parent = start(store=there, run_id="src")
    train(parent, range(21))
    parent.finish()
    again = {"run_id": "child", "resume": "allow", "fork": f"{there}#p/src@<=10"}
    run = start(**again)
    run.log({"loss": 0.5}, step=11)
    run.finish()
    there.rename(tmp_path / "away")
    later = start(**again)
    assert (later.id, later.fork_step) == (run.id, 10)
    later.finish()
    # Who has not begun needs it.
    with pytest.raises(runtree.NotFound):
        start(**again | {"run_id": "another"})


def test_a_fork_of_a_store_that_is_not_there_says_so(tmp_path: Path) -> None:
    start().finish()
    with pytest.raises(runtree.NotFound, match="nowhere"):
        start(fork=f"{tmp_path / 'nowhere'}#p/a@5")
    assert not (tmp_path / "nowhere").exists()
