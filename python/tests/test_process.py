"""Processes: import time, exit, signals, forks, workers, pickling. Each in a process of its own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtree

# A shell's background jobs are born with SIGINT ignored, and so would be everything they start: these tests run there, too.
HEAD = """
import runtree, os, sys, time, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def rest():
    # CPython asks for signals after a call: one that comes as it waits for its lock is not seen until a sleep has ended.
    for _ in range(1200):
        time.sleep(0.05)
"""

_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    while _started:
        with _started.pop() as process:
            process.kill()


def run_script(body: str, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    script = HEAD + textwrap.dedent(body)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )
    if check:
        assert result.returncode == 0, result.stderr
    return result


def start_script(body: str) -> subprocess.Popen[str]:
    script = HEAD + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _started.append(process)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        out, err = process.communicate(timeout=30)
        raise AssertionError(out + err)
    return process


def only_run() -> runtree.StoredRun:
    [run] = runtree.Store().runs()
    return run


def test_import_is_quick_and_brings_no_framework() -> None:
    body = """
        import subprocess
        print("torch" in sys.modules, "numpy" in sys.modules, "jax" in sys.modules)
    """
    assert run_script(body).stdout.split() == ["False"] * 3
    timing = "import time; t = time.perf_counter(); import runtree; print(time.perf_counter() - t)"
    best = min(
        float(subprocess.run([sys.executable, "-c", timing], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )
    assert best < 0.080


def test_the_command_comes_with_the_package() -> None:
    result = subprocess.run([sys.executable, "-m", "runtree", "version"], capture_output=True, text=True, check=True)
    assert runtree.__version__ in result.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "runtree", "show", "X-1"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode not in (0, 1)
    assert wrong.stderr


def test_a_program_that_just_ends_has_completed() -> None:
    run_script("run = runtree.init('p'); run.log({'a': 1}); run.save({'w': b'x' * 100000})")
    run = only_run()
    assert run.status == "completed"
    assert run.last_step == 0
    assert len(run.checkpoints()) == 1


def test_an_uncaught_exception_fails_the_run_with_its_text() -> None:
    result = run_script("run = runtree.init('p'); run.log({'a': 1}); raise RuntimeError('out of luck')", check=False)
    assert result.returncode == 1
    assert "RuntimeError: out of luck" in result.stderr
    assert (only_run().status, only_run().status_reason) == ("failed", "RuntimeError: out of luck")


def test_sigterm_does_not_wait_for_a_device_that_never_delivers() -> None:
    process = start_script(
        """
        import types
        from runtree import _live
        _live.PATIENCE_SECONDS = 1.0

        class Stuck:
            is_cuda, is_cpu, device = True, False, types.SimpleNamespace(type='elsewhere')
            def numel(self): return 1
            def detach(self): return self
            def item(self): time.sleep(1000)

        run = runtree.init('p')
        run.log({'a': 1})
        for _ in range(5):
            run.log({'stuck': Stuck()})
        print('ready')
        rest()
        """
    )
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert (only_run().status, only_run().status_reason) == ("stopped", "SIGTERM")
    assert only_run().last_step == 0


def test_a_signal_handler_may_drain_what_its_own_thread_is_putting() -> None:
    from runtree._later import Later

    logged: list[int] = []
    later = Later(lambda step, _time, _values: logged.append(step))
    drained: list[bool] = []
    step = 0

    def interrupt(*_: object) -> None:
        drained.append(later.drain(10))
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    try:
        while len(drained) < 100:
            later.put(step, None, [])
            step += 1
            if step % 1000 == 0:
                assert later.drain(10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert later.drain(10)
    assert all(drained)
    assert logged == list(range(step))


def test_sigterm_stops_the_run_and_ends_the_program_as_before() -> None:
    process = start_script("run = runtree.init('p'); run.log({'a': 1}); print('ready'); rest()")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert (only_run().status, only_run().status_reason) == ("stopped", "SIGTERM")
    assert only_run().last_step == 0


def test_sigterm_goes_on_to_the_programs_own_handler() -> None:
    process = start_script(
        """
        signal.signal(signal.SIGTERM, lambda *_: (print("mine"), sys.exit(7)))
        run = runtree.init('p')
        print('ready')
        rest()
        """
    )
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 7
    assert "mine" in out
    assert only_run().status == "stopped"


def test_ctrl_c_interrupts_a_wait_and_the_run_ends_soon() -> None:
    # One of two declared parts never comes: result() would wait for ten minutes.
    process = start_script(
        """
        os.environ['RUNTREE_ATTEMPT'] = 'x'
        with runtree.init('p', console=False) as run:
            pending = run.save({'w': 1}, step=0, parts={'trainer': 1, 'other': 1})
            print('ready')
            pending.result()
        """
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=40)
    assert "KeyboardInterrupt" in err
    assert "are not durable" in err
    assert only_run().status == "stopped"
    assert only_run().checkpoints() == []
    assert len(only_run().checkpoints(pending=True)) == 1


def test_a_killed_program_loses_nothing_that_was_acknowledged() -> None:
    process = start_script(
        """
        run = runtree.init('p')
        for step in range(50):
            run.log({'a': step})
        run.save({'w': b'x' * 100000}).result()
        print('ready')
        rest()
        """
    )
    process.kill()
    process.communicate(timeout=30)
    run = only_run()
    assert run.history("a").steps.tolist() == list(range(50))
    assert run.load()["w"] == b"x" * 100000


def test_console_is_kept_and_streams_are_put_back() -> None:
    result = run_script(
        """
        before = sys.stdout, sys.stderr
        run = runtree.init('p')
        print('one'); print('two\\rthree'); print('tail', end='')
        print('oops', file=sys.stderr)
        run.finish()
        assert (sys.stdout, sys.stderr) == before
        print('after')
        """
    )
    assert result.stdout.splitlines() == ["one", "two", "three", "tailafter"]
    assert sorted(line for line in only_run().console() if not line.startswith("runtree:")) == [
        "one",
        "oops",
        "tail",
        "three",
    ]


def test_system_metrics_are_sampled() -> None:
    run_script("run = runtree.init('p', console=False); time.sleep(1.5); run.finish()")
    assert {"sys/cpu_percent", "sys/rss_bytes"} <= set(only_run().metrics)


def test_a_forked_child_has_a_run_that_does_nothing() -> None:
    run_script(
        """
        run = runtree.init('p')
        run.log({'a': 1})
        child = os.fork()
        if child == 0:
            assert run.disabled
            run.log({'a': 2}); run.log({'a': object()})
            run.save({'w': 1}, step=0).result()
            assert run.load(default=None) is None
            run.finish()
            print('the child prints')
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run.log({'a': 3})
        run.finish()
        """
    )
    assert only_run().history("a").values.tolist() == [1, 3]
    assert only_run().status == "completed"


def test_a_forked_child_can_start_a_run_of_its_own() -> None:
    run_script(
        """
        run = runtree.init('p', console=False)
        child = os.fork()
        if child == 0:
            mine = runtree.init('p', name='child', console=False)
            mine.log({'b': 1})
            mine.save({'w': 1}).result()
            mine.finish()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert {run.name for run in runtree.Store().runs()} >= {"child"}
    assert runtree.Store().run("child").load()["w"] == 1


