"""What is saved: a function of (run, step), so that whoever checks knows every byte without having been there."""

from __future__ import annotations

from typing import Any

import numpy as np

# From here on a tensor is a chunk of its own.
CHUNK = 1 << 20
# What several runs save the same of, now and then: what one collects another may be about to rely on.
_POOL = [np.random.default_rng(at).integers(0, 256, CHUNK, dtype=np.uint8) for at in range(5)]


def state_of(name: str, step: int) -> dict[str, Any]:
    """What run ``name`` saves at ``step``: a chunk of its own, two that others save as well, and small leaves."""
    own = np.random.default_rng([step, *name.encode()]).integers(0, 256, CHUNK, dtype=np.uint8)
    return {
        "own": own,
        "shared": [_POOL[step % 5], _POOL[(step // 2 + len(name)) % 5]],
        "small": np.full(7, step, "f4"),
        "step": step,
        "name": name,
    }


def value_of(step: int) -> float:
    """What is logged at ``step``, by every run."""
    return step * 2.0


def differs(loaded: dict[str, Any], name: str, step: int) -> str | None:
    """How a loaded state is not what was saved; None if it is."""
    expected = state_of(name, step)
    if loaded.keys() != expected.keys():
        return f"has {sorted(loaded)}"
    if (loaded["name"], loaded["step"]) != (name, step):
        return f"is {loaded['name']}@{loaded['step']}"
    arrays = [("own", loaded["own"], expected["own"]), ("small", loaded["small"], expected["small"])]
    arrays += [
        (f"shared {at}", *both) for at, both in enumerate(zip(loaded["shared"], expected["shared"], strict=True))
    ]
    for what, there, wanted in arrays:
        if there.dtype != wanted.dtype or not np.array_equal(there, wanted):
            return f"has other bytes in {what}"
    return None
