"""What a live run loads: its own part of a checkpoint, what it needs of others', and another checkpoint where one is damaged."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runtree import _ranks, _warn
from runtree.checkpoint import Checkpoint
from runtree.errors import Corrupt

if TYPE_CHECKING:
    from runtree._launch import Setup
    from runtree.run import Run


class Wanted(NamedTuple):
    """How a state is wanted; see :meth:`Checkpoint.load`."""

    into: Any
    keys: Any
    device: Any
    per_rank: Any


def load_part(checkpoint: Checkpoint, setup: Setup, wanted: Wanted) -> Any:
    """Loads what this process saved, or, for a launch of another size, what it needs of what all saved."""
    ranks = _ranks.count(checkpoint, setup.component)
    # Only a launch of as many ranks has a part of its own.
    rank = setup.rank if ranks == setup.world_size else None
    into, keys, device, per_rank = wanted
    return _ranks.load(checkpoint, into, keys, device, setup.component, rank, per_rank, setup.rank)


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
