"""One read, many views: zoom, overview, API, Python, table and command line agree. Defects 5, 8, 10, 11, 12, 16 of Pluto and
gaps of its tests (docs/pluto.md)."""

from __future__ import annotations

import csv
import itertools
import json
import math
import subprocess
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import runtree
from pluto.conftest import COMMAND, Api, points, read

pytestmark = [
    pytest.mark.filterwarnings("ignore:run .* has no checkpoint:runtree.RuntreeWarning"),
    pytest.mark.filterwarnings("ignore:step .* own history:runtree.RuntreeWarning"),
]

# More than a block, so that summaries answer for part of a chart.
STEPS = 9_000


def noise(step: int) -> float:
    """A curve that no neighbour could stand in for."""
    return math.sin(step) * step + (step * 2654435761 % 1000)


@pytest.fixture
def family(logged: Any) -> tuple[runtree.Run, runtree.Run]:
    """A root of 9,000 points and a fork in its midst that overlaps it; 2 points in 1,000 are not finite."""

    def value(step: int) -> float:
        return math.nan if step % 1000 == 7 else math.inf if step % 1000 == 500 else noise(step)

    root = logged(range(STEPS), value=value)
    child = logged(range(7001, STEPS + 5000), value=lambda s: -value(s), fork_run_id=root.id, fork_step=7000)
    return root, child


def expected_bucket(found: dict[int, float], steps: range) -> dict[str, float]:
    inside = [found[step] for step in steps if step in found]
    finite = [value for value in inside if math.isfinite(value)]
    return {
        "count": len(inside),
        "nonfinite": len(inside) - len(finite),
        "first": inside[0],
        "last": inside[-1],
        "min": min(finite, default=math.nan),
        "max": max(finite, default=math.nan),
        "mean": sum(finite) / len(finite) if finite else math.nan,
    }


def check_exact(drawn: dict[str, Any], found: dict[int, float]) -> None:
    """Every bucket says exactly what the points between its ends say; none is drawn twice or left out."""
    assert sum(drawn["count"]) == len(found)
    assert drawn["points"] == len(found)
    last = -math.inf
    for i in range(len(drawn["count"])):
        steps = range(drawn["x_first"][i], drawn["x_last"][i] + 1)
        assert steps.start > last, "buckets ascend and do not overlap"
        last = steps.stop - 1
        for part, value in expected_bucket(found, steps).items():
            told = read(drawn[part][i])
            close = pytest.approx(value, rel=1e-12, abs=1e-9, nan_ok=True)
            assert told == close if part == "mean" else (told == value or (math.isnan(told) and math.isnan(value))), (
                i,
                part,
            )


def from_lines(file: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["step"]: read(row["value"]) for row in rows}


def from_csv(file: Path) -> dict[int, float]:
    with file.open(newline="") as lines:
        return {int(row["step"]): float(row["value"]) for row in csv.DictReader(lines)}


def from_parquet(file: Path) -> dict[int, float]:
    rows = pq.read_table(file)
    return dict(zip(rows["step"].to_pylist(), rows["value"].to_pylist(), strict=True))