def test_dataloader_workers_get_a_run_that_does_nothing() -> None:
    pytest.importorskip("torch")
    run_script(
        """
        import torch
        class Data(torch.utils.data.Dataset):
            def __len__(self): return 8
            def __getitem__(self, index):
                run.log({'worker': index})
                return index
        run = runtree.init('p', console=False)
        for batch in torch.utils.data.DataLoader(Data(), num_workers=2, multiprocessing_context='fork'):
            run.log({'a': 1})
        run.finish()
        """
    )
    assert only_run().metrics == ["a"]
    assert len(only_run().history("a")) == 8


def test_spawned_dataloader_workers_get_a_run_that_does_nothing_but_knows_its_config(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "spawned.py"
    script.write_text(
        textwrap.dedent(
            """
            import runtree, torch

            class Data(torch.utils.data.Dataset):
                def __init__(self, run):
                    self.run = run

                def __len__(self):
                    return 4

                def __getitem__(self, index):
                    self.run.log({"worker": index})
                    assert self.run.disabled and self.run.display_id != "disabled"
                    return index * self.run.config["scale"]

            if __name__ == "__main__":
                run = runtree.init("p", config={"scale": 3}, console=False, system_metrics=False)
                loader = torch.utils.data.DataLoader(Data(run), num_workers=1, multiprocessing_context="spawn")
                assert [int(batch) for batch in loader] == [0, 3, 6, 9]
                run.log({"a": 1})
                run.finish()
            """
        )
    )
    subprocess.run([sys.executable, "-W", "error", str(script)], check=True, timeout=100)
    assert only_run().metrics == ["a"]


def test_a_run_pickled_to_a_worker_writes_to_the_same_attempt(tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, sys
            import runtree

            def work(run):
                run.log({"worker": 5.0}, step=3)

            if __name__ == "__main__":
                run = runtree.init("p", console=False)
                run.log({"main": 1.0})
                process = multiprocessing.get_context("spawn").Process(target=work, args=(run,))
                process.start()
                process.join()
                assert process.exitcode == 0
                assert runtree.Store().run(run.display_id).status == "running"
                run.log({"main": 2.0})
                run.finish()
            """
        )
    )
    subprocess.run([sys.executable, "-W", "error", str(script)], check=True, timeout=100)
    run = only_run()
    assert (run.attempt, run.status) == (1, "completed")
    assert run.history("worker").steps.tolist() == [3]
    assert run.history("main").values.tolist() == [1, 2]


def test_pickling_in_the_same_process_is_the_same_run(start: Any) -> None:
    run = start()
    assert pickle.loads(pickle.dumps(run)) is run


def test_threads_may_log_and_save_at_once(start: Any) -> None:
    import threading

    run = start()

    def work(name: str) -> None:
        for step in range(200):
            run.log({name: step}, step=step)
        run.save({"name": name}, step=200).result()

    threads = [threading.Thread(target=work, args=(f"t{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.flush()
    assert all(run.history(f"t{index}").steps.tolist() == list(range(200)) for index in range(4))
    assert len(run.checkpoints()) == 4


def test_strict_mode_raises_what_would_be_a_warning(tmp_path: Path) -> None:
    result = run_script(
        """
        run = runtree.init('p', run_id='k', console=False)
        # Another launch takes the run over.
        import subprocess
        code = "import runtree; runtree.init('p', run_id='k', resume='must', console=False).finish()"
        subprocess.run([sys.executable, '-c', code], check=True)
        try:
            for step in range(100):
                run.log({'a': 1})
                time.sleep(0.1)
        except runtree.Conflict as error:
            print('raised', error)
        os._exit(0)
        """,
        RUNTREE_STRICT="1",
    )
    assert "raised" in result.stdout
    assert "attempt 2" in result.stdout


def test_a_notebook_shows_a_run_as_a_table(start: Any) -> None:
    run = start(name="<b>bold</b>")
    assert "&lt;b&gt;bold&lt;/b&gt;" in run._repr_html_()
