"""A checkpoint is hurt: one process goes back to an older one aloud, several ranks never do."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree
from runtree.store import _open

Start = Callable[..., runtree.Run]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, 5000, dtype=np.uint8)


def flip(path: Path, at: int = 0) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def chunk_that_holds(store: Path, data: bytes) -> Path:
    [path] = [path for path in store.glob("chunks/*/*") if path.read_bytes() == data]
    return path


def test_one_process_goes_back_and_says_so(start: Start) -> None:
    run = start(store="store", run_id="alone", resume="allow")
    for step in range(3):
        run.log({"loss": 1.0 / (step + 1)}, step=step)
        run.save({"w": noise(step)}, step=step).result()
    run.finish()
    path = chunk_that_holds(Path("store"), noise(2).tobytes())
    flip(path)
    again = start(store="store", run_id="alone", resume="allow")
    with pytest.warns(runtree.RuntreeWarning, match=f"damaged.*{path.name[:64]}.*@1 was loaded instead"):
        state = again.load()
    assert state["w"].tobytes() == noise(1).tobytes()
    # Its history goes on from what was loaded, and nothing else was lost.
    again.log({"loss": 0.25}, step=2)
    again.finish()
    assert again.history("loss").values.tolist() == [1.0, 0.5, 0.25]
    assert [each.state for each in again.checkpoints()] == ["complete", "complete", "quarantined"]
    with pytest.raises(runtree.Corrupt, match=path.name[:64]):
        again.load(again.checkpoints()[-1])


def test_a_damaged_commit_is_no_older_checkpoint(start: Start) -> None:
    run = start(store="store", run_id="commit", resume="allow")
    for step in range(2):
        run.save({"w": noise(step)}, step=step).result()
    run.finish()
    flip(Path(f"store/runs/{run.id}/commits/1-1-0"), 40)
    told = subprocess.run(
        [Path(sys.executable).parent / "runtree", "reindex"],
        env={**os.environ, "RUNTREE_STORE": "store"},
        capture_output=True,
        text=True,
    )
    assert "commits/1-1-0 is damaged" in told.stderr
    # As on another machine, which has no index yet.
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    _open.clear()
    stored = runtree.Store("store").run(run.id)
    with pytest.raises(runtree.Corrupt, match="commits/1-1-0"):
        stored.checkpoint()
    assert [each.state for each in stored.checkpoints()] == ["complete", "quarantined"]
    with pytest.warns(runtree.RuntreeWarning, match="commits/1-1-0.*resuming from step 0 instead"):
        again = start(store="store", run_id="commit", resume="allow")
    assert again.load()["w"].tobytes() == noise(0).tobytes()


RANK = """
    import sys
    import numpy as np
    import runtree

    def noise(seed):
        return np.random.default_rng(seed).integers(0, 256, 5000, dtype=np.uint8)

    what = sys.argv[1]
    run = runtree.init("digits", store="store", resume="allow", console=False, system_metrics=False)
    if what == "save":
        for step in (1, 2):
            run.save({"w": noise(10 * step + run.rank)}, step=step, sharded=True).result()
        print("saved")
    else:
        try:
            state = run.load()
            step, = [step for step in (1, 2) if (state["w"] == noise(10 * step + run.rank)).all()]
            print("loaded", step, run.resumed_from.step)
        except runtree.Corrupt as damage:
            print("Corrupt", damage.message)
    run.finish()
