"""The first run: log, save, look. Needs numpy.   python examples/first_week/01_quickstart.py"""

import numpy as np
import runtree

rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 8))
targets = inputs @ rng.normal(size=8) + 0.1 * rng.normal(size=256)

with runtree.init("first-week", name="quickstart", config={"lr": 0.05, "steps": 100}) as run:
    weights = np.zeros(8)
    for step in range(run.config["steps"]):
        error = inputs @ weights - targets
        weights -= run.config["lr"] * inputs.T @ error / len(inputs)
        run.log({"loss": np.mean(error**2), "norm": np.linalg.norm(weights)})
        if step % 25 == 24:
            run.save({"weights": weights, "step": step})  # returns at once; written in the background

print(run.history("loss"))
print(*run.checkpoints(), sep="\n")
print("the newest weights:", run.load()["weights"].round(2))
