"""The training of docs/walk-through.md: a small network reads handwritten digits, and its learning rate grows until it breaks.
python examples/walk_through.py RUN_ID [--fork REF] [--set KEY=VALUE ...]: starts a run, goes on with one, launches a fork.
Needs numpy and scikit-learn."""

import argparse
import os
import signal
import time

import numpy as np
import runtree
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("run_id", nargs="?")
parser.add_argument("--fork", metavar="REF")
parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--pause", type=float, default=0, help="seconds to wait in each step, to have something to watch")
parser.add_argument("--die-at", type=int, help="kill -9 itself there, as a machine does that goes away")
args = parser.parse_args()

digits = load_digits()
images, labels = digits.data / 16, digits.target
test_x, test_y = images[1400:], labels[1400:]


def forward(model, x, y):
    hidden = np.maximum(x @ model["hidden"], 0)
    chances = np.exp(hidden @ model["out"])  # a classic: large values overflow, and inf / inf is NaN
    chances /= chances.sum(axis=1, keepdims=True)
    return hidden, chances, -np.log(chances[np.arange(len(y)), y]).mean(), np.mean(chances.argmax(axis=1) == y)


def look(run, step, model):
    """What is more than a number: pictures, a histogram, a table, a text, and an alert when it goes wrong."""
    _, chances, loss, accuracy = forward(model, test_x, test_y)
    guess = chances.argmax(axis=1)
    wrong = np.flatnonzero(guess != test_y)
    print(f"step {step}: test loss {loss:.4f}, accuracy {accuracy:.3f}")
    run.log({"test": {"loss": loss, "accuracy": accuracy}}, step=step)
    picture = lambda i: images[1400 + i].reshape(8, 8).repeat(12, 0).repeat(12, 1)  # noqa: E731
    run.log({"mistakes": [runtree.Image(picture(i), caption=f"{test_y[i]} read as {guess[i]}") for i in wrong[:6]]}, step=step)
    rows = [[d, int(np.sum(test_y == d)), int(np.sum((guess == d) & (test_y == d)))] for d in range(10)]
    run.log({"digits": runtree.Table(columns=["digit", "shown", "read"], rows=rows)}, step=step)
    run.log({"weights": runtree.Histogram(model["hidden"]), "report": f"{len(wrong)} of {len(test_y)} misread"}, step=step)
    if step and accuracy < 0.3:
        run.alert("accuracy fell", f"{accuracy:.3f} at step {step}", level="error")


defaults = {"lr": 0.02, "growth": 1.008, "momentum": 0.9, "batch": 64}
given = {key: float(value) for key, value in (pair.split("=") for pair in args.set)}
with np.errstate(all="ignore"), runtree.init("digits", run_id=args.run_id, resume="allow", fork=args.fork, config=given) as run:
    run.update_config({key: value for key, value in defaults.items() if key not in run.config})
    c = run.config
    rng = np.random.default_rng(0)
    state = run.load(default=None) or {
        "model": {"hidden": rng.normal(0, 0.1, (64, 32)), "out": rng.normal(0, 0.1, (32, 10))},
        "speed": {"hidden": 0.0, "out": 0.0},
    }
    model, speed = state["model"], state["speed"]
    for step in range(run.next_step, args.steps):
        if step == args.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = np.random.default_rng(step).integers(0, 1400, int(c["batch"]))
        x, y = images[batch], labels[batch]
        hidden, chances, loss, accuracy = forward(model, x, y)
        error = (chances - np.eye(10)[y]) / len(y)
        gradient = {"hidden": x.T @ (error @ model["out"].T * (hidden > 0)), "out": hidden.T @ error}
        rate = c["lr"] * c["growth"] ** step
        for name, g in gradient.items():
            speed[name] = c["momentum"] * speed[name] - rate * g
            model[name] = model[name] + speed[name]
        run.log({"train": {"loss": loss, "accuracy": accuracy}, "lr": rate, "samples": len(y)}, step=step)
        if step % 50 == 0:
            look(run, step, model)
            run.save(state, step=step)
        time.sleep(args.pause)
