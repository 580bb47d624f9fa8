"""What push and pull move, counted where the server sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from buckets.conftest import Start
from buckets.proxy import Fault, Proxy, Rule

pytestmark = pytest.mark.timeout(120)

OWN = 3 << 20
FROZEN = 2 << 20
# Chunks of a state that takes a while, and what may be under way at once when somebody is killed.
MANY = 64
PIECE = 1 << 20
IN_FLIGHT = 16 * PIECE


def state_of(step: int) -> dict[str, Any]:
    """A state that shares its frozen part with every other step."""
    frozen = np.random.default_rng(0).integers(0, 256, FROZEN, dtype=np.uint8)
    own = np.random.default_rng(step + 1).integers(0, 256, OWN, dtype=np.uint8)
    return {"frozen": frozen, "own": own, "step": step}


def trained(start: Start, place: str | Path) -> None:
    with start("project", store=place, run_id="run") as run:
        for step in (0, 250, 500, 750):
            run.log({"loss": 1.0}, step=step)
            run.save(state_of(step)).result()


def test_a_pull_of_a_checkpoint_moves_the_chunks_it_lacks(
    start: Start, place: str, proxy: Proxy, tmp_path: Path
) -> None:
    trained(start, place)
    home = runtree.Store(tmp_path / "home", create=True)

    def pulled(ref: str) -> int:
        proxy.forget()
        home.pull(place, ref)
        return proxy.traffic("GET", "chunks").received

    assert pulled("project/run@<=600") == FROZEN + OWN
    assert [each.step for each in home.run("project/run").checkpoints()] == [500]
    assert pulled("project/run@750") == OWN
    assert pulled("project/run@750") == 0
    assert pulled("project/run@500") == 0
    assert proxy.traffic("PUT").requests == 0, "a pull writes nothing at its source"
    assert (home.checkpoint("project/run@500").load()["own"] == state_of(500)["own"]).all()


def test_chunks_that_are_here_already_are_not_pulled(start: Start, place: str, proxy: Proxy, tmp_path: Path) -> None:
    """By their content: another run saved the same."""
    trained(start, place)
    with start("other", store=tmp_path / "home") as run:
        run.save(state_of(500), step=0).result()
    proxy.forget()
    home = runtree.Store(tmp_path / "home")
    home.pull(place, "project/run@500")
    assert proxy.traffic("GET", "chunks").requests == 0
    assert (home.checkpoint("project/run@500").load()["own"] == state_of(500)["own"]).all()


def test_a_push_sends_each_chunk_once(start: Start, place: str, proxy: Proxy, tmp_path: Path) -> None:
    trained(start, tmp_path / "home")
    home = runtree.Store(tmp_path / "home")
    home.push(place)
    sent = proxy.traffic("PUT", "chunks").sent
    assert sent <= FROZEN + 4 * OWN, "older ones may be small already"
    proxy.forget()
    home.push(place)
    assert proxy.traffic("PUT", "chunks", "parts", "commits", "journal").requests == 0
    assert proxy.traffic("GET", "chunks").requests == 0


MOVE = """
import sys, runtree
way, home, there = sys.argv[1:]
getattr(runtree.Store(home, create=True), way)(there)
"""


def moving(way: str, home: Path, place: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MOVE, way, str(home), place])


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.005)


@pytest.mark.parametrize(("way", "end"), [("push", "killed"), ("pull", "killed"), ("pull", "cut off")])
def test_a_copy_that_is_broken_off_is_finished_by_the_next(
    start: Start, place: str, proxy: Proxy, tmp_path: Path, way: str, end: str
) -> None:
    state = {f"w{at}": np.random.default_rng(at).integers(0, 256, PIECE, dtype=np.uint8) for at in range(MANY)}
    home = tmp_path / "home"
    with start("p", store=home if way == "push" else place, run_id="r") as run:
        run.save(state, step=0).result()
    method = "PUT" if way == "push" else "GET"

    def moved() -> int:
        traffic = proxy.traffic(method, "chunks")
        return traffic.sent + traffic.received

    # Slow, so that there is a middle.
    proxy.break_with(Rule(Fault.SLOW, method=method, kind="chunks", seconds=0.25))
    proxy.forget()
    with moving(way, home, place) as process:
        wait_until(lambda: moved() > MANY * PIECE // 4, process)
        if end == "killed":
            process.send_signal(signal.SIGKILL)
        else:
            proxy.away()
        assert process.wait(60) != 0
    proxy.break_with()
    if end != "killed":
        proxy.back()
    first = moved()
    assert first < MANY * PIECE
    with moving(way, home, place) as process:
        assert process.wait(60) == 0
    print(f"{first >> 20} MiB, then {(moved() - first) >> 20} MiB")
    assert moved() <= MANY * PIECE + IN_FLIGHT
    # The one that was finished is what was saved.
    loaded = runtree.Store(place if way == "push" else home).run("r").load()
    assert all((loaded[name] == values).all() for name, values in state.items())