def test_defect_8_gap_zoom_is_overview_is_api_is_python_is_table_is_command_line(
    family: tuple[runtree.Run, runtree.Run], api: Api, cli: Any, tmp_path: Path
) -> None:
    """Defect 8, gaps "zoom = overview; REST = UI; stitched stats": one curve, whoever asks and however close he looks."""
    _, child = family
    found = points(child)
    assert list(found) == list(range(STEPS + 5000))
    for pixels in (1, 100, 1000, 50_000):
        check_exact(api.chart(child.id, "loss", pixels=pixels), found)
    for first, last in [(0, 100), (6990, 7010), (7000, 7000), (7001, 7001), (3000, 12_000), (13_000, 99_999), (-50, 3)]:
        inside = {step: value for step, value in found.items() if first <= step <= last}
        for pixels in (10, 20_000):
            check_exact(api.chart(child.id, "loss", pixels=pixels, **{"from": first, "to": last}), inside)
        part = points(child, steps=(first, last))
        assert np.array_equal(list(part), list(inside))
        assert np.array_equal(list(part.values()), list(inside.values()), equal_nan=True)
    # The table, the page, the command line.
    whole = expected_bucket(found, range(STEPS + 5000))
    [row] = api.get("/runs", search=child.display_id)["runs"]
    assert read(row["metrics"]["loss"]["value"]) == whole["last"]
    assert row["metrics"]["loss"]["step"] == row["last_step"] == child.last_step == STEPS + 4999
    for detail in (api.get(f"/runs/{child.id}"), cli("show", child.id)):
        [fact] = detail["metrics"]
        assert (fact["points"], fact["nonfinite"]) == (whole["count"], whole["nonfinite"])
        assert (fact["steps"]["first"], fact["steps"]["last"]) == (0, STEPS + 4999)
        for part in ("min", "max", "last"):
            assert read(fact[part]["value"]) == whole[part]
            assert found[fact[part]["step"]] == whole[part]
    assert [run["metrics"]["loss"] for run in cli("runs")["runs"] if run["id"] == child.id] == [row["metrics"]["loss"]]
    for format, load in (("jsonl", from_lines), ("csv", from_csv), ("parquet", from_parquet)):
        file = tmp_path / f"loss.{format}"
        cli("export-metrics", child.id, "-o", str(file), "--metrics", "loss")
        exported = load(file)
        assert list(exported) == list(found)
        assert np.array_equal(list(exported.values()), list(found.values()), equal_nan=True), format
    store = runtree.Store()
    for part in ("min", "max", "last"):
        assert [run.id for run in store.runs(f"{part}(loss) = {whole[part]!r}")] == [child.id]
    thin = child.history("loss", points=500)
    assert all(
        np.array_equal(found[step], value, equal_nan=True) for step, value in zip(thin.steps, thin.values, strict=True)
    )
    finite = thin.values[np.isfinite(thin.values)]
    assert (finite.min(), finite.max()) == (whole["min"], whole["max"])


def test_gap_stitched_statistics_are_those_of_the_effective_history(logged: Any, api: Api) -> None:
    """Gap "stitched stats/leaderboard": extremes of the parent count up to the fork step, those of the child from there."""
    values = {3: -100.0, 8: 500.0, 12: -900.0}
    parent = logged(range(15), value=lambda step: values.get(step, 1.0))
    child = logged(range(11, 15), value=lambda step: 2.0 + step, fork_run_id=parent.id, fork_step=10)
    [fact] = api.get(f"/runs/{child.id}")["metrics"]
    told = {part: (fact[part]["step"], read(fact[part]["value"])) for part in ("min", "max", "last")}
    assert told == {"min": (3, -100.0), "max": (8, 500.0), "last": (14, 16.0)}
    store = runtree.Store()
    assert [run.id for run in store.runs(sort="min:loss", descending=False)] == [parent.id, child.id]
    assert [run.id for run in store.runs("min(loss) < -500")] == [parent.id]
    assert [run.id for run in store.runs("max(loss) >= 500")] == [child.id, parent.id]
    [own] = [segment for segment in child.lineage() if segment.run == child.display_id]
    assert own.first == 10, "from the fork step, where a point of its own would win"


def test_defect_5_inherited_points_are_one_switch_for_every_view(
    family: tuple[runtree.Run, runtree.Run], api: Api
) -> None:
    """Defect 5: run page and comparison ask the same question; on is all of it, off is the run's own, zoomed or not."""
    root, child = family
    own = points(child, inherited=False)
    assert list(own) == list(range(7001, STEPS + 5000))
    for bounds in ({}, {"from": 5000, "to": 9000}):
        low, high = bounds.get("from", 0), bounds.get("to", 1 << 40)
        for inherited, found in ((True, points(child)), (False, own)):
            alone = api.chart(child.id, "loss", inherited=inherited, **bounds)
            check_exact(alone, {step: value for step, value in found.items() if low <= step <= high})
            selectors = [{"run": run.display_id, "metric": "loss", "attempt": None} for run in (root, child)]
            asked = {"x": "step", "pixels": 100, "inherited": inherited, "from": None, "to": None, **bounds}
            together = api.post("/series", {"series": selectors, **asked})["series"]
            assert together[1] == alone, "beside others it is drawn as it is alone"


