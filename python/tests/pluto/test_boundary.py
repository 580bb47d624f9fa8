"""Where a fork's history begins: defects 1, 2, 7, 9, 16 of Pluto's fork feature and gaps of its tests (docs/pluto.md)."""

from __future__ import annotations

import math
import struct
import time
from typing import Any

import pytest

import runtree
from pluto.conftest import Api, points, read

pytestmark = [
    pytest.mark.filterwarnings("ignore:run .* has no checkpoint:runtree.RuntreeWarning"),
    pytest.mark.filterwarnings("ignore:step .* own history:runtree.RuntreeWarning"),
]


def test_defect_1_a_childs_points_without_steps_follow_the_fork_step(logged: Any, start: Any, api: Api) -> None:
    """Defect 1, gap "auto-step continuation": the loop of the document logs without ``step=``; every point of it is drawn."""
    parent = logged(range(501))
    child = start(fork_run_id=parent.display_id, fork_step=500)
    assert (child.step, child.next_step) == (500, 501)
    for _ in range(500, 1000):
        child.log({"loss": 0.4})
    child.finish()
    assert points(child, inherited=False) == dict.fromkeys(range(501, 1001), 0.4)
    drawn = api.chart(child.id, "loss", pixels=2000)
    assert drawn["points"] == 1001
    own = [i for i, segment in enumerate(drawn["segment"]) if not drawn["segments"][segment]["inherited"]]
    assert [drawn["x_first"][i] for i in own] == list(range(501, 1001))


def test_automatic_steps_continue_in_every_launch_of_a_fork(logged: Any, start: Any) -> None:
    """Gap "auto-step continuation", further: after a resume, and in a fork of the fork."""
    parent = logged(range(11))
    keywords: dict[str, Any] = {"run_id": "child", "fork_run_id": parent.display_id, "fork_step": 10}
    child = start(**keywords)
    child.log({"loss": 0.0})
    child.finish()
    again = start(**keywords, resume="allow")
    assert again.next_step == 12
    again.log({"loss": 0.0})
    again.finish()
    grandchild = start(fork_run_id="child", fork_step=12)
    grandchild.log({"loss": 0.0})
    grandchild.flush()
    assert list(points(grandchild)) == list(range(14))


def test_gap_the_boundary_holds_for_every_metric_by_itself(start: Any, api: Api) -> None:
    """Gap "boundary inclusive/exclusive per metric": the fork step is the parent's, but of a metric that the child logged there."""
    parent = start()
    for step in range(11):
        parent.log({"a": step, "b": step, "sparse": step} if step % 5 == 0 else {"a": step, "b": step}, step=step)
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=5)
    child.log({"a": -5.0}, step=5)
    child.log({"a": -6.0, "b": -6.0}, step=6)
    child.log({"sparse": -7.0}, step=7)
    child.finish()
    assert points(child, "a") == {**{step: float(step) for step in range(5)}, 5: -5.0, 6: -6.0}
    assert points(child, "b") == {**{step: float(step) for step in range(6)}, 6: -6.0}
    assert points(child, "sparse") == {0: 0.0, 5: 5.0, 7: -7.0}
    assert points(parent, "a") == {step: float(step) for step in range(11)}, "the parent keeps its own"
    for metric in ("a", "b", "sparse"):
        drawn = api.chart(child.id, metric, pixels=100)
        assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == points(child, metric)
        assert drawn["count"] == [1] * len(points(child, metric))


def test_gap_a_child_that_logs_at_and_below_the_fork_step(logged: Any, start: Any) -> None:
    """Gap "child re-logs <= fork step": at it the child's point wins; below it the first call raises and says from where it may."""
    parent = logged(range(11))
    child = start(fork_run_id=parent.display_id, fork_step=10)
    with pytest.raises(ValueError, match="10"):
        child.log({"loss": 9.0}, step=9)
    child.log({"loss": 10.0}, step=10)
    child.log({"loss": 10.5}, step=10)
    child.log({"loss": 11.0})
    child.flush()
    expected = {**{step: 1 / (step + 1) for step in range(10)}, 10: 10.5, 11: 11.0}
    assert points(child) == expected
    assert points(child, inherited=False) == {10: 10.5, 11: 11.0}


