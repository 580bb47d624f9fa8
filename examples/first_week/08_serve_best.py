"""The best checkpoint on another machine: training pushes to a remote store, and who serves pulls that one checkpoint alone.
python examples/first_week/08_serve_best.py [s3://bucket/prefix]; it plays both machines"""

import sys

import numpy as np
import runtree

remote = sys.argv[1] if len(sys.argv) > 1 else "remote-store"

# The machine that trains: ./.runtree, and everything at the remote soon after.
rng = np.random.default_rng(0)
inputs = rng.normal(size=(256, 8))
targets = inputs @ np.arange(8.0)
with runtree.init("first-week", run_id="to-serve", resume="allow", remote=remote) as run:
    weights = np.zeros(8)
    for step in range(40):
        rate = 0.5 if step < 30 else 3.0  # it diverges at the end: the newest is not the best
        weights -= rate * inputs.T @ (inputs @ weights - targets) / len(inputs)
        run.log({"val/loss": np.mean((inputs @ weights - targets) ** 2)}, step=step)
        if step % 10 == 9:
            run.save({"weights": weights, "padding": rng.normal(size=100_000)})

# The machine that serves has a store of its own, and asks the remote which one is the best.
there = runtree.Store(remote)
best = there.checkpoint("first-week/to-serve@best:val/loss:min")
here = runtree.Store("serving-store", create=True)
pulled = here.pull(there, f"{best.run}@{best.id}")
weights = here.checkpoint(f"{best.run}@{best.id}").load(keys="weights")["weights"]

print(f"serving {best.reference}: loss {best.metrics['val/loss']:.3g}, newest {run.checkpoint().metrics['val/loss']:.3g}")
print(f"{pulled['checkpoints']} checkpoint pulled, {pulled['bytes']:,} of {sum(c.bytes for c in run.checkpoints()):,} bytes")
print("prediction:", np.ones(8) @ weights.round(2))
