"""Faults of disks and processes: a save never succeeds that is not there, training goes on, the store stays healthy (P1, P6, P10).

A single thread can not be killed from outside on Linux: a signal that kills takes the process. So the writer is killed with it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from faults.faults import Trainer, check_store, injected, mounted, require_root, run_or_skip, trace

pytestmark = pytest.mark.timeout(180)

WRITES = "write,pwrite64,pwritev"
SYNCS = "fsync,fdatasync"
FAULTS = {
    "full": f"{WRITES}:error=ENOSPC",
    "over quota": f"{WRITES}:error=EDQUOT",
    "broken": f"{WRITES}:error=EIO",
    "broken at sync": f"{SYNCS}:error=EIO",
    "over quota at sync": f"{SYNCS}:error=EDQUOT",
    "broken at rename": "renameat2,renameat,rename,link,linkat:error=EIO",
    "read-only": f"{WRITES},mkdir,mkdirat,renameat2,rename,link,linkat,ftruncate,fallocate:error=EROFS",
}


def failed(outcomes: dict[int, str]) -> set[int]:
    return {step for step, what in outcomes.items() if what != "saved"}


@pytest.mark.parametrize("fault", FAULTS)
def test_saves_fail_while_a_fault_lasts_and_work_when_it_is_gone(tmp_path: Path, fault: str) -> None:
    store = tmp_path / "store"
    with Trainer(store) as trainer:
        assert trainer.train(0, 1) == {0: "saved", 1: "saved"}
        with injected(trainer.process, FAULTS[fault]):
            outcomes = trainer.train(2, 3)
        assert failed(outcomes) == {2, 3}, outcomes
        assert trainer.train(4, 5) == {4: "saved", 5: "saved"}
        end = trainer.tell("finish")
        # Two saves that were returned are not there: that is said again, at the end, and was warned about meanwhile.
        assert end["finish"].startswith("LostData"), end
        assert end["warnings"], "nothing was said aloud"
    # Points of the time of the fault waited in memory.
    check_store(store, {0, 1, 4, 5}, not_saved={2, 3}, logged={*range(6)})


@pytest.mark.parametrize("fault", [f"{WRITES}:error=ENOSPC:when=2+3", f"{SYNCS}:error=EIO:when=3+5"])
def test_a_save_of_which_some_threads_fail_is_no_checkpoint(tmp_path: Path, fault: str) -> None:
    """Where DCP with several threads says nothing and commits."""
    store = tmp_path / "store"
    with Trainer(store) as trainer:
        outcomes = trainer.train(0)
        with injected(trainer.process, fault):
            outcomes |= trainer.train(1, 2, 3)
        assert failed(outcomes), outcomes
    # A process of its own: a directory whose sync failed is not relied upon any more by the one that saw it.
    with Trainer(store) as trainer:
        step = trainer.next_step
        outcomes |= trainer.train(step)
        assert outcomes[step] == "saved"
    # One that failed only in being told may be there; then it is whole, like all that are listed.
    check_store(store, outcomes.keys() - failed(outcomes))


def test_a_full_disk_takes_saves_again_when_there_is_room(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=20m", "tmpfs") as disk,
        Trainer(disk / "store") as trainer,
    ):
        assert trainer.train(0, 1) == {0: "saved", 1: "saved"}
        outcomes = trainer.train(2, 3, 4)
        assert {3, 4} <= failed(outcomes), outcomes
        assert any("space" in what for what in outcomes.values()), outcomes
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert trainer.train(5) == {5: "saved"}
        assert trainer.tell("finish")["finish"].startswith("LostData")
        check_store(disk / "store", {0, 1, 5}, not_saved=failed(outcomes), logged={*range(6)})


def test_a_disk_without_inodes_takes_saves_again_when_there_are_some(tmp_path: Path) -> None:
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=200m,nr_inodes=60", "tmpfs") as disk,
        Trainer(disk / "store") as trainer,
    ):
        outcomes = {}
        step = 0
        while not failed(outcomes):
            outcomes |= trainer.train(step)
            step += 1
            assert step < 20
        subprocess.run(["mount", "-o", "remount,nr_inodes=5000", str(disk)], check=True)
        assert trainer.train(step) == {step: "saved"}
        check_store(disk / "store", {*range(step + 1)} - failed(outcomes), not_saved=failed(outcomes))


def test_a_file_system_that_went_read_only_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """What ext4 does with ``errors=remount-ro`` when its metadata is wrong. It stays so until it is mounted again."""
    require_root()
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    run_or_skip("mkfs.ext4", "-q", "-F", str(image))
    place = tmp_path / "disk"
    with mounted(place, "-o", "loop,errors=remount-ro", str(image)):
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", str(place)], capture_output=True, text=True, check=True
        ).stdout.strip()
        trigger = Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error")
        with Trainer(place / "store") as trainer:
            assert trainer.train(0, 1) == {0: "saved", 1: "saved"}
            try:
                trigger.write_text("runtree test")
            except OSError as error:
                pytest.skip(f"{trigger}: {error}")
            outcomes = trainer.train(2, 3)
            assert failed(outcomes) == {2, 3}, outcomes
            assert trainer.tell("finish")["finish"].startswith("LostData")
    subprocess.run(["e2fsck", "-p", "-f", str(image)], capture_output=True, check=False)
    (place).rmdir()
    with mounted(place, "-o", "loop", str(image)):
        with Trainer(place / "store") as trainer:
            assert trainer.train(4) == {4: "saved"}
        check_store(place / "store", {0, 1, 4}, not_saved={2, 3})


def test_a_limit_on_file_sizes_fails_saves_and_no_more(tmp_path: Path) -> None:
    """``ulimit -f``; Python ignores the signal that comes with it."""
    store = tmp_path / "store"
    with Trainer(store) as trainer:
        assert trainer.train(0) == {0: "saved"}
        trainer.tell("limit 600000")
        outcomes = trainer.train(1, 2)
        assert failed(outcomes) == {1, 2}, outcomes
        trainer.tell("limit")
        assert trainer.train(3) == {3: "saved"}
        assert trainer.tell("finish")["finish"].startswith("LostData")
    check_store(store, {0, 3}, not_saved={1, 2}, logged={*range(4)})


@pytest.mark.parametrize(
    "at", ["write:when=9", "fsync:when=14", "fsync:when=22", "renameat2:when=8", "renameat2:when=14", "pwrite64:when=5"]
)
def test_a_writer_killed_at_a_system_call_leaves_what_was_acknowledged(tmp_path: Path, at: str) -> None:
    store = tmp_path / "store"
    call, when = at.split(":")
    saved: set[int] = set()
    try:
        with Trainer(store, trace(f"{call}:signal=SIGKILL:{when}")) as trainer:
            for step in range(50):
                outcomes = trainer.train(step)
                assert not failed(outcomes)
                saved |= outcomes.keys()
            pytest.fail("it outlived its killing")
    except EOFError:
        assert len(saved) < 50
    with Trainer(store) as trainer:
        after = trainer.next_step
        assert trainer.train(after) == {after: "saved"}
        assert trainer.tell("finish")["finish"] == "finished"
    check_store(store, saved | {after})