def test_defect_10_a_stitched_curve_is_thinned_as_a_plain_one(
    family: tuple[runtree.Run, runtree.Run], logged: Any, api: Api
) -> None:
    """Defect 10 (LTTB there, M4 here): the same points logged by one run make the same columns of pixels. Each side cuts its blocks
    where its runs and launches do, so what is compared is each pixel's points that lie in neither neighbour's bucket: all, as long as
    blocks are narrower than pixels."""
    _, child = family
    found = points(child)
    plain = logged(found, value=lambda step: found[step])
    assert np.array_equal(list(points(plain).values()), list(found.values()), equal_nan=True)
    bounds = {"from": 6000, "to": 8000}
    for asked in ({"pixels": 20_000}, {"pixels": 1000, **bounds}, {"pixels": 7, **bounds}):
        stitched, alone = api.chart(child.id, "loss", **asked), api.chart(plain.id, "loss", **asked)
        cuts = [step for segment in stitched["segments"][1:] for step in [segment["x_start"]]]
        for part in ("count", "first", "last", "min", "max", "nonfinite"):
            of_plain = dict(zip(alone["x_first"], alone[part], strict=True))
            of_fork = dict(zip(stitched["x_first"], stitched[part], strict=True))
            other = {x for x in of_plain.keys() | of_fork.keys() if of_plain.get(x) != of_fork.get(x)}
            # The pixel that the joint lies in is two buckets of the fork: before it and after it.
            assert len(other) <= 2 * len(cuts), (asked, part, sorted(other))
    assert (
        child.history("loss", points=200).steps.tolist()[:50] == plain.history("loss", points=200).steps.tolist()[:50]
    )


def test_defect_11_nothing_is_trimmed_because_of_who_else_is_asked_for(logged: Any, api: Api) -> None:
    """Defect 11: the root goes on after its forks, a fork has its past though nobody asked for its parent, siblings have both."""
    root = logged(range(31))
    children = [
        logged(range(11, 21), value=lambda s, k=k: 100.0 * k + s, fork_run_id=root.id, fork_step=10) for k in (1, 2)
    ]
    for asked in ([root, *children], [*children], [children[1]], [root]):
        selectors = [{"run": run.id, "metric": "loss", "attempt": None} for run in asked]
        body = {"series": selectors, "x": "step", "pixels": 100, "inherited": True, "from": None, "to": None}
        for run, drawn in zip(asked, api.post("/series", body)["series"], strict=True):
            assert drawn["x_first"] == list(range(31 if run is root else 21))
            check_exact(drawn, points(run))


def test_defect_12_relative_time_of_a_fork_is_never_negative(start: Any, api: Api) -> None:
    """Defect 12: it goes on where the parent's clock stood at the fork step: neither before zero nor over the gap between the two."""
    parent = start()
    for step in range(11):
        parent.log({"loss": float(step)}, step=step, timestamp=1_700_000_000 + step)
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=5)
    for step in range(6, 11):
        child.log({"loss": float(step)}, step=step, timestamp=1_800_000_000 + step)
    child.finish()
    drawn = api.chart(child.id, "loss", x="relative", pixels=1000)
    assert drawn["points"] == 11
    xs = drawn["x_first"]
    assert xs[0] == 0
    assert xs == sorted(xs)
    assert xs[:6] == [step * 1_000_000 for step in range(6)]
    steps = [after - before for before, after in itertools.pairwise(xs)]
    assert all(0 <= step <= 1_000_000 for step in steps), "the gap between the two is taken out"
    wall = api.chart(child.id, "loss", x="wall", pixels=1000)
    assert wall["x_first"][0] == 1_700_000_000_000_000
    assert wall["x_last"][-1] == 1_800_000_010_000_000


def test_defect_12_relative_time_of_a_parent_that_lives_on_and_a_fork_that_began_earlier(start: Any, api: Api) -> None:
    """Defect 12, further: clocks that go back between machines make no negative time either."""
    parent = start()
    for step in range(5):
        parent.log({"loss": 1.0}, step=step, timestamp=1_700_000_000 + step)
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=4)
    for step in range(5, 10):
        child.log({"loss": 1.0}, step=step, timestamp=1_600_000_000 + step)
    child.finish()
    drawn = api.chart(child.id, "loss", x="relative", pixels=1000)
    assert drawn["points"] == 10
    assert min(drawn["x_first"]) == 0


