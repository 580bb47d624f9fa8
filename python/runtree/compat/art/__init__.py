"""ART's interface (OpenPipe's Agent Reinforcement Trainer) on runtree: models, forks of checkpoints, deletion of checkpoints.

    from runtree.compat import art
    from runtree.compat.art.local import LocalBackend

Scripts run with these lines in the place of ``import art`` and ``from art.local import LocalBackend``; docs/art.md says what is
different. A model is a run (:mod:`runtree.compat.art.standing`), a checkpoint is a LoRA adapter's directory, byte for byte
(``model.run.dir()`` is what vLLM and PEFT load). What ART itself wrote, in directories and buckets, can be forked and goes on.

Training is not in here: what trains is told with :func:`trainer`.
"""

from __future__ import annotations

from runtree.compat.art.errors import NoCheckpoint
from runtree.compat.art.local.backend import LocalBackend
from runtree.compat.art.model import TrainableModel
from runtree.compat.art.serverless.backend import ServerlessBackend
from runtree.compat.art.training import TrainConfig, Trainer, TrainResult, Update, trainer
from runtree.compat.art.trajectories import Trajectory, TrajectoryGroup, gather_trajectory_groups

__all__ = [
    "LocalBackend",
    "NoCheckpoint",
    "ServerlessBackend",
    "TrainConfig",
    "TrainResult",
    "TrainableModel",
    "Trainer",
    "Trajectory",
    "TrajectoryGroup",
    "Update",
    "gather_trajectory_groups",
    "trainer",
]
