"""Sealed metrics are read without runtree, and are exactly what ``history()`` says."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from runtree.store import Store

ODD = [
    float("nan"),
    struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0],
    struct.unpack("<d", struct.pack("<Q", 0xFFF0_0000_0000_0001))[0],
    float("inf"),
    float("-inf"),
    -0.0,
    0.0,
    5e-324,
    -2.2250738585072009e-308,
    1.7976931348623157e308,
    0.1,
    float(np.float32(0.1)),
]
STEPS = [-(2**63), -5, 0, 1, 2, 3, 10, 2**31, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]


def segments(run: Any) -> Path:
    return run._store.path / "runs" / run.id / "metrics"


@pytest.fixture
def sealed(start: Callable[..., runtree.Run]) -> runtree.Run:
    """A finished run with odd values at odd steps, a metric without a point in common, and system metrics."""
    run = start("parquet")
    for step, value in zip(STEPS, ODD, strict=True):
        run.log({"odd": value, "train/ünïcode 'x'\"": step / 3}, step=step)
    for step in range(1000):
        run.log({"loss": float(np.float32(1 / (1 + step)))}, step=step)
    run.log({"loss": -1.0}, step=500)
    run.finish()
    return run


def bits(values: Any) -> list[int]:
    return np.asarray(values, "<f8").view("<u8").tolist()


def same(run: runtree.Run, name: str, steps: Any, values: Any, micros: Any) -> None:
    series = run.history(name)
    assert list(map(int, steps)) == series.steps.tolist()
    assert bits(values) == bits(series.values)
    assert list(map(int, micros)) == series.timestamps.view("<i8").tolist()


def test_pyarrow_reads_what_history_says(sealed: runtree.Run) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    files = list(segments(sealed).iterdir())
    assert len(files) == 1
    table = pq.read_table(segments(sealed))
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert set(table["run"].to_pylist()) == {sealed.id}
    assert set(table["attempt"].to_pylist()) == {1}
    assert table["rank"].null_count == len(table)
    assert sorted(set(table["metric"].to_pylist())) == sorted(sealed.metrics)
    keys = list(zip(table["metric"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert keys == sorted(keys, key=lambda key: (key[0].encode(), key[1]))
    for name in sealed.metrics:
        # One metric alone, as a reader of many would.
        rows = pq.read_table(segments(sealed), filters=[("metric", "==", name)])
        micros = rows["timestamp"].cast(pa.int64()).to_numpy()
        same(sealed, name, rows["step"].to_numpy(), rows["value"].to_numpy(), micros)
    metadata = pq.read_metadata(files[0]).metadata
    assert b'"version":1' in metadata[b"runtree.segment"]


def test_duckdb_reads_what_history_says(sealed: runtree.Run) -> None:
    duckdb = pytest.importorskip("duckdb")
    for name in sealed.metrics:
        rows = duckdb.execute(
            f"SELECT step, value, epoch_us(timestamp) AS micros FROM '{segments(sealed)}/*.parquet' WHERE metric = ? ORDER BY step",
            [name],
        ).fetchnumpy()
        same(sealed, name, rows["step"], rows["value"], rows["micros"])


def test_polars_reads_what_history_says(sealed: runtree.Run) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.scan_parquet(f"{segments(sealed)}/*.parquet")
    for name in sealed.metrics:
        rows = frame.filter(pl.col("metric") == name).collect()
        micros = rows["timestamp"].dt.epoch("us")
        same(sealed, name, rows["step"], rows["value"].to_numpy(), micros)


def test_the_queries_of_the_docs_follow_resumes_and_forks(start: Callable[..., runtree.Run]) -> None:
    duckdb = pytest.importorskip("duckdb")
    docs = Path(__file__).parents[2] / "docs" / "parquet.md"
    queries = [block.partition("```")[0] for block in docs.read_text().split("```sql\n")[1:]]
    parent = start("q", run_id="p", resume="allow")
    for step in range(100):
        parent.log({"train/loss": step + 0.5}, step=step)
    for step in (40, 60):
        parent.save({"w": np.zeros(3)}, step=step).result()
    parent.finish()
    again = start("q", run_id="p", resume="allow")
    for step in range(61, 80):
        again.log({"train/loss": step + 0.25}, step=step)
    again.finish()
    child = start("q", fork_run_id=parent.id, fork_step=40)
    for step in range(41, 90):
        child.log({"train/loss": -float(step)}, step=step)
    child.finish()

    def ask(query: str, **ids: str) -> list[tuple[Any, ...]]:
        text = query.replace(".runtree/", f"{parent._store.path}/")
        for short, run in ids.items():
            text = text.replace(f"{short}…", run)
        return duckdb.execute(text).fetchall()

    resumed = ask(queries[1], **{"01kb": parent.id})
    history = parent.history("train/loss")
    assert [row[:2] for row in resumed] == list(zip(history.steps.tolist(), history.values.tolist(), strict=True))
    assert [row[2] for row in resumed] == list(history.attempts)
    forked = ask(queries[2], **{"01kc": child.id})
    history = child.history("train/loss")
    assert [row[:2] for row in forked] == list(zip(history.steps.tolist(), history.values.tolist(), strict=True))
    assert [row[2] for row in forked] == list(history.runs)
    simple = ask(queries[0], **{"01kb": child.id})
    assert [row[0] for row in simple] == list(range(41, 90))
    assert len(ask(queries[3].replace("val/loss", "train/loss"))) == 2


def test_finish_does_not_wait_for_the_sealing_of_a_million_points(start: Callable[..., runtree.Run]) -> None:
    run = start("large")
    names = [f"m{number}" for number in range(10)]
    for step in range(100_000):
        run.log(dict.fromkeys(names, step * 0.1), step=step)
    begun = time.monotonic()
    run.finish()
    took = time.monotonic() - begun
    # `make bench` measures it; here it is only seen that nothing waits without a bound, on a machine that others keep busy.
    assert took < 15


TRAINER = """
import sys, runtree
run = runtree.init("kill", run_id="k", resume="allow", console=False, system_metrics=False)
first = run.next_step
for step in range(first, first + 20_000):
    run.log({"loss": step * 0.5, "odd": float("nan")}, step=step)
run._writer.flush()
print(run.id, run.next_step, flush=True)
run.finish()
"""


def test_a_kill_at_any_instant_of_sealing_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    steps, run_id, kills = 0, "", 0
    store = tmp_path / "store"
    environment = {**os.environ, "RUNTREE_STORE": str(store)}
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", TRAINER], stdout=subprocess.PIPE, env=environment, text=True
        ) as trainer:
            assert trainer.stdout
            words = trainer.stdout.readline().split()
            run_id, steps = words[0], int(words[1])
            # Durable from here on; then it finishes, and seals.
            time.sleep(chance.uniform(0, 0.15))
            kills += trainer.poll() is None
            trainer.send_signal(signal.SIGKILL)
            trainer.wait()
    run = Store(store).run(run_id)
    series = run.history("loss")
    assert series.steps.tolist() == list(range(steps))
    assert series.values.tolist() == [step * 0.5 for step in range(steps)]
    command = [sys.executable, "-m", "runtree", "--store", str(store)]
    subprocess.run([*command, "seal"], check=True, env=environment, capture_output=True)
    subprocess.run([*command, "verify"], check=True, env=environment, capture_output=True)
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(store / "runs" / run_id / "metrics", filters=[("metric", "==", "loss")])
    assert sorted(table["step"].to_pylist()) == list(range(steps))
    print(f"{kills} of 8 were killed alive")