def test_gap_every_answer_is_of_the_same_moment_of_a_live_fork(logged: Any, start: Any, api: Api) -> None:
    """Gap "REST = UI", live: what a fork that is running has flushed is in every view at once, stitched."""
    parent = logged(range(11))
    child = start(fork_run_id=parent.id, fork_step=10)
    for step in range(11, 40):
        child.log({"loss": float(step)}, step=step)
        if step % 7:
            continue
        child.flush()
        assert api.chart(child.id, "loss", pixels=100)["x_last"][-1] == step
        assert api.get(f"/runs/{child.id}")["metrics"][0]["points"] == step + 1
        assert read(api.get(f"/runs/{child.id}")["summary"]["metrics"]["loss"]["value"]) == step
        assert list(points(child))[-1] == step


def test_the_command_line_speaks_of_the_same_points(logged: Any, cli: Any) -> None:
    """Gap "REST = UI", command line: text and JSON of ``show`` and ``diff`` are of the effective history."""
    parent = logged(range(11))
    child = logged(range(6, 9), value=lambda s: float(s), fork_run_id=parent.id, fork_step=5)
    [fact] = cli("show", child.display_id)["metrics"]
    assert (fact["points"], read(fact["last"]["value"]), read(fact["max"]["value"])) == (9, 8.0, 8.0)
    report = cli("diff", parent.display_id, child.display_id)
    b = report["metrics"]["loss"]["b"]
    assert (b["step"], b["value"], b["min"]["step"], b["max"]["value"]) == (8, 8.0, 5, 8.0)
    assert report["metrics"]["loss"]["a"]["step"] == 10
    text = subprocess.run([*COMMAND, "show", child.display_id], capture_output=True, text=True, check=True).stdout
    assert f"{parent.display_id}" in text


def test_an_api_that_is_asked_for_what_is_not_there_says_so(logged: Any, api: Api) -> None:
    """Defect 16, over HTTP: errors have a kind and a status; none is a 500."""
    logged(range(3))
    for body in (
        {"reference": "DIG-1@2"},
        {"reference": "DIG-9@2"},
        {"reference": "DIG-1@-1"},
        {"reference": "DIG-1@1.5"},
    ):
        request = {
            "name": None,
            "run_id": None,
            "config": None,
            "tags": [],
            "notes": None,
            "inherit_config": None,
            "inherit_tags": None,
        }
        status, error = api.refusal(lambda body=body, request=request: api.post("/forks", {**request, **body}))
        assert status in (400, 404, 409, 422), (body, status, error)
        assert error["message"]
    status, _ = api.refusal(lambda: api.get("/runs/" + urllib.parse.quote("DIG-9")))
    assert status == 404
    assert json.dumps(api.chart("DIG-1", "nobody")["points"]) == "0"


def test_metrics_are_found_by_a_regular_expression(start: Any, api: Api) -> None:
    """Beyond Pluto's list: of thousands of metrics those that a page asks for, stitched as ever; what is no pattern is refused."""
    parent = start()
    for step in range(11):
        parent.log({f"layers/{i}/grad": float(i + step) for i in range(200)}, step=step)
    parent.finish()
    child = start(fork_run_id=parent.id, fork_step=5)
    child.log({"layers/7/grad": -1.0, "layers/7/new": math.nan}, step=6)
    child.finish()
    found = api.get(f"/runs/{child.id}/metrics", match="/7/|^layers/19.*")
    whole = {fact["name"]: fact for fact in api.get(f"/runs/{child.id}")["metrics"]}
    names = ["layers/19/grad", *(f"layers/{i}/grad" for i in range(190, 200)), "layers/7/grad", "layers/7/new"]
    assert [fact["name"] for fact in found] == names
    assert found == [whole[name] for name in names]
    assert (whole["layers/7/grad"]["points"], whole["layers/7/grad"]["own_points"]) == (7, 1)
    assert api.get(f"/runs/{child.id}/metrics") == list(whole.values())
    assert api.get(f"/runs/{child.id}/metrics", match="nobody") == []
    for wrong in ("(", "a" * 2000):
        status, error = api.refusal(lambda wrong=wrong: api.get(f"/runs/{child.id}/metrics", match=wrong))
        assert (status, error["kind"]) == (400, "invalid")
    evil = "(a*)*" * 20 + "$"
    assert len(api.get(f"/runs/{child.id}/metrics", match=evil)) == len(whole), "in linear time"