"""


def launch(tmp_path: Path, what: str, name: str, ranks: int = 4) -> list[str]:
    """What the ranks of a launch print, in order of rank."""
    script = tmp_path / "rank.py"
    script.write_text(textwrap.dedent(RANK))
    environment: dict[str, Any] = {
        **os.environ,
        "WORLD_SIZE": str(ranks),
        "RUNTREE_RUN_ID": "shared",
        "RUNTREE_ATTEMPT": name,
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), what],
            env={**environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    told = [process.communicate(timeout=120) for process in processes]
    assert all(process.returncode == 0 for process in processes), told
    return [out.strip() for out, _ in told]


@pytest.mark.timeout(300)
def test_ranks_never_go_back_by_themselves_and_the_next_launch_does_for_all(tmp_path: Path) -> None:
    assert launch(tmp_path, "save", "first") == ["saved"] * 4
    path = chunk_that_holds(Path("store"), noise(23).tobytes())
    flip(path, 17)
    told = launch(tmp_path, "load", "second")
    assert told[:3] == ["loaded 2 2"] * 3
    assert told[3].startswith("Corrupt")
    assert path.name[:64] in told[3]
    assert "trainer-3" in told[3]
    [run] = runtree.Store("store").runs()
    assert [each.state for each in run.checkpoints()] == ["complete", "quarantined"]
    assert launch(tmp_path, "load", "third") == ["loaded 1 1"] * 4
    # Mended, it is what a launch resumes from again: nothing condemned it.
    flip(path, 17)
    assert launch(tmp_path, "load", "fourth")[0] in ("loaded 1 1", "loaded 2 2")


def test_a_launch_verifies_what_another_one_found_damaged_and_takes_it_if_it_was_mended(tmp_path: Path) -> None:
    launch(tmp_path, "save", "first", ranks=2)
    path = chunk_that_holds(Path("store"), noise(21).tobytes())
    flip(path)
    assert launch(tmp_path, "load", "second", ranks=2)[1].startswith("Corrupt")
    flip(path)
    assert launch(tmp_path, "load", "third", ranks=2) == ["loaded 2 2"] * 2
    [run] = runtree.Store("store").runs()
    assert [each.state for each in run.checkpoints()] == ["complete", "complete"]


def test_a_journal_that_lost_points_before_a_checkpoint_is_named_and_training_goes_on(start: Start) -> None:
    run = start(store="store", run_id="journal", resume="allow")
    for step in range(50):
        run.log({"loss": float(step)}, step=step)
    run.save({"w": noise(0)}, step=49).result()
    run.finish()
    # What was sealed would answer for the points: here nothing was.
    shutil.rmtree(f"store/runs/{run.id}/metrics")
    [journal] = Path(f"store/runs/{run.id}/journal").glob("*/*.log")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:200])
    writer = journal.parent.name
    stored = runtree.Store("store").run(run.id)
    with pytest.raises(runtree.Corrupt, match=f"journal {writer}.*before what a checkpoint recorded"):
        stored.history("loss")
    with pytest.warns(runtree.RuntreeWarning, match=f"goes on, but its charts can not be shown.*journal {writer}"):
        again = start(store="store", run_id="journal", resume="allow")
    assert again.load()["w"].tobytes() == noise(0).tobytes()
    again.log({"loss": 50.0}, step=50)
    again.save({"w": noise(1)}, step=50).result()
    again.finish()
    journal.write_bytes(whole)
    assert len(runtree.Store("store").run(run.id).history("loss").values) == 51


class Long(enum.Enum):
    TEXT = "x" * 5000


def test_a_long_enum_is_saved_as_it_was_checked(round_trip: Callable[[Any], Any]) -> None:
    runtree.check({"it": Long.TEXT})
    loaded = round_trip(Long.TEXT)
    assert getattr(loaded, "value", loaded) == "x" * 5000


@pytest.mark.parametrize("broken", ["a file in its place", "a full disk"])
def test_a_cache_folder_that_can_not_be_used_is_a_warning(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "a full disk":
        monkeypatch.setattr("runtree.store._INDEX_ROOM", 1 << 60)
    else:
        (tmp_path / "cache").write_text("not a folder")
    with pytest.warns(runtree.RuntreeWarning, match="index of .* XDG_CACHE_HOME"):
        run = runtree.init("p", run_id="k", system_metrics=False, console=False)
    run.log({"loss": 1.0}, step=0)
    run.save({"w": b"x"}, step=0).result()
    run.finish()
    assert list(run.history("loss").steps) == [0]
    assert [saved.step for saved in run.checkpoints()] == [0]


def test_verify_reads_what_a_fork_starts_from_though_it_was_deleted(start: Start) -> None:
    """It is a root: the fork's next launch loads it."""
    with start() as run:
        run.save({"w": noise(1)}, step=0).result()
    store = run.store
    with start(run_id="fork", fork=f"{run.id}@0"):
        pass
    run.checkpoint(0).delete()
    assert store.directory is not None
    flip(chunk_that_holds(store.directory, noise(1).tobytes()))
    assert store.verify()["problems"] != []
