"""One code path for the first start, a crash and the resume after it.   Run it twice:
python examples/first_week/02_resume.py --stop-at 40; python examples/first_week/02_resume.py"""

import argparse

import numpy as np
import runtree

arguments = argparse.ArgumentParser()
arguments.add_argument("--stop-at", type=int, default=100)
stop_at = arguments.parse_args().stop_at

# The same run_id is the same run: it starts where there is none, and continues where there is.
with runtree.init("first-week", run_id="resume-me", resume="allow") as run:
    rng = np.random.default_rng(0)
    goal = np.arange(8.0)
    state = run.load(default={"weights": np.zeros(8), "step": -1, "rng": rng.bit_generator.state})
    rng.bit_generator.state = state["rng"]
    for step in range(state["step"] + 1, 100):
        if step == stop_at:
            raise SystemExit("stopped; run me again")
        noisy = goal + rng.normal(size=8)
        state["weights"] += 0.1 * (noisy - state["weights"])
        run.log({"distance": np.linalg.norm(state["weights"] - goal)}, step=step)
        if step % 10 == 9:
            run.save({**state, "step": step, "rng": rng.bit_generator.state})

print(run.attempt, "attempts;", run.history("distance"))
print(run.resume_report())
