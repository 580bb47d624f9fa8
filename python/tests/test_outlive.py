"""What was staged when a trainer was killed is written by the next one (docs/design/0006)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtree

MEMORY = Path("/dev/shm")
BIG = 192 << 20


def _has_room() -> bool:
    """Half is left to others, and two of the saves below may be staged at once."""
    if not MEMORY.is_dir():
        return False
    system = os.statvfs(MEMORY)
    return system.f_bavail * system.f_frsize > system.f_blocks * system.f_frsize // 2 + 4 * BIG


pytestmark = pytest.mark.skipif(not _has_room(), reason="/dev/shm is too small here: saves end with their process")

TRAINER = """
    import os, sys, time
    import numpy as np
    import runtree

    run = runtree.init("p", run_id="r", resume="allow", system_metrics=False, console=False)
    def state(step):
        # Too much to be written before somebody who looks has killed the process.
        return {"big": np.random.default_rng(step).integers(0, 256, 192 << 20, dtype=np.uint8), "step": step}
    run.log({"loss": 10.0}, step=10)
    run.save({"small": np.arange(9), "step": 10}, step=10).result()
    run.log({"loss": 11.0}, step=11)
    big = state(20)
    run.log({"loss": 20.0}, step=20)
    saved = run.save(big, step=20, pin=True)
    big["big"][:] = 0  # what was saved is what it was
    run.log({"loss": 21.0}, step=21)
"""
SLEEP = "\n    time.sleep(60)\n"
# Whoever looks for what is staged comes first, on a busy machine too: on a quick disk it is written within a tenth of a second.
SLOWLY = "import os; os.nice(15)\n"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of a file system in memory for this test alone."""
    path = Path(tempfile.mkdtemp(dir=MEMORY))
    monkeypatch.setenv("RUNTREE_STAGING_DIR", str(path))
    yield path
    kill(*started)  # those of a test that failed would go on writing there
    started.clear()
    shutil.rmtree(path)


started: list[subprocess.Popen[str]] = []


