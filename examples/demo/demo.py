"""The whole story on real data: crash, exact resume, divergence, fork, recovery. Prints what it measured, nothing else.

Run it with `make demo`. Everything lands in one store (`--store`), which is made anew.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import runtree

HERE = Path(__file__).parent
RUNTREE = Path(sys.executable).with_name("runtree")
METRICS = ["loss", "accuracy", "lr", "test/accuracy"]


def say(text=""):
    print(text, flush=True)


def title(number, text):
    say(f"\n\033[1m{number}. {text}\033[0m" if sys.stdout.isatty() else f"\n{number}. {text}")


class Killer:
    """Waits for a moment like most moments of a real training: steps are on disk that no checkpoint has yet. Then kill -9."""

    def __init__(self, store, process):
        self.store, self.process = store, process
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        commits, size = set(), None
        while self.process.poll() is None:
            now = {path.name for path in self.store.glob("runs/*/commits/*")}
            bytes_now = sum(path.stat().st_size for path in self.store.glob("runs/*/journal/*/*"))
            if now != commits:
                commits, size = now, bytes_now
            elif len(commits) >= 5 and bytes_now > size:
                self.process.send_signal(signal.SIGKILL)
                return
            time.sleep(0.001)


def train(*args, killed_in=None):
    """Runs the training script and shows its output; with the store in `killed_in`, it is killed with SIGKILL on the way."""
    command = [sys.executable, str(HERE / "train_digits.py"), *args]
    say("$ python train_digits.py " + " ".join(args))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        killer = Killer(killed_in, process) if killed_in else None
        for line in process.stdout:
            if not line.startswith("step") or int(line.split()[1].rstrip(":")) % 150 == 0:
                say("  " + line.rstrip())
        if killer:
            killer.thread.join()
            say("  kill -9")
    return process.returncode


def leaves(tree, path=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, tree


def bits(value):
    """An array's type and bytes; anything else (a step count, 128-bit random state) as it is."""
    return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def bit_equal(a, b):
    """Whether two saved states are the same in every bit; the number of leaves and array bytes that were compared."""
    left, right = dict(leaves(a)), dict(leaves(b))
    same = left.keys() == right.keys() and all(bits(left[path]) == bits(right[path]) for path in left)
    return (same, len(left), sum(value.nbytes for value in left.values() if isinstance(value, np.ndarray)))


def chunk_bytes(store):
    return sum(path.stat().st_size for path in (Path(store) / "chunks").rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    store_path = Path(parser.parse_args().store)
    shutil.rmtree(store_path, ignore_errors=True)
    os.environ["RUNTREE_STORE"] = str(store_path)
    started = time.monotonic()

    title(1, "A run is killed in the middle of training")
    assert train("--run-id", "digits", killed_in=store_path) == -signal.SIGKILL, "it ended before it was killed"

    title(2, "The same command goes on, and ends where an uninterrupted run ends")
    assert train("--run-id", "digits") == 0
    assert train("--run-id", "reference") == 0
    store = runtree.Store(str(store_path))
    resumed, reference = store.run("digits"), store.run("reference")
    same, arrays, size = bit_equal(resumed.checkpoint().load(), reference.checkpoint().load())
    say(
        f"  weights, Adam state and data order: {arrays} leaves, {size:,} bytes of arrays, {'bit-identical' if same else 'DIFFERENT'}"
    )
    curves = resumed.history(*METRICS), reference.history(*METRICS)
    same_curves = all(
        np.array_equal(curves[0][m].steps, curves[1][m].steps) and curves[0][m].values.tobytes() == curves[1][m].values.tobytes()
        for m in METRICS
    )
    points = sum(len(series) for series in curves[0].values())
    say(f"  metrics: {points:,} points, {'bit-identical' if same_curves else 'DIFFERENT'}")
    report = resumed.resume_report()
    say(f"  resume report: {report['text'] if report else 'it died right after a checkpoint, so no step was repeated'}")
    assert same, "the resumed run did not end where the uninterrupted one did"
    assert same_curves, "the resumed run's curves are not the uninterrupted one's"

    title(3, "Another run's learning rate grows too far: it diverges")
    assert train("--run-id", "hot", "--growth", "8") == 0
    subprocess.run([RUNTREE, "show", "hot"], check=True)

    title(4, "Fork it at the last good checkpoint, with a lower rate")
    before = chunk_bytes(store_path)
    clock = time.perf_counter()
    fork = store.fork("hot@last-good", name="cooler", run_id="cooler", config={"lr": 0.001, "growth": 1.0})
    milliseconds = (time.perf_counter() - clock) * 1e3
    copied = chunk_bytes(store_path) - before
    where = f"{fork.display_id} forked from {fork.parent} at step {fork.fork_step}"
    say(f"  {where}: {copied} chunk bytes, {milliseconds:.1f} ms")
    assert copied == 0
    assert train("--run-id", "cooler") == 0
    for name in ("hot", "cooler"):
        series = store.run(name).history("loss")
        say(f"  {name}: last loss {series.values[-1]:.4f} at step {series.steps[-1]}")

    title(5, "What there is now")
    for command in (["tree", "cooler"], ["runs"], ["stats"]):
        say("$ runtree " + " ".join(command))
        subprocess.run([RUNTREE, *command], check=True)
        say()
    say(f"({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
