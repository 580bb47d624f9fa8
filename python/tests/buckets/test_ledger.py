"""What ledgers promise: which checkpoints must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckets.ledger import Ledger, Promises

ONE = {"checkpoints": ["ck"]}


@pytest.mark.parametrize(
    ("history", "must_be_there"),
    [
        ([], True),
        (["deleting", "deleted"], False),
        # Asked for and never acknowledged: it may happen yet.
        (["deleting"], False),
        (["deleting", "restoring", "restored"], False),
        (["deleting", "deleted", "restoring", "restored"], True),
        (["deleting", "deleted", "restoring"], False),
        # The restoration may have been the first of the two to reach the store.
        (["deleting", "restoring", "deleted", "restored"], False),
        (["deleting", "deleted", "restoring", "restored", "deleting", "deleted"], False),
    ],
)
def test_a_checkpoint_must_be_there_unless_it_may_be_deleted(
    tmp_path: Path, history: list[str], must_be_there: bool
) -> None:
    mine, others = Ledger(tmp_path / "mine"), Ledger(tmp_path / "others")
    mine.note("started", key="run")
    mine.note("saved", checkpoint="ck", step=3)
    for did in history:
        others.note(did, **ONE)
    promises = Promises.of([tmp_path / "mine", tmp_path / "others"])
    assert promises.saved["ck"].key == "run"
    assert promises.must_be_there("ck") is must_be_there


def test_only_the_points_of_the_last_process_are_its_tail(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for steps in ([0, 1], [1, 2]):
        ledger.note("started", key="run")
        for step in steps:
            ledger.note("logged", step=step)
    assert [step for step, _ in Promises.of([tmp_path / "ledger"]).tails["run"]] == [1, 2]
