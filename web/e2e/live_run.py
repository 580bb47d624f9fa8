"""A run that goes on while somebody looks: logs until its standard input ends, some steps every quarter of a second."""

import math
import sys
import threading

import runtree

store, steps_before, steps_at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
run = runtree.init("live", name="live", store=store, console=False, system_metrics=False)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()


def log(step):
    run.log({f"train/m{i}": math.sin(step / 40 + i) + step / 5000 for i in range(4)} | {"loss": 5 / (1 + step / 500)}, step=step)
    if step % 20 == 0:
        run.log({"val/loss": 6 / (1 + step / 500)}, step=step)


step = 0
while step < steps_before:
    log(step)
    step += 1
print(run.display_id, flush=True)
while not ended.wait(0.25):
    for _ in range(steps_at_once):
        log(step)
        step += 1
run.finish()
print(step, flush=True)
