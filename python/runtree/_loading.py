"""What a live run loads: its own part of a checkpoint, and another checkpoint where that one is damaged."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runtree import _warn
from runtree.checkpoint import Checkpoint
from runtree.errors import Corrupt, Unsupported

if TYPE_CHECKING:
    from runtree._launch import Setup
    from runtree.run import Run


class Wanted(NamedTuple):
    """How a state is wanted; see :meth:`Checkpoint.load`."""

    into: Any
    keys: Any
    device: Any


def load_part(checkpoint: Checkpoint, setup: Setup, wanted: Wanted) -> Any:
    """Loads what this process saved, or the only part there is."""
    plan = checkpoint._plan()
    ranks = sum(1 for part in plan.parts() if part[0] == setup.component)
    if ranks > 1 and ranks != setup.world_size:
        raise Unsupported(
            f"checkpoint {checkpoint.reference} was saved by {ranks} ranks, this launch has {setup.world_size}",
            hint=f"launch with {ranks} ranks",
        )
    return checkpoint._load(plan, setup.component, setup.rank, *wanted)


def fall_back(run: Run, damaged: Checkpoint, damage: Corrupt, setup: Setup, wanted: Wanted) -> tuple[Checkpoint, Any]:
    """Loads the newest good checkpoint before a damaged one, and says so. Only where one process decides for itself alone."""
    older = [each for each in run.checkpoints() if each.effective and each.step <= damaged.step and each != damaged]
    for candidate in reversed(older):
        try:
            state = load_part(candidate, setup, wanted)
        except Corrupt:
            continue
        _warn.once(
            f"{run.id} damaged",
            f"checkpoint {damaged.reference} is damaged ({damage.message}): {candidate.reference} was loaded instead",
        )
        return candidate, state
    raise damage