def test_gap_a_metric_of_the_child_alone_and_one_of_the_parent_alone(start: Any, api: Api) -> None:
    """Gap "metric only in child": neither is cut at the boundary more than its run is."""
    parent = start()
    for step in range(11):
        parent.log({"parent/only": step, "both": step}, step=step)
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=5)
    for step in range(5, 9):
        child.log({"child/only": step, "both": -step}, step=step)
    child.finish()
    assert points(child, "parent/only") == {step: float(step) for step in range(6)}
    assert points(child, "child/only") == {step: float(step) for step in range(5, 9)}, "its point at the fork step, too"
    facts = {metric["name"]: metric for metric in api.get(f"/runs/{child.id}")["metrics"]}
    assert {name: (fact["points"], fact["own_points"]) for name, fact in facts.items()} == {
        "both": (9, 4),
        "child/only": (4, 4),
        "parent/only": (6, 0),
    }
    assert api.chart(child.id, "child/only", inherited=False)["points"] == 4
    assert api.chart(child.id, "parent/only", inherited=False)["points"] == 0
    assert child.metrics == ["both", "child/only", "parent/only"]
    assert parent.metrics == ["both", "parent/only"], "nothing flows upwards"


def test_defect_2_system_metrics_belong_to_their_run(start: Any, api: Api) -> None:
    """Defect 2, gap "sys metrics": their samples are counted by themselves, so that a fork step says nothing about them."""
    # A machine's samples are counted in milliseconds of the run's life: all of these lie below the fork step.
    parent = start()
    for step in (0, 1_000_000):
        parent.log({"loss": step}, step=step)
    parent._writer.log_system({"sys/cpu_percent": 50.0})
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=1_000_000)
    for value in (90.0, 91.0, 92.0):
        child._writer.log_system({"sys/cpu_percent": value})
        time.sleep(0.01)
    child.log({"loss": 1.0})
    child.finish()
    assert child.history("sys/cpu_percent").values.tolist() == [90.0, 91.0, 92.0]
    assert set(child.history("sys/cpu_percent").runs) == {child.id}
    drawn = api.chart(child.id, "sys/cpu_percent", x="relative")
    assert drawn["points"] == 3
    assert min(drawn["x_first"]) >= 0
    assert [segment["inherited"] for segment in drawn["segments"]] == [False]
    facts = {metric["name"]: metric for metric in api.get(f"/runs/{child.id}")["metrics"]}
    assert facts["sys/cpu_percent"]["system"]
    assert facts["sys/cpu_percent"]["points"] == 3
    assert "sys/cpu_percent" not in api.get("/runs")["runs"][0]["metrics"], "no column of the runs' table"


@pytest.mark.parametrize("step", [-1, 0, 9, 22, 30, 10**15, -(2**63), 2**63 - 1])
def test_defect_7_a_step_outside_is_refused_whatever_the_machine_counted(step: int, start: Any, logged: Any) -> None:
    """Defects 7 and 16, gaps "fork at negative, > max": both bounds, users' steps alone, at once; and nothing is made."""
    parent = start()
    for at in range(10, 21):
        parent.log({"loss": at}, step=at)
    # The machine's samples lie at milliseconds of its life.
    time.sleep(0.03)
    parent._writer.log_system({"sys/cpu_percent": 50.0})
    parent.finish()
    with pytest.raises(runtree.Invalid, match="can be forked at 10 to 21"):
        start(fork_run_id=parent.display_id, fork_step=step)
    assert [run.id for run in runtree.Store().runs()] == [parent.id], "a refused fork leaves no run"
    assert [project["name"] for project in runtree.Store().native.projects()] == ["digits"]
    assert start().number == 2, "and takes no number"


def test_defect_7_a_parent_without_steps_can_not_be_forked_anywhere(start: Any) -> None:
    """Defect 7: an empty parent accepts nothing, not everything."""
    start(name="empty").finish()
    for step in (0, 1, 999_999):
        with pytest.raises(runtree.Invalid, match="has logged no step yet"):
            start(fork_run_id="empty", fork_step=step)


@pytest.mark.parametrize(
    ("step", "kind"), [(1.5, TypeError), (1.0, TypeError), ("5", TypeError), (2**63, ValueError), (True, TypeError)]
)
def test_defect_16_a_step_that_is_no_whole_number_is_refused_in_the_call(
    step: Any, kind: type[Exception], logged: Any, start: Any
) -> None:
    """Defect 16, gap "fork at float": it never reaches a query."""
    parent = logged(range(11))
    with pytest.raises(kind):
        start(fork_run_id=parent.display_id, fork_step=step)
    assert len(runtree.Store().runs()) == 1


def test_gap_forks_at_the_first_the_last_and_the_next_step(logged: Any, start: Any) -> None:
    """Gap "fork at 0, > max": the range's ends are in it, the one step after the last logged included."""
    parent = logged(range(11))
    for step, inherited in ((0, 1), (10, 11), (11, 11)):
        child = start(fork_run_id=parent.display_id, fork_step=step)
        assert (child.fork_step, child.next_step, len(child.history("loss"))) == (step, step + 1, inherited)
        child.log({"loss": 0.0})
        child.finish()
        assert list(points(child))[-1] == step + 1


