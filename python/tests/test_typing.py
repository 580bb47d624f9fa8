"""The public types as a user sees them: checked by pyright in strict mode, and run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import runtree


def test_the_types_of_a_run(tmp_path: Path) -> None:
    with runtree.init(
        "typed", store=tmp_path / "store", config={"lr": 0.1}, console=False, system_metrics=False
    ) as run:
        run.log({"loss": 1.0, "nested": {"acc": 0.5}}, step=3)
        pending: runtree.PendingSave = run.save({"w": [1, 2]}, name="first", metrics={"acc": 0.5})
        checkpoint: runtree.Checkpoint = pending.result()
        step: int = checkpoint.step
        metrics: dict[str, float] = checkpoint.metrics
        reports: list[runtree.TensorReport] = checkpoint.inspect()
        assert reports == []
        config: Mapping[str, object] = run.config
        assert (step, metrics["acc"], config["lr"]) == (3, 0.5, 0.1)
        start: runtree.Checkpoint | None = run.resumed_from
        assert start is None
        health: runtree.Health = run.health()
        assert health.ok
        run.flush()
        series: runtree.Series = run.history("loss")
        assert len(series) == 1
        segments: list[runtree.Segment] = run.lineage()
        assert segments[0].run == run.display_id
    report: runtree.FinishReport = run.finish()
    assert report.last_step == 3
    store = runtree.Store(tmp_path / "store")
    found: list[runtree.StoredRun] = store.runs(project="typed")
    fork: runtree.StoredRun = store.fork(found[0].display_id, config={"lr": 0.2})
    owner: str | None = fork.fork_run_id
    assert owner == run.display_id
    check: runtree.StateCheck = runtree.check({"w": 1})
    assert check.ok


def test_the_types_of_a_checkpoint_block(tmp_path: Path) -> None:
    config: runtree.CheckpointConfig | None = runtree.CheckpointConfig.of({"interval": 2})
    assert config is not None
    interval: int | None = config.interval
    shared: dict[str, runtree.CheckpointConfig | None] = runtree.CheckpointConfig.share(config, trainer=None)
    rest: list[str] = runtree.CheckpointConfig.parse(["--ckpt", "left"][::-1]).rest
    with runtree.init("typed", store=tmp_path / "store", console=False, system_metrics=False) as run:
        checkpoints: runtree.Checkpointer = config.bind(run)
        start: int | None = checkpoints.resume({"w": 1})
        pending: runtree.PendingSave | None = checkpoints.save(2, {"w": 1})
    assert (interval, shared["trainer"], rest, start) == (2, config, ["left"], None)
    assert pending is not None


def test_errors_are_what_their_kinds_say() -> None:
    with pytest.raises(runtree.Error) as raised:
        runtree.init(fork_step=3)
    kind: str = raised.value.kind
    hint: str | None = raised.value.hint
    assert kind == "invalid"
    assert hint is not None
    assert isinstance(raised.value, ValueError)
