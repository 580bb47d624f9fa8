"""The best checkpoint by ``metric_for_best_model``: it has the tag ``best``, which retention keeps, and the others have not."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from runtree.integrations._transformers_pretrained import is_trainer_state

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.run import Run

TAG = "best"


class Best:
    """Which checkpoint of a run is the best."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step: int | None = None
        self._lock = threading.Lock()

    def note(self, state: Any) -> bool:
        """Whether the step that is saved now is the best; then it is to be saved with a pin, and to be marked once it is there."""
        is_best = state.best_global_step is not None and state.best_global_step == state.global_step
        if is_best:
            self._step = state.global_step
        return is_best

    def mark(self, checkpoint: Checkpoint) -> None:
        """Gives the tag to a checkpoint that was saved with a pin. Between its commit and the tag, the pin keeps it."""
        with self._lock:
            if checkpoint.step == self._step:
                self._give(checkpoint)
            checkpoint.unpin()

    def restore(self, args: Any, state: Any) -> None:
        """After a resume: the tag for what the state takes for the best, and its directory, if it is to be loaded and gone."""
        step = state.best_global_step
        if step is None:
            return
        self._step = step
        there = [each for each in self._run.checkpoints() if each.effective and each.step == step]
        if not there:
            return
        checkpoint = there[-1]
        if state.is_world_process_zero and checkpoint._info["run"]["id"] == self._run.id and TAG not in checkpoint.tags:
            with self._lock:
                self._give(checkpoint)
        known = state.best_model_checkpoint
        is_there = known is not None and (known.startswith("runtree:") or os.path.isdir(known))
        if args.load_best_model_at_end and not is_there and not is_trainer_state(checkpoint):
            state.best_model_checkpoint = str(checkpoint.dir())

    def _give(self, checkpoint: Checkpoint) -> None:
        checkpoint.tag(TAG)
        for other in self._run.checkpoints(inherited=False):
            if other != checkpoint and TAG in other.tags:
                other.untag(TAG)
