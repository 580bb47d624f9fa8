"""``runtree.rng()``: every random generator of the process as one leaf of a state."""

from __future__ import annotations

import random
import sys
from array import array
from typing import Any

from runtree.errors import Invalid


class Rng:
    """The generators of ``random``, numpy (the global one), torch (CPU and every CUDA device).

    A leaf of a state: saved with it, restored in place by ``into=``. Only what the program has imported is saved; what was
    saved and is not imported here is imported to be restored, if it is installed.
    """

    def state_dict(self) -> dict[str, Any]:
        """The states now."""
        version, words, gauss = random.getstate()
        state: dict[str, Any] = {
            "python": {"version": version, "words": array("I", words).tobytes(), "gauss": gauss},
        }
        numpy = sys.modules.get("numpy")
        if numpy is not None and hasattr(numpy, "random"):
            state["numpy"] = _plain(numpy.random.get_state(legacy=False))
        torch: Any = sys.modules.get("torch")
        if torch is not None:
            state["torch"] = torch.get_rng_state()
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                state["cuda"] = [each.cpu() for each in torch.cuda.get_rng_state_all()]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the generators back to where they were."""
        python = state["python"]
        words = array("I")
        words.frombytes(python["words"])
        random.setstate((python["version"], tuple(words), python["gauss"]))
        if "numpy" in state:
            import numpy

            numpy.random.set_state(state["numpy"])
        if "torch" in state:
            import torch

            torch.set_rng_state(state["torch"])
            if "cuda" in state and torch.cuda.is_available():
                there = torch.cuda.device_count()
                if there != len(state["cuda"]):
                    raise Invalid(f"saved with {len(state['cuda'])} CUDA devices, here are {there}")
                torch.cuda.set_rng_state_all(state["cuda"])


def _plain(state: Any) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, dict) else value for key, value in dict(state).items()}


def rng() -> Rng:
    """Every random generator of the process, to be saved in a state and restored by ``into=``."""
    return Rng()
