"""A run as one file: everything in it, nothing from elsewhere, and nothing that a run is called becomes part of the page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtree

EVIL = "</script><script>alert(1)</script>"


def unpack(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="text/plain" id="runtree-report">([A-Za-z0-9+/=]+)</script>', page)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


@pytest.fixture
def child(start: Callable[..., runtree.Run]) -> runtree.Run:
    parent = start("html", "parent", run_id="p", resume="allow", config={"lr": 0.1, "evil": EVIL})
    for step in range(2000):
        parent.log({"loss": 1 / (1 + step), EVIL: float(step % 7)}, step=step)
        if step in (500, 1000):
            parent.save({"w": step}, step=step).result()
    parent.finish()
    again = start("html", run_id="p", resume="allow")
    again.log({"loss": 5.0}, step=1001)
    again.finish()
    child = start("html", EVIL, fork_run_id=parent.id, fork_step=500, config={"lr": 0.01}, notes=f"notes {EVIL}")
    child.log({"loss": float("nan")}, step=501)
    child.log({"loss": -2.5}, step=502)
    child.finish()
    return child


def test_a_page_holds_all_of_a_run_and_nothing_else(child: runtree.Run, tmp_path: Path) -> None:
    path = child.export_html(tmp_path / "run.html")
    page = path.read_text()
    assert path == tmp_path / "run.html"
    assert len(page) < 1_000_000
    # Nothing a run is called stands in the page itself, and one script alone may run.
    assert "alert(1)" not in page
    assert page.count("</script>") == 2
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "http:" not in policy[1]
    assert not re.search(r'(src|href)="(https?:)?//', page)
    packed = unpack(page)
    detail = packed["answers"]["/runs/it"]
    assert detail["summary"]["name"] == EVIL
    assert detail["notes"] == f"notes {EVIL}"
    assert [change["key"] for change in detail["config_diff"]] == ["lr"]
    assert [checkpoint["step"] for checkpoint in packed["answers"]["/runs/it/checkpoints"]] == [500]
    assert packed["answers"]["/store"]["writable"] is False
    # The stitched curve, with its smallest and largest values, whatever the pixels.
    series = {(each["x"], each["buckets"]["metric"]): each["buckets"] for each in packed["series"]}
    loss = series["step", "loss"]
    assert min(value for value in loss["min"] if isinstance(value, (int, float))) == -2.5
    assert max(value for value in loss["max"] if isinstance(value, (int, float))) == 1.0
    assert sum(loss["count"]) == 503
    assert sum(loss["nonfinite"]) == 1
    assert [segment["inherited"] for segment in loss["segments"]] == [True, False]
    assert sum(series["step", EVIL]["count"]) == 501
    assert {x for x, _ in series} == {"step", "relative", "wall"}


def test_ghost_tails_and_the_end_of_the_console_are_there(
    start: Callable[..., runtree.Run], child: runtree.Run, tmp_path: Path
) -> None:
    parent = child._store.run("p", project="html")
    packed = unpack(parent.export_html(tmp_path / "p.html").read_text())
    ghosts = [each["buckets"] for each in packed["series"] if each["buckets"]["attempt"] == 1]
    assert sum(next(buckets for buckets in ghosts if buckets["metric"] == "loss")["count"]) == 2000
    run = start("html", "talks")
    for number in range(1500):
        run._writer.console("stdout", [f"line {number}"])
    run.finish()
    packed = unpack(run.export_html(tmp_path / "t.html").read_text())
    lines = [line["text"] for line in packed["answers"]["/runs/it/console"]["lines"]]
    assert lines == [f"line {number}" for number in range(500, 1500)]


def test_it_is_called_after_its_run_and_says_what_is_wrong(child: runtree.Run, tmp_path: Path) -> None:
    assert child.export_html() == Path(f"{child.display_id}.html")
    assert Path(f"{child.display_id}.html").exists()
    with pytest.raises(runtree.Unavailable, match="can not create"):
        child.export_html(tmp_path / "nowhere" / "a.html")
