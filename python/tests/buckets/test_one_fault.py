"""One kind of fault at a time between a run and its bucket: nothing is lost, nothing is doubled, errors surface where they should.

P1, P3, P6 and P10 of the design. The server is real, the faults are the proxy's.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import warnings
from collections import Counter

import numpy as np
import obstore
import pytest
from obstore.store import S3Store

import runtree
from buckets.conftest import LONG, Fresh, Start
from buckets.proxy import Fault, Proxy, Rule, kind_of
from buckets.state import CHUNK, differs, state_of, value_of
from runtree.store import _open

pytestmark = pytest.mark.timeout(120)

PARENT_STEPS = range(4)
CHILD_STEPS = range(3, 7)


def is_saved(step: int) -> bool:
    return step % 2 == 0


def train(run: runtree.Run, name: str, steps: range) -> None:
    for step in steps:
        run.log({"twice": value_of(step)}, step=step)
        if is_saved(step):
            run.save(state_of(name, step), step=step).result()


def live(start: Start, place: str) -> None:
    """Everything that a bucket is asked to do for runs: made, trained on, forked, pruned with the collection after it, deleted
    from."""
    with start("p", store=place, run_id="parent") as run:
        train(run, "parent", PARENT_STEPS)
    with start("p", store=place, run_id="child", fork="p/parent@2") as child:
        assert differs(child.load(), "parent", 2) is None
        train(child, "child", CHILD_STEPS)
        child.prune(keep_last=1)
    gone = runtree.Store(place).run("parent").checkpoint(0)
    gone.delete()
    gone.undelete()


def check(store: runtree.Store, server: str) -> None:
    """What :func:`live` left is all there, and nothing twice."""
    runs = {run.key: run for run in store.runs(project="p")}
    assert sorted(run.number for run in runs.values()) == [1, 2]
    parent, child = runs["parent"], runs["child"]
    assert [each.step for each in parent.checkpoints()] == [0, 2]
    assert [each.step for each in child.checkpoints()] == [0, 2, 6]
    for run, steps in ((parent, PARENT_STEPS), (child, CHILD_STEPS)):
        assert run.status == "completed"
        for each in run.checkpoints():
            name = "child" if each.run == child.display_id else "parent"
            assert differs(each.load(), name, each.step) is None
        history = run.history("twice")
        assert history.steps.tolist() == list(range(steps[-1] + 1))
        assert history.values.tolist() == list(map(value_of, range(steps[-1] + 1)))
    assert store.verify()["problems"] == []
    # One commit and one part for each save, one launch and one birth for each run.
    objects = obstore.list(
        S3Store.from_url(store.location, endpoint=server, client_options={"allow_http": True})
    ).collect()
    kinds = Counter(kind_of(each["path"]) for each in objects)
    saves = sum(map(is_saved, [*PARENT_STEPS, *CHILD_STEPS]))
    assert (kinds["commits"], kinds["parts"], kinds["attempts"], kinds["run"]) == (saves, saves, 2, 2), kinds


MARKS = {
    Fault.ERROR: pytest.mark.skipif(not LONG, reason="as slow_down; make chaos does it"),
    Fault.SLOW: pytest.mark.skipif(not LONG, reason="make chaos does it"),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(each, id=each.name.lower(), marks=MARKS.get(each, ())) for each in Fault]
)
def test_each_kind_of_request_fails_once_and_nobody_notices(
    start: Start, place: str, proxy: Proxy, server: str, fresh: Fresh, fault: Fault
) -> None:
    runtree.Store(place, create=True)
    proxy.break_with(Rule(fault, times=1, seconds=0.05))
    live(start, place)
    print(proxy.injected)
    assert proxy.injected[fault] >= 8, "chunks, parts, commits, journals, births, launches, numbers and keys at least"
    check(fresh(place), server)


def test_a_collection_that_meets_every_fault_frees_nothing_that_is_needed(
    start: Start, place: str, proxy: Proxy, server: str, fresh: Fresh
) -> None:
    live(start, place)
    # Cut answers are not asked for again; the delays are nobody's fault.
    proxy.break_with(*(Rule(fault, times=1) for fault in Fault if fault not in (Fault.CUT, Fault.SLOW)))
    collect = [sys.executable, "-m", "runtree", "--store", place, "gc", "--grace", "0"]
    done = subprocess.run(collect, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(proxy.injected) >= 4, proxy.injected
    check(fresh(place), server)


def test_training_goes_on_while_the_bucket_is_away(start: Start, place: str, proxy: Proxy, fresh: Fresh) -> None:
    run = start("p", store=place, run_id="r")
    train(run, "r", range(4))
    proxy.away()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        began = time.monotonic()
        failing = []
        for step in range(4, 8):
            run.log({"twice": value_of(step)}, step=step)
            if is_saved(step):
                failing.append(run.save(state_of("r", step), step=step))
        blocked = time.monotonic() - began
        for save in failing:
            with pytest.raises(runtree.Unavailable):
                save.result(timeout=60)
        assert not run.health().ok
        with pytest.raises(runtree.Unavailable):
            run.checkpoint(2).load()
        proxy.back()
        train(run, "r", range(8, 11))
    assert blocked < 2, "log and save waited for the network"
    assert any("is not durable" in str(each.message) for each in told)
    with pytest.raises(runtree.LostData):
        run.finish()
    stored = fresh(place).run("r")
    assert [each.step for each in stored.checkpoints()] == [0, 2, 8, 10]
    assert stored.history("twice").steps.tolist() == list(range(11)), "points waited in memory"


def test_a_launch_on_a_bucket_that_is_away_says_so(start: Start, place: str, proxy: Proxy) -> None:
    runtree.Store(place, create=True)
    _open.clear()
    proxy.away()
    with pytest.raises(runtree.Unavailable):
        start("p", store=place)


@pytest.mark.parametrize("kind", ["chunks", "parts", "commits"])
def test_a_save_that_can_not_be_written_is_no_checkpoint(
    start: Start, place: str, proxy: Proxy, fresh: Fresh, kind: str
) -> None:
    run = start("p", store=place, run_id="r")
    train(run, "r", range(1))
    proxy.break_with(Rule(Fault.SLOW_DOWN, method="PUT", kind=kind))
    run.log({"twice": value_of(2)}, step=2)
    with pytest.raises(runtree.Unavailable):
        run.save(state_of("r", 2), step=2).result()
    proxy.break_with()
    with pytest.warns(runtree.RuntreeWarning, match="is not durable"):
        train(run, "r", range(4, 5))
    with pytest.raises(runtree.LostData, match="1-2-0"):
        run.finish()
    store = fresh(place)
    assert [each.step for each in store.run("r").checkpoints()] == [0, 4]
    assert store.verify()["problems"] == []


def test_a_chunk_that_is_refused_twice_is_put_again(start: Start, place: str, proxy: Proxy) -> None:
    """As what is read is asked for five times: a server that says SlowDown says so for a while."""
    run = start("p", store=place)
    proxy.break_with(Rule(Fault.SLOW_DOWN, method="PUT", kind="chunks", times=2))
    save = run.save({"one chunk": np.zeros(CHUNK, "u1")}, step=0)
    save.exception()
    with warnings.catch_warnings(), contextlib.suppress(runtree.LostData):
        warnings.simplefilter("ignore")
        run.finish()
    save.result()


def test_bytes_that_do_not_come_whole_are_no_state(start: Start, place: str, proxy: Proxy) -> None:
    run = start("p", store=place)
    saved = run.save(state_of("r", 0), step=0).result()
    proxy.break_with(Rule(Fault.CUT, method="GET", kind="chunks"))
    with pytest.raises(runtree.Unavailable):
        saved.load()
    proxy.break_with()
    assert differs(saved.load(), "r", 0) is None
    run.finish()
