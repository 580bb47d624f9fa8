"""A run diverges; it is forked at the last good checkpoint with a lower rate, and recovers.
python examples/first_week/03_fork_lower_lr.py"""

import numpy as np
import runtree

rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 8))
targets = inputs @ rng.normal(size=8)


def train(run: runtree.Run, weights: np.ndarray, steps: int, blow_up_at: int | None = None) -> None:
    rate = run.config["lr"]
    for step in range(run.next_step, run.next_step + steps):
        if step == blow_up_at:
            rate *= 1e8
        error = inputs @ weights - targets
        weights -= rate * inputs.T @ error / len(inputs)
        run.log({"loss": np.mean(error**2)}, step=step)
        if step % 10 == 9:
            run.save({"weights": weights})


with np.errstate(over="ignore", invalid="ignore"), runtree.init("first-week", "too-fast", config={"lr": 0.1}) as wild:
    train(wild, np.zeros(8), 100, blow_up_at=55)

# Weights and history up to there come along; not a byte of them is copied.
with runtree.init("first-week", fork=f"{wild.display_id}@last-good", config={"lr": 0.05}) as run:
    train(run, run.load()["weights"], 50)

print(f"{run.display_id} forked from {run.fork_run_id} at step {run.fork_step}: loss {run.history('loss').values[-1]:.2g}")
