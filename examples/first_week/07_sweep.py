"""A sweep of forks: several rates from one checkpoint, side by side, and the best of them goes on.
python examples/first_week/07_sweep.py"""

import numpy as np
import runtree

rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 8))
targets = inputs @ rng.normal(size=8) + 0.1 * rng.normal(size=256)
held_out, answers = inputs[200:], targets[200:]


def train(run: runtree.Run, weights: np.ndarray, steps: int) -> None:
    for _ in range(steps):
        batch = rng.integers(0, 200, 4)
        weights -= run.config["lr"] * inputs[batch].T @ (inputs[batch] @ weights - targets[batch]) / len(batch)
        run.log({"val/loss": np.mean((held_out @ weights - answers) ** 2)})
    run.save({"weights": weights})


with runtree.init("first-week", "base", config={"lr": 0.1}) as base:
    train(base, np.zeros(8), 50)

# Every fork starts with the history and the weights of the base; not a byte of them is copied.
for rate in (0.2, 0.1, 0.05, 0.01):
    with runtree.init("first-week", f"lr-{rate}", fork=f"{base.display_id}@49", config={"lr": rate}) as run:
        train(run, run.load()["weights"], 50)

sweep = runtree.Store().sweep(f"{base.display_id}@49")
print(*(f"{row['run']}  lr {row['config.lr']:<5} last {row['last(val/loss)']:.4f}" for row in sweep.rows()), sep="\n")

best = min(sweep, key=lambda run: run.summary()["val/loss"].last.value)
best.make_head()
with runtree.init("first-week", fork=best.display_id, config={"lr": best.config["lr"] / 10}) as run:
    train(run, run.load()["weights"], 50)
print(f"{run.display_id} goes on from {best.name}: loss {run.history('val/loss').values[-1]:.4f}")
