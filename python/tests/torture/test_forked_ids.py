"""Processes forked from one that already drew ids draw others: a generator's state must not travel with the fork."""

import os

import runtree


def start_in_child(store):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        run = runtree.init("forked", store=store, console=False, system_metrics=False)
        os.write(write, f"{run.id} {run.display_id}".encode())
        run.finish()
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return told.split()


def test_children_of_one_process_start_runs_of_their_own(tmp_path):
    store = str(tmp_path / "store")
    runtree.Store(store, create=True)  # draws ids in the parent
    told = [start_in_child(store) for _ in range(4)]
    # The low 80 of an id's 128 bits are random: its last 16 characters.
    assert len({run[-16:] for run, _ in told}) == 4, told
    assert [display for _, display in told] == ["FOR-1", "FOR-2", "FOR-3", "FOR-4"]
