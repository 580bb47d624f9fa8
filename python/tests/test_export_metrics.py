"""Metrics go out as files that hold exactly what ``history()`` says."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree

VALUES = [
    0.1,
    float("nan"),
    float("inf"),
    float("-inf"),
    -0.0,
    5e-324,
    1.7976931348623157e308,
    1e16,
    3e-5,
    float(np.float32(0.1)),
]
COLUMNS = ["run", "metric", "step", "value", "timestamp", "logged_by", "attempt"]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def forked(start: Callable[..., runtree.Run]) -> runtree.Run:
    """A fork of a run that was resumed: what it inherits comes from two launches."""
    parent = start("x", "parent", run_id="p", resume="allow")
    for step, value in enumerate(VALUES):
        parent.log({'odd,"name"': value, "train/loss": step / 7}, step=step)
    parent.save({"w": 1}, step=4).result()
    parent.finish()
    again = start("x", run_id="p", resume="allow")
    again.log({"train/loss": -1.0}, step=5)
    again.save({"w": 1}, step=5).result()
    again.log({"train/loss": -2.0}, step=6)
    again.finish()
    child = start("x", "child", fork_run_id=parent.id, fork_step=5)
    child.log({"train/loss": 3.5, "own": 1.0}, step=6)
    child.finish()
    return child


def cli(run: runtree.Run, *arguments: str, **keywords: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "runtree", "--store", str(run._store.path), "export-metrics", *arguments]
    return subprocess.run(command, capture_output=True, check=False, **keywords)


def expected(run: runtree.Run, inherited: bool = True) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name in sorted(run.metrics, key=str.encode):
        series = run.history(name, inherited=inherited)
        columns = (
            series.steps.tolist(),
            series.values.tolist(),
            series.timestamps.view("<i8").tolist(),
            series.runs,
            series.attempts,
        )
        rows += [
            (run.id, name, step, value, time, by, attempt)
            for step, value, time, by, attempt in zip(*columns, strict=True)
        ]
    return rows


def micros(text: str) -> int:
    span = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def same(found: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> None:
    def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*row[:3], np.float64(row[3]).tobytes() if not math.isnan(row[3]) else "NaN", *row[4:])

    assert [exact(row) for row in found] == [exact(row) for row in wanted]


def of_csv(text: str) -> list[tuple[Any, ...]]:
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[0] == COLUMNS
    return [(r, m, int(s), float(v), micros(t), by, int(a)) for r, m, s, v, t, by, a in lines[1:]]


def of_jsonl(text: str) -> list[tuple[Any, ...]]:
    found = []
    for line in text.splitlines():
        row = json.loads(line)
        assert list(row) == COLUMNS
        found.append(
            (
                row["run"],
                row["metric"],
                row["step"],
                float(row["value"]),
                micros(row["timestamp"]),
                row["logged_by"],
                row["attempt"],
            )
        )
    return found


def of_parquet(path: Path) -> list[tuple[Any, ...]]:
    pa = pytest.importorskip("pyarrow")
    table = pytest.importorskip("pyarrow.parquet").read_table(path)
    assert table.column_names == COLUMNS
    table = table.set_column(4, "timestamp", table["timestamp"].cast(pa.int64()))
    return [tuple(row.values()) for row in table.to_pylist()]


def test_every_format_holds_the_effective_history(forked: runtree.Run, tmp_path: Path) -> None:
    wanted = expected(forked)
    parent = forked._store.run("p", project="x").id
    assert {row[5] for row in wanted if row[1] == "train/loss"} == {forked.id, parent}
    assert {row[6] for row in wanted if row[5] == parent} == {1, 2}
    report = forked.export_metrics(tmp_path / "a.parquet")
    assert report == {"runs": 1, "metrics": 3, "points": len(wanted)}
    same(of_parquet(tmp_path / "a.parquet"), wanted)
    forked.export_metrics(tmp_path / "a.csv")
    same(of_csv((tmp_path / "a.csv").read_text()), wanted)
    forked.export_metrics(tmp_path / "a.txt", format="jsonl")
    same(of_jsonl((tmp_path / "a.txt").read_text()), wanted)
    forked.export_metrics(tmp_path / "own.csv", inherited=False)
    same(of_csv((tmp_path / "own.csv").read_text()), expected(forked, inherited=False))
    # The command line says the same.
    same(of_csv(cli(forked, forked.display_id).stdout.decode()), wanted)
    same(of_jsonl(cli(forked, forked.display_id, "--format", "jsonl").stdout.decode()), wanted)
    same(of_csv(cli(forked, forked.display_id, "--own").stdout.decode()), expected(forked, inherited=False))
    done = cli(forked, forked.display_id, "-o", str(tmp_path / "b.parquet"))
    assert done.returncode == 0
    assert b"points of 3 metrics of 1 run" in done.stdout
    same(of_parquet(tmp_path / "b.parquet"), wanted)


def test_runs_and_metrics_are_chosen(forked: runtree.Run, tmp_path: Path) -> None:
    found = of_csv(cli(forked, "--filter", "project:x", "--metrics", "train/*", "--metrics", "own").stdout.decode())
    assert {row[1] for row in found} == {"train/loss", "own"}
    assert {row[0] for row in found} == {run.id for run in forked._store.runs()}
    forked.export_metrics(tmp_path / "o.csv", metrics="o*")
    assert {row[1] for row in of_csv((tmp_path / "o.csv").read_text())} == {'odd,"name"', "own"}
    refused = cli(forked, forked.display_id, "--metrics", "nothing/*")
    assert refused.returncode == 3
    assert b"no metric of these runs matches nothing/*" in refused.stderr
    with pytest.raises(runtree.Invalid, match="no format"):
        forked.export_metrics(tmp_path / "o.csv", format="xml")


def test_a_file_appears_whole_or_not_at_all(forked: runtree.Run, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.csv"
    with pytest.raises(runtree.Error, match="can not create"):
        forked.export_metrics(target)
    target.parent.mkdir()
    target.write_text("before")
    with pytest.raises(runtree.NotFound):
        forked.export_metrics(target, metrics="nothing")
    assert target.read_text() == "before"
    assert os.listdir(target.parent) == ["a.csv"]
    forked.export_metrics(target)
    assert target.read_text().startswith("run,metric")
    assert os.listdir(target.parent) == ["a.csv"]
    with pytest.raises(runtree.Invalid, match="is a directory"):
        forked.export_metrics(target.parent)


def test_a_reader_that_goes_away_is_no_error(forked: runtree.Run) -> None:
    command = [sys.executable, "-m", "runtree", "--store", str(forked._store.path), "export-metrics", forked.display_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.timeout(300)
def test_five_million_points_leave_within_a_bound_of_memory(start: Callable[..., runtree.Run], tmp_path: Path) -> None:
    rows = int(os.environ.get("RUNTREE_EXPORT_ROWS", "500000"))
    run = start("large")
    names = [f"m{number}" for number in range(10)]
    for step in range(rows):
        run.log(dict.fromkeys(names, step * 0.1), step=step)
    run.finish()
    for file in ("a.parquet", "a.csv", "a.jsonl"):
        child = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        path = tmp_path / file
        command = [sys.executable, "-m", "runtree", "--store", str(run._store.path)]
        command += ["export-metrics", run.display_id, "-o", str(path)]
        done = subprocess.run([sys.executable, "-c", child, *command], check=True, capture_output=True, text=True)
        megabytes = int(done.stdout) / 1024
        print(
            f"{rows * 10:,} points to {file}: {path.stat().st_size / 1e6:.0f} MB, {megabytes:.0f} MB of memory at most"
        )
        assert megabytes < 256
        path.unlink()
