"""A server, a command line, and runs to compare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtree

COMMAND = [sys.executable, "-m", "runtree"]


class Api:
    """The HTTP API of ``runtree serve`` on the store of this test."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **params: Any) -> Any:
        query = urllib.parse.urlencode(params)
        return self._ask(urllib.request.Request(f"{self.url}/api/v1{path}" + (f"?{query}" if query else "")))

    def post(self, path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(f"{self.url}/api/v1{path}", data, headers))

    def delete(self, path: str) -> Any:
        return self._ask(urllib.request.Request(f"{self.url}/api/v1{path}", method="DELETE"))

    def _ask(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def refusal(self, call: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
        """Status and error of a call that is refused."""
        with pytest.raises(urllib.error.HTTPError) as raised:
            call()
        return raised.value.code, json.load(raised.value)["error"]

    def chart(self, run: str, metric: str, **asked: Any) -> dict[str, Any]:
        """The buckets of one series."""
        series = {"run": run, "metric": metric, "attempt": asked.pop("attempt", None)}
        request = {"series": [series], "x": "step", "pixels": 100, "inherited": True, "from": None, "to": None, **asked}
        return self.post("/series", request)["series"][0]


@pytest.fixture
def api() -> Iterator[Api]:
    """``runtree serve``; its store must be there when it is asked for."""
    runtree.Store(create=True)
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    ) as server:
        assert server.stdout is not None
        try:
            yield Api(server.stdout.readline().strip().rstrip("/"))
        finally:
            server.terminate()


@pytest.fixture
def cli() -> Callable[..., Any]:
    """``runtree … --json``, read."""

    def call(*words: str) -> Any:
        told = subprocess.run([*COMMAND, *words, "--json"], capture_output=True, text=True, check=False, timeout=60)
        assert told.returncode == 0, told.stderr
        return json.loads(told.stdout)

    return call


@pytest.fixture
def logged(start: Any) -> Callable[..., runtree.Run]:
    """A run that has logged ``loss = value(step)`` at some steps, and is finished unless ``alive``."""

    def log(
        steps: Any,
        project: str = "digits",
        *,
        metric: str = "loss",
        value: Callable[[int], float] = lambda step: 1 / (abs(step) + 1),
        alive: bool = False,
        **keywords: Any,
    ) -> runtree.Run:
        run = start(project, **keywords)
        for step in steps:
            run.log({metric: value(step)}, step=step)
        if not alive:
            run.finish()
        return run

    return log


def points(run: runtree.StoredRun, metric: str = "loss", **asked: Any) -> dict[int, float]:
    """The points of a history, by step."""
    series = run.history(metric, **asked)
    assert len(set(series.steps.tolist())) == len(series), "a step twice"
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def read(value: Any) -> float:
    """A float of the API, of which those that are not finite are words."""
    return float(value)