def trainer(body: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", SLOWLY + textwrap.dedent(body)]
    process = subprocess.Popen(command, env={**os.environ, **environment}, text=True, stderr=subprocess.PIPE)
    started.append(process)
    return process


def at_depth(memory: Path, depth: int) -> Iterator[Path]:
    """What is there while others make, rename and remove it (`glob` raises for what vanishes)."""
    for where, directories, files in os.walk(memory):
        here = Path(where)
        if len(here.relative_to(memory).parts) == depth - 1:
            yield from (here / name for name in directories + files)


def notes(memory: Path) -> list[Path]:
    return [
        path
        for path in at_depth(memory, 4)
        if path.name != "owner" and not path.name.startswith(".") and not path.name[1:].isdigit()
    ]


def rooms(memory: Path) -> list[Path]:
    return [path for path in at_depth(memory, 3) if path.is_dir()]


def wait_for_notes(memory: Path, count: int, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(notes(memory)) < count:
        for process in processes:
            assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "nothing was staged"
        time.sleep(0.0005)


def kill(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        if process.returncode is None:
            process.communicate()


def killed_with_a_staged_save(memory: Path, **environment: str) -> None:
    process = trainer(TRAINER + SLEEP, **environment)
    wait_for_notes(memory, 1, process)
    kill(process)
    [note] = notes(memory)
    assert "-20-0-trainer-0" in note.name
    [run] = runtree.Store().runs()
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [10], "it is no checkpoint yet"


def resume(**options: Any) -> runtree.Run:
    return runtree.init("p", run_id="r", resume="allow", system_metrics=False, console=False, **options)


def test_the_next_launch_resumes_from_what_was_staged(memory: Path) -> None:
    killed_with_a_staged_save(memory)
    with resume() as run:
        assert (run.attempt, run.next_step) == (2, 21)
        state = run.load()
        expected = np.random.default_rng(20).integers(0, 256, 192 << 20, dtype=np.uint8)
        assert state["step"] == 20
        assert np.array_equal(state["big"], expected)
        # What was logged before the save is there; the save is never without it.
        assert run.history("loss").steps.tolist() == [10, 11, 20]
        mine = {room for room in rooms(memory) if room.name.startswith(f"{os.getpid()}-")}
        assert set(rooms(memory)) == mine, "the memory of the dead one is free again"
    [stored] = runtree.Store().runs()
    assert [(saved.step, saved.pinned) for saved in stored.checkpoints()] == [(10, False), (20, True)]
    report = runtree.Store().verify()
    assert report["problems"] == []


def test_a_run_that_went_on_elsewhere_does_not_get_it(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_with_a_staged_save(memory)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("RUNTREE_STAGING_DIR", "none")
        with resume() as run:
            assert run.next_step == 11
            run.log({"loss": 0.0}, step=11)
    with resume() as run:
        assert (run.attempt, run.next_step) == (3, 11)
    [stored] = runtree.Store().runs()
    assert [saved.step for saved in stored.checkpoints()] == [10]
    assert notes(memory) == []


def test_another_store_leaves_it_alone_for_a_day(memory: Path, tmp_path: Path) -> None:
    killed_with_a_staged_save(memory)
    shutil.copytree(".runtree", tmp_path / "copy")
    with resume(store=str(tmp_path / "copy")) as run:
        assert run.next_step == 11, "a copy of a store is another store"
    [note] = notes(memory)
    yesterday = time.time() - 25 * 3600
    os.utime(note, (yesterday, yesterday))
    with resume(store=str(tmp_path / "copy")):
        assert notes(memory) == []


LEFT = "the save of step 20 was staged when its process died, and can not be written"


def on_a_full_disk(body: str) -> tuple[int, str]:
    limited = f"""
        import resource, signal, sys, warnings
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, 16 << 20))
        import runtree
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            {body}
        print([str(warning.message) for warning in caught], file=sys.stderr)
    """
    process = trainer(limited)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def test_a_disk_that_is_full_keeps_it_for_later(memory: Path) -> None:
    killed_with_a_staged_save(memory)
    [note] = notes(memory)
    code, said = on_a_full_disk('runtree.init("other", system_metrics=False, console=False).finish()')
    assert code == 0, said
    assert LEFT in said, "another run starts, and says so"
    assert notes(memory) == [note]
    code, said = on_a_full_disk('runtree.init("p", run_id="r", resume="allow", system_metrics=False, console=False)')
    assert code == 1
    assert "runtree.errors.Unavailable: " + LEFT in said
    assert "RUNTREE_STAGING_DIR=none" in said, "its own run says how to go on without it"
    assert notes(memory) == [note]
    with resume() as run:
        assert run.next_step == 21


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "raise ValueError('x')", "os.kill(os.getpid(), 15)\n    time.sleep(60)"]
)
def test_whoever_ends_by_itself_leaves_nothing(memory: Path, end: str) -> None:
    process = trainer(TRAINER + f"    assert os.listdir({str(memory)!r})\n    {end}\n")
    process.communicate(timeout=60)
    assert rooms(memory) == []
    [run] = runtree.Store().runs()
    assert [saved.step for saved in run.checkpoints()] == [10, 20]


def test_who_had_no_time_left_loses_nothing_either(memory: Path) -> None:
    process = trainer(TRAINER + SLEEP, RUNTREE_GRACE_SECONDS="0")
    wait_for_notes(memory, 1, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    # A fast disk has it, with a slow one it is still here.
    with resume() as run:
        assert run.next_step == 21
        assert run.load()["step"] == 20


PART = """
    import os, sys, time
    import numpy as np
    import runtree
    run = runtree.init("p", run_id="r", resume="allow", system_metrics=False, console=False)
    big = np.random.default_rng({seed}).integers(0, 256, 192 << 20, dtype=np.uint8)
    sys.stdin.readline()
    run.save({{"big": big}}, step=5, component={component!r}, parts={{"trainer": 1, "orchestrator": 1}})
    time.sleep(60)
"""


def staged_parts(memory: Path) -> None:
    """Both parts of a checkpoint, staged and not written, by processes that are gone."""
    bodies = [PART.format(seed=seed, component=component) for seed, component in enumerate(("trainer", "orchestrator"))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SLOWLY + textwrap.dedent(body)],
            env={**os.environ, "RUNTREE_ATTEMPT": "one"}, text=True, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for body in bodies
    ]  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(Path(".runtree").glob("runs/*/journal/*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for count, process in enumerate(processes, 1):
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_for_notes(memory, count, process)
        # Not dead yet, and not a byte further: its note stays while the other stages.
        process.send_signal(signal.SIGSTOP)
    kill(*processes)
    assert len(notes(memory)) == 2


def test_parts_of_several_processes_become_one_checkpoint(memory: Path) -> None:
    staged_parts(memory)
    with resume() as run:
        assert run.next_step == 6
        for seed, component in enumerate(("trainer", "orchestrator")):
            state = run.checkpoint().load(component=component)
            assert np.array_equal(state["big"], np.random.default_rng(seed).integers(0, 256, BIG, dtype=np.uint8))
    assert notes(memory) == []


def test_a_full_disk_gives_up_no_part_of_a_checkpoint(memory: Path) -> None:
    staged_parts(memory)
    code, said = on_a_full_disk('runtree.init("other", system_metrics=False, console=False).finish()')
    assert code == 0, said
    assert len(notes(memory)) == 2
    with resume() as run:
        assert run.next_step == 6


def test_who_joined_the_launch_since_went_on_without_it(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_with_a_staged_save(memory, RUNTREE_ATTEMPT="one")
    monkeypatch.setenv("RUNTREE_ATTEMPT", "one")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("RUNTREE_STAGING_DIR", "none")
        run = resume()
        assert run.attempt == 1, "it joined: nothing fences the dead process"
    # Whoever starts anything in the store now must not commit what the dead one had.
    with runtree.init("other", system_metrics=False, console=False):
        pass
    for step in (11, 20):
        run.log({"loss": 0.5}, step=step)
    run.save({"mine": np.arange(3)}, step=20).result()
    run.finish()
    assert runtree.Store().checkpoint("r@20").load()["mine"].tolist() == [0, 1, 2]


def test_a_cancelled_save_stays_cancelled(memory: Path) -> None:
    # Half a second to write: a process that loses its turn in between still comes in time to cancel.
    body = (
        TRAINER.replace("192 << 20", "512 << 20")
        + """
    while not any("-trainer-" in name for _, _, names in os.walk(os.environ["RUNTREE_STAGING_DIR"]) for name in names):
        pass
    saved.cancel()
    os.kill(os.getpid(), 9)
"""
    )
    process = trainer(body)
    process.communicate(timeout=60)
    assert notes(memory) == []
    with resume() as run:
        assert run.next_step == 11


def test_memory_of_another_place_is_not_taken_for_that_of_this_one(memory: Path) -> None:
    body = """
        import os, sys, tempfile, time
        import numpy as np
        import runtree
        def part(seed, mib):
            return np.random.default_rng(seed).integers(0, 256, mib << 20, dtype=np.uint8)
        first = os.environ["RUNTREE_STAGING_DIR"]
        os.environ["RUNTREE_STAGING_DIR"] = tempfile.mkdtemp(dir=first)
        one = runtree.init("p", name="one", system_metrics=False, console=False)
        one.save({"big": part(1, 150)}, step=0).result()
        os.environ["RUNTREE_STAGING_DIR"] = first
        run = runtree.init("p", run_id="r", resume="allow", system_metrics=False, console=False)
        run.save({"big": part(2, 300)}, step=7)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not any("-7-0-" in name for _, _, names in os.walk(first) for name in names):
            pass
        os.kill(os.getpid(), 9)
    """
    process = trainer(body)
    process.communicate(timeout=60)
    with resume() as run:
        state = run.load(default=None)
        # Where the save lay in two places it ended with its process; what is there is right.
        if state is not None:
            assert np.array_equal(state["big"], np.random.default_rng(2).integers(0, 256, 300 << 20, dtype=np.uint8))


def test_waiting_for_another_process_can_be_interrupted(memory: Path) -> None:
    body = """
        import runtree, sys
        print("started", file=sys.stderr, flush=True)
        runtree.init("p", system_metrics=False, console=False)
    """
    with runtree.init("p", system_metrics=False, console=False):
        pass
    [turn] = memory.glob("runtree-*/*/turn")
    import fcntl

    with turn.open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        process = trainer(body)
        assert process.stderr is not None
        assert "started" in process.stderr.readline()
        time.sleep(0.5)
        assert process.poll() is None, "it waits for its turn"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
    assert "KeyboardInterrupt" in said


def test_a_directory_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTREE_STAGING_DIR", "/nowhere")
    with pytest.raises(runtree.Invalid, match="RUNTREE_STAGING_DIR '/nowhere' is not a directory"):
        resume()
