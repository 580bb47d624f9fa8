"""A deterministic trainer that says how far it is durable, so that a test can kill it there: ``python crashing_trainer.py STEPS``."""

from __future__ import annotations

import os
import sys

import numpy as np

import runtree

SAVE_EVERY = 25
FLUSH_EVERY = 3


def main() -> None:
    steps = int(sys.argv[1])
    run = runtree.init("crashes", run_id=sys.argv[2], resume="allow", console=False, system_metrics=False)
    state = run.load(default=None) or {
        "weights": np.zeros(64),
        "rng": np.random.default_rng(7).bit_generator.state,
        "step": -1,
    }
    rng = np.random.default_rng()
    rng.bit_generator.state = state["rng"]
    weights = state["weights"].copy()
    os.write(1, f"began {run.attempt} {run.next_step}\n".encode())
    for step in range(run.next_step, steps):
        gradient = rng.standard_normal(64) + 0.1 * weights
        weights -= 0.01 * gradient
        loss = float(np.square(weights).sum())
        # Now and then what training really meets: values that are not finite, metrics that come seldom.
        values = {"loss": loss, "grad/norm": float(np.linalg.norm(gradient))}
        values["spike"] = float("nan") if step % 50 == 17 else float("inf") if step % 50 == 31 else loss * 2
        if step % 7 == 0:
            values["seldom"] = loss + step
        run.log(values, step=step)
        if step % SAVE_EVERY == 0:
            run.save({"weights": weights, "rng": rng.bit_generator.state, "step": step}, step=step).result()
            os.write(1, f"saved {step}\n".encode())
        if step % FLUSH_EVERY == 0:
            run.flush()
            os.write(1, f"durable {step}\n".encode())
    run.finish()


if __name__ == "__main__":
    main()
