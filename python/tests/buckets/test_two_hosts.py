"""Two hosts with clocks twenty minutes apart train, fork, prune, delete, restore and collect on one bucket that fails, and are
killed: nothing is lost.

``make chaos`` is the long form: five minutes, 50 kills. What was promised stands in ledgers (:mod:`buckets.ledger`); a third
machine that has seen nothing looks for it at the end, before and after a collection without grace.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

import runtree
from buckets.check import look, seconds_lost
from buckets.conftest import SEED, Fresh, Start
from buckets.hosts import Host, clock_of
from buckets.ledger import Ledger, Promises
from buckets.proxy import Fault, Proxy, Rule
from buckets.state import state_of, value_of
from buckets.worker import PROJECT

SECONDS = float(os.environ.get("RUNTREE_CHAOS_SECONDS", "12"))
KILLS = int(os.environ.get("RUNTREE_CHAOS_KILLS", "5"))
# The short form has to get somewhere in seconds.
PROCESSES = 1 if KILLS < 10 else 2
# Signatures are refused from fifteen minutes on.
SKEW = 10 * 60
# An operation takes hundreds of requests. Most faults are asked for again; an answer that ends early is not, and fails all of it.
RULES = [
    Rule(Fault.CUT, rate=0.001),
    Rule(Fault.TORN, method="PUT", rate=0.03),
    Rule(Fault.CONFLICT, rate=0.03),
    Rule(Fault.WON_AND_LOST, rate=0.03),
    Rule(Fault.UNANSWERED, rate=0.01),
    Rule(Fault.ERROR, rate=0.005),
    Rule(Fault.SLOW_DOWN, rate=0.005),
    Rule(Fault.SLOW, rate=0.01, seconds=0.3),
]
# A flush that meets faults is tried again for a while; points wait in memory, and go with the process.
MOST_SECONDS_LOST = 20.0


def hosts_of(place: str, folder: Path, rng: random.Random) -> list[Host]:
    skews = {"ahead": SKEW, "behind": -SKEW}
    return [Host(name, folder / name, place, rng, clock_of(skew, folder)) for name, skew in skews.items()]


def wait_for_saves(hosts: list[Host], saves: int) -> None:
    """On a machine that is slow, kills come later, not before anything was done."""
    end = time.monotonic() + 60
    while len(Promises.of(ledger for host in hosts for ledger in host.ledgers).saved) < saves:
        assert time.monotonic() < end, "nothing is saved any more"
        time.sleep(0.1)


def torment(hosts: list[Host], proxy: Proxy, rng: random.Random) -> float:
    """Kills and restarts processes, takes the bucket away now and then, and kills all in the end. Returns when."""
    workers = [(host, f"{host.name}-{at}") for host in hosts for at in range(PROCESSES)]
    try:
        for host, worker in workers:
            host.start(worker)
        for kill in range(KILLS):
            time.sleep(SECONDS / KILLS * rng.uniform(0.5, 1.5))
            wait_for_saves(hosts, kill + 1)
            assert_alive(hosts)
            host, worker = rng.choice(workers)
            host.kill(worker)
            host.start(worker)
            if kill % 5 == 4:
                proxy.away()
                time.sleep(rng.uniform(0.2, 2))
                proxy.back()
        time.sleep(2)
        assert_alive(hosts)
    finally:
        for host in hosts:
            host.kill_all()
    return time.monotonic()


def assert_alive(hosts: list[Host]) -> None:
    assert not [words for host in hosts for words in host.died()]


@pytest.mark.timeout(120 + 4 * SECONDS)
def test_two_hosts_on_a_failing_bucket_lose_nothing(place: str, proxy: Proxy, tmp_path: Path, fresh: Fresh) -> None:
    rng = random.Random(SEED)
    runtree.Store(place, create=True)
    hosts = hosts_of(place, tmp_path, rng)
    proxy.break_with(*RULES)
    died_at = torment(hosts, proxy, rng)
    injected, requests = {fault.name: times for fault, times in proxy.injected.items()}, proxy.traffic().requests
    proxy.break_with()
    promises = Promises.of(ledger for host in hosts for ledger in host.ledgers)
    print(f"{KILLS} kills, {requests} requests, faults: {injected}")
    print(f"{len(promises.saved)} saves acknowledged, {len(promises.deletions)} checkpoints deleted, ", end="")
    print(f"{len(promises.restored)} restored, {len(promises.forks)} forks; refused: {dict(promises.refused)}")
    assert promises.wrong == []
    assert len(promises.saved) >= KILLS
    store = fresh(place, "third")
    found = look(store, PROJECT, promises)
    print(found)
    assert found.lost == []
    assert store.verify()["problems"] == []
    lost = seconds_lost(store, PROJECT, promises, died_at)
    print(f"points of the last {lost:.2f} s were lost")
    assert lost <= MOST_SECONDS_LOST
    collect = [sys.executable, "-m", "runtree", "--store", place, "gc", "--grace", "0"]
    print(subprocess.run(collect, capture_output=True, text=True, check=True).stdout)
    again = look(fresh(place, "fourth"), PROJECT, promises)
    assert again.lost == []
    assert again.checkpoints == found.checkpoints


def test_the_check_misses_what_is_taken_away(
    start: Start, place: str, server: str, tmp_path: Path, fresh: Fresh
) -> None:
    """A chunk, a part, a commit, points, a bit: each taken by hand, and given back."""
    by_hand(start, place, Ledger(tmp_path / "ledger"))
    promises = Promises.of([tmp_path / "ledger"])
    found = look(fresh(place, "whole"), PROJECT, promises)
    assert (found.lost, found.needed, found.forks, found.runs) == ([], 4, 1, 2)
    objects = S3Store.from_url(place, endpoint=server, client_options={"allow_http": True})
    names = [each["path"] for each in obstore.list(objects).collect()]

    def assert_misses(victims: list[str]) -> None:
        store = fresh(place, f"without-{victims[0]}".replace("/", "-"))
        assert look(store, PROJECT, promises).lost, victims
        if "/journal/" in victims[0]:
            assert seconds_lost(store, PROJECT, promises, time.monotonic()) > 0

    for folders in (["chunks/"], ["/parts/"], ["/commits/"], ["/journal/", "/metrics/"]):
        victims = [name for name in names if any(folder in name for folder in folders)]
        # Points are in several objects, and each of them may be in two.
        victims = victims if len(folders) > 1 else victims[:1]
        taken = {name: bytes(obstore.get(objects, name).bytes()) for name in victims}
        obstore.delete(objects, victims)
        assert_misses(victims)
        for name, content in taken.items():
            obstore.put(objects, name, content)
    chunk = next(name for name in names if "chunks/" in name)
    content = bytearray(obstore.get(objects, chunk).bytes())
    content[len(content) // 2] ^= 1
    obstore.put(objects, chunk, bytes(content))
    assert_misses([f"a bit of {chunk}"])


def by_hand(start: Start, place: str, ledger: Ledger) -> None:
    """A run and a fork of it, with two checkpoints each, and what they were promised."""
    for key, fork in (("one", None), ("two", f"{PROJECT}/one@0")):
        with start(PROJECT, store=place, run_id=key, fork=fork) as run:
            ledger.note("started", key=key)
            if run.resumed_from is not None:
                ledger.note("forked", key=key, of="one", step=0, checkpoint=run.resumed_from.id)
            for step in range(run.next_step, run.next_step + 2):
                run.log({"twice": value_of(step)}, step=step)
                ledger.note("logged", step=step)
                ledger.note("saved", checkpoint=run.save(state_of(key, step), step=step).result().id, step=step)
