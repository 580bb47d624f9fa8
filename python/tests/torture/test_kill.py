"""`kill -9` at random moments: nothing acknowledged is lost, nothing torn is listed, the next start needs no repair (P1, P2, P7)."""

import os
import pathlib
import random
import signal
import tempfile
import time

import pytest

from torture import saver

KILLS = int(os.environ.get("RUNTREE_KILLS", "300"))
SEED = int(os.environ.get("RUNTREE_SEED", random.randrange(1 << 30)))


def launch(name, seed):
    """Forks a saver; returns its pid and the pipe's end to read. No engine runs in this process, so a fork costs milliseconds."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            saver.save_for_ever(name, write, seed)
        except BaseException as error:
            os.write(write, f"WRONG {type(error).__name__}: {error}\n".replace("\n", " ").encode() + b"\n")
        os._exit(1)
    os.close(write)
    return pid, read


def read_all(pipe):
    with os.fdopen(pipe, "rb") as stream:
        return stream.read().decode().splitlines()


def check_in_child(*args):
    """Runs the check in a process of its own, so that this one stays free of engine threads and can go on forking."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            worst = saver.check(*args)
            status = 0
            print(f"lost {worst:.2f} s", flush=True)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def memory():
    """Where the savers stage: a tmpfs, so that it outlives them."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield pathlib.Path(path)


@pytest.mark.timeout(120 + 4 * KILLS)
def test_killed_savers_lose_nothing_they_were_promised(tmp_path, memory, monkeypatch):
    monkeypatch.setenv("RUNTREE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNTREE_STAGING_DIR", str(memory))
    print(f"RUNTREE_SEED={SEED}")
    rng = random.Random(SEED)
    saved = {"left": set(), "right": set()}
    staged = 0
    for kill in range(0, KILLS, 2):
        # Two savers at once, sharing chunks; a new pair of runs now and then, so that births and short histories are killed too.
        if kill % 60 == 0:
            names = [f"left-{kill}", f"right-{kill}"]
            saved = {name: set() for name in names}
        children = {name: launch(name, rng.randrange(1 << 30)) for name in names}
        for name, (pid, _) in children.items():
            time.sleep(rng.random() * 0.4 if name == names[0] else rng.random() * 0.1)
            os.kill(pid, signal.SIGKILL)
        died_at = time.time()
        for name, (pid, pipe) in children.items():
            os.waitpid(pid, 0)
            acknowledged, logged, wrong = saver.parse(read_all(pipe))
            assert not wrong, f"{name}: {wrong}"
            saved[name] |= acknowledged
            children[name] = logged
        # What is staged and not written now is a checkpoint at the next start: its bytes and points are checked like all others'.
        staged += sum("-trainer-0" in path.name for path in memory.glob("*/*/*/[!.]*"))
        if kill % 10 == 0 or kill >= KILLS - 2:
            for name in names:
                if saved[name] or children[name]:
                    assert check_in_child(str(tmp_path / "store"), name, saved[name], children[name], died_at) == 0
    print(f"{staged} saves were staged when their process died")
    small = os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize < 1 << 29
    assert staged or KILLS < 100 or small, "no save outlived its process: nothing was tried"
