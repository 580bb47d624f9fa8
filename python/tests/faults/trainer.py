"""A process that trains on command, and tells what it was promised.

Commands come on stdin, one a line; each is answered by one line of JSON. Answers go out by ``writev``, which no fault is injected
into. What is saved at a step is a function of the step, so a checker knows every byte without having been there.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from typing import Any

import numpy as np

import runtree

TENSORS = 6
TENSOR_BYTES = (1 << 20) + 17


def state_of(step: int) -> dict[str, Any]:
    """What is saved at ``step``: tensors with chunks of their own, so that several threads write them, and some small ones."""
    rng = np.random.default_rng(step)
    large = {f"w{i}": rng.integers(0, 256, TENSOR_BYTES, dtype=np.uint8) for i in range(TENSORS)}
    return {**large, "small": [np.full(5, step, dtype=np.float32), step], "step": step}


def answer(what: object) -> None:
    os.writev(1, [json.dumps(what).encode() + b"\n"])


def outcome(save: runtree.PendingSave) -> str:
    try:
        save.result(timeout=30)
    except runtree.Error as error:
        return f"{type(error).__name__}: {error}"
    return "saved"


def main() -> None:
    told: list[str] = []
    warnings.showwarning = lambda message, *_: told.append(str(message))
    run = runtree.init("faults", name="trainer", run_id="trainer", resume="allow", system_metrics=False, console=False)
    answer({"next_step": run.next_step})
    for line in sys.stdin:
        command, *words = line.split()
        if command == "train":
            # Both must return, whatever the disk does: training goes on.
            started = time.monotonic()
            saves = []
            for step in map(int, words):
                run.log({"loss": 1 / (step + 1), "twice": step * 2.0}, step=step)
                saves.append((step, run.save(state_of(step), step=step)))
            seconds = time.monotonic() - started
            answer({"outcomes": {step: outcome(save) for step, save in saves}, "blocked": seconds, "warnings": told})
        elif command == "limit":
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(words[0]) if words else most, most))
            answer({})
        elif command == "finish":
            try:
                run.finish()
            except runtree.Error as error:
                answer({"finish": f"{type(error).__name__}: {error}", "warnings": told})
            else:
                answer({"finish": "finished", "warnings": told})


if __name__ == "__main__":
    main()
