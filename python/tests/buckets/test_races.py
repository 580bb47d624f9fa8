"""Two processes on one bucket, of which one is held at the wrong moment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runtree
from buckets.conftest import Start
from buckets.proxy import Fault, Proxy, Rule
from runtree.store import _open


def test_a_journal_may_be_collected_while_somebody_is_about_to_read_it(
    start: Start, place: str, proxy: Proxy, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points are sealed by then, so whoever looks again finds them. Nobody should be told of it."""
    with start("p", store=place, run_id="r") as run:
        run.log({"loss": 1.0}, step=0)
    _open.clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other-cache"))
    proxy.break_with(Rule(Fault.SLOW, method="GET", kind="journal", times=1, seconds=60))
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(lambda: runtree.Store(place).run("r").history("loss").steps.tolist())
        while not proxy.injected:
            time.sleep(0.01)
        collect = [sys.executable, "-m", "runtree", "--store", place, "gc", "--grace", "0"]
        past_the_proxy = {**os.environ, "AWS_ENDPOINT_URL": server}
        done = subprocess.run(collect, env=past_the_proxy, capture_output=True, text=True, check=True)
        assert "sealed journal" in done.stdout
        proxy.break_with()
        assert seen.result(60) == [0]