def test_negative_steps_are_steps(logged: Any, start: Any, api: Api) -> None:
    """Defect 16: where a trainer counts from below zero (warm-up), it is forked there like anywhere."""
    parent = logged(range(-10, 11))
    child = start(fork_run_id=parent.display_id, fork_step=-5)
    child.log({"loss": 9.0})
    child.finish()
    assert points(child) == {**{step: 1 / (abs(step) + 1) for step in range(-10, -4)}, -4: 9.0}
    assert api.chart(child.id, "loss")["x_first"] == list(range(-10, -3))


def test_defect_9_what_is_not_finite_goes_through_forks_as_what_it_is(start: Any, api: Api, cli: Any) -> None:
    """Defect 9, gap "NaN": NaN and both infinities before, at and after the joint: kept to the bit, counted, never a zero."""
    payload: float = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
    odd = [math.nan, math.inf, -math.inf, payload]
    parent = start()
    values = {step: odd[step % 4] if step % 3 == 0 else 1.0 + step for step in range(12)}
    for step, value in values.items():
        parent.log({"loss": value}, step=step)
    parent.finish()
    child = start(fork_run_id=parent.display_id, fork_step=9)
    own = {10: 2.0, 11: math.nan, 12: -math.inf, 13: 3.0}
    for step, value in own.items():
        child.log({"loss": value}, step=step)
    child.finish()
    expected = {step: value for step, value in values.items() if step <= 9} | own

    def bits(found: dict[int, float]) -> dict[int, bytes]:
        return {step: struct.pack("<d", value) for step, value in found.items()}

    assert bits(points(child)) == bits(expected)
    finite = [value for value in expected.values() if math.isfinite(value)]
    for pixels in (1, 2, 3, 1000):
        drawn = api.chart(child.id, "loss", pixels=pixels)
        assert sum(drawn["nonfinite"]) == len(expected) - len(finite)
        assert sum(drawn["count"]) == len(expected)
        assert min(read(each) for each in drawn["min"] if each != "NaN") == min(finite)
        assert max(read(each) for each in drawn["max"] if each != "NaN") == max(finite)
        for i, count in enumerate(drawn["count"]):
            steps = range(drawn["x_first"][i], drawn["x_last"][i] + 1)
            inside = [expected[step] for step in steps if step in expected]
            good = [value for value in inside if math.isfinite(value)]
            assert count == len(inside)
            assert bits({0: read(drawn["first"][i])}) == bits({0: inside[0]}) or math.isnan(inside[0])
            assert math.isnan(read(drawn["first"][i])) == math.isnan(inside[0])
            assert read(drawn["mean"][i]) == pytest.approx(sum(good) / len(good)) if good else drawn["mean"][i] == "NaN"
            assert 0.0 not in (read(drawn[part][i]) for part in ("min", "max", "mean", "first", "last"))
    [fact] = [fact for fact in api.get(f"/runs/{child.id}")["metrics"] if fact["name"] == "loss"]
    assert (fact["nonfinite"], read(fact["min"]["value"]), read(fact["max"]["value"])) == (6, min(finite), max(finite))
    assert read(fact["last"]["value"]) == 3.0
    [row] = [row for row in cli("runs")["runs"] if row["id"] == child.id]
    assert row["first_nonfinite"]["step"] == 0
    assert read(row["metrics"]["loss"]["value"]) == 3.0


def test_gap_the_same_step_of_siblings_is_each_ones_own(logged: Any, start: Any, api: Api) -> None:
    """Gap "same step from siblings": nobody sees another's, from the same parent, launch and step."""
    parent = logged(range(11))
    children = [start(fork_run_id=parent.display_id, fork_step=10) for _ in range(3)]
    for k, child in enumerate(children):
        for step in range(10, 15):
            child.log({"loss": 100.0 * k + step}, step=step)
    for k, child in enumerate(children):
        child.finish()
        expected = {**{step: 1 / (step + 1) for step in range(10)}, **{s: 100.0 * k + s for s in range(10, 15)}}
        assert points(child) == expected
        drawn = api.chart(child.id, "loss", pixels=100)
        assert dict(zip(drawn["x_first"], drawn["last"], strict=True)) == expected
    assert points(parent) == {step: 1 / (step + 1) for step in range(11)}
    assert runtree.Store().run(parent.id).children() == children
