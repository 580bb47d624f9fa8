"""Lists of runs as data frames: one row a run, stable types, nothing rounded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

import runtree
from runtree.store import Store


@pytest.fixture
def store(start: Callable[..., runtree.Run]) -> Store:
    """Three runs: a parent, its fork, and one that logged nothing."""
    parent = start(
        "frames", "parent", config={"lr": 0.1, "model": {"layers": 2, "name": "x"}, "on": True}, tags=["a", "b"]
    )
    for step in range(10):
        parent.log({"loss": 1.0 / (1 + step), "acc": float("nan") if step == 9 else step}, step=step)
    parent.save({"w": 1}, step=5).result()
    parent.finish()
    child = start(
        "frames",
        "child",
        fork_run_id=parent.id,
        fork_step=5,
        config={"lr": 1, "model": {"layers": None}, "list": [1, 2]},
    )
    child.log({"loss": -math.inf}, step=6)
    child.finish("failed", "out of luck")
    start("frames", "idle", config={"lr": "auto"}, notes="nothing yet").finish()
    return parent._store


def rows(table: Any) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in table.to_pylist()}


def test_a_table_says_what_the_runs_say(store: Store) -> None:
    pa = pytest.importorskip("pyarrow")
    runs = store.runs()
    table = runs.to_arrow()
    assert table["display_id"].to_pylist() == [run.display_id for run in runs]
    found = rows(table)
    parent, child, idle = found["parent"], found["child"], found["idle"]
    for run in runs:
        row = found[run.name]
        assert (row["id"], row["status"], row["tags"], row["number"]) == (run.id, run.status, run.tags, run.number)
        assert (row["last_step"], row["attempt"], row["notes"]) == (run.last_step, run.attempt, run.notes)
        assert (row["parent"], row["fork_run_id"], row["fork_step"]) == (run.parent, run.fork_run_id, run.fork_step)
    assert child["status_reason"] == "out of luck"
    assert parent["children"] == 1
    assert child["checkpoints"] == 1
    # Config: the type is that of all values, and what is no text becomes one where texts are.
    assert [found[name]["config.lr"] for name in ("parent", "child", "idle")] == ["0.1", "1", "auto"]
    assert parent["config.model.layers"] == 2
    assert child["config.model.layers"] is None
    assert child["config.list"] == "[1,2]"
    assert parent["config.list"] is None
    assert parent["config.on"] is True
    assert idle["config.on"] is None
    assert table.schema.field("config.model.layers").type == pa.int64()
    # Metrics: effective, inherited ones too; NaN is a value, nothing is null.
    assert (parent["last(loss)"], parent["last_step(loss)"]) == (0.1, 9)
    assert (child["last(loss)"], child["last_step(loss)"]) == (-math.inf, 6)
    assert (child["min(loss)"], child["min_step(loss)"]) == (1 / 6, 5)
    assert (child["max(acc)"], child["max_step(acc)"], child["last_step(acc)"]) == (5, 5, 5)
    assert math.isnan(parent["last(acc)"])
    assert idle["last(loss)"] is None
    assert idle["max_step(acc)"] is None


def test_a_list_stays_a_list(store: Store) -> None:
    runs = store.runs()
    assert isinstance(runs, list)
    assert len(runs) == 3
    assert [run.name for run in runs] == ["idle", "child", "parent"]
    assert runs[0].name == "idle"
    assert runs[-1].name == "parent"
    part = runs[1:]
    assert isinstance(part, runtree.Runs)
    assert [run.name for run in part] == ["child", "parent"]
    assert part.to_arrow()["name"].to_pylist() == ["child", "parent"]
    assert store.runs(limit=2) == runs[:2]
    assert store.runs("name:nobody") == []
    assert len(store.runs("name:nobody").to_arrow()) == 0
    assert store.runs("min(loss) < 0.15") == [runs[2]]
    assert [run.name for run in store.runs(sort="name", descending=False)] == ["child", "idle", "parent"]


def test_columns_of_some_metrics_alone(store: Store) -> None:
    table = store.runs().to_arrow(metrics=["loss", "never"])
    names = table.column_names
    assert "last(loss)" in names
    assert "last(acc)" not in names
    assert table["max_step(never)"].null_count == 3


def test_pandas_types_do_not_depend_on_what_is_missing(store: Store) -> None:
    pd = pytest.importorskip("pandas")
    whole = store.runs().to_pandas()
    for runs in (store.runs(), store.runs("name:parent"), store.runs("name:idle")):
        frame = runs.to_pandas(metrics=["loss"])
        assert len(frame) == len(runs)
        for column, kind in {
            "id": pd.StringDtype(),
            "number": pd.Int64Dtype(),
            "fork_step": pd.Int64Dtype(),
            "deleted": pd.BooleanDtype(),
            "last(loss)": "float64",
            "last_step(loss)": pd.Int64Dtype(),
            "created": "datetime64[us, UTC]",
        }.items():
            assert frame[column].dtype == kind, column
            assert whole[column].dtype == kind
    assert whole["tags"].tolist() == [[], [], ["a", "b"]]
    assert whole["fork_step"].isna().tolist() == [True, False, True]


def test_polars_reads_the_same(store: Store) -> None:
    pl = pytest.importorskip("polars")
    runs = store.runs()
    frame = runs.to_polars()
    assert frame["id"].to_list() == [run.id for run in runs]
    assert frame.schema["created"] == pl.Datetime("us", "UTC")
    assert frame.schema["tags"] == pl.List(pl.String)
    assert frame.filter(pl.col("max(acc)") > 5)["name"].to_list() == ["parent"]
    series = runs[1].history("loss")
    table = series.to_polars()
    assert table["value"].to_list() == series.values.tolist()
    assert table["step"].to_list() == series.steps.tolist()
    assert table["timestamp"].dt.epoch("us").to_list() == series.timestamps.view("<i8").tolist()
    assert table["run"].to_list() == list(series.runs)
    assert table["attempt"].to_list() == list(series.attempts)


def test_a_thousand_runs_are_a_table_in_no_time(start: Callable[..., runtree.Run]) -> None:
    pytest.importorskip("pyarrow")
    root = start("many", "root", config={"lr": 0.1})
    root.log({"loss": 1.0}, step=0)
    root.save({"w": 1}, step=0).result()
    root.finish()
    for number in range(999):
        root.fork(config={"seed": number})
    runs = root._store.runs()
    assert len(runs) == 1000
    begun = time.process_time()
    table = runs.to_arrow()
    took = time.process_time() - begun
    print(f"1,000 runs as a table: {took * 1000:.0f} ms of CPU")
    assert sorted(seed for seed in table["config.seed"].to_pylist() if seed is not None) == list(range(999))
    assert set(table["last(loss)"].to_pylist()) == {1.0}
    # A hundred thousand take seconds.
    assert took < 0.5
