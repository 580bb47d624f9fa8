"""Where Lightning's checkpoints go: :class:`RuntreeCheckpointIO`, and what it and the sharded strategies share."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from runtree import _dcp
from runtree.checkpoint import Checkpoint
from runtree.errors import InvalidType, NotFound, Unsupported
from runtree.integrations._lightning import CheckpointIO, TorchCheckpointIO
from runtree.integrations._lightning_paths import Paths
from runtree.integrations._lightning_state import KEYS, from_state, to_state
from runtree.integrations._names import checkpoint_name
from runtree.integrations._source import Source
from runtree.run import Run

#: Where a loaded checkpoint dict says which one it is; not in what is saved.
NOTE = "runtree"
#: Where the callback's state has what a validation came to.
METRICS = "metrics"
_OPTIONS = ("step", "name", "metrics", "pin")


class RuntreeCheckpointIO(CheckpointIO):
    """Saves Lightning's checkpoints into a run: ``Trainer(plugins=[RuntreeCheckpointIO(run)])``.

    ``run`` is the live run; without one, this process's only one when the first checkpoint is saved or loaded. ``save_checkpoint``
    returns when the state has been copied. The paths of ``ModelCheckpoint`` hold short notes: ``ckpt_path="best"``, ``"last"``, and
    such a path, load what they mean, and so does a REF (``"MMP-42@500"``, ``"best:val_loss"``, ``"latest"``).

    A checkpoint's step is the trainer's ``global_step`` (with manual optimization the number of batches, which is what loggers
    count); its name the file's. Where ``ModelCheckpoint`` saved it for a metric, it has that metric's value.
    ``trainer.save_checkpoint(path, storage_options={"step", "name", "metrics", "pin"})`` says otherwise.

    What a checkpoint of Lightning may hold and a state tree may not is kept as ``torch.save`` makes it of that one object, and
    unpickled with the ``weights_only`` that was asked for, as Lightning's own checkpoints are.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._source = Source(run)
        self._paths: Paths | None = None

    @property
    def paths(self) -> Paths:
        """The notes of the run."""
        run = self._source.get()
        if self._paths is None or self._paths.run is not run:
            self._paths = Paths(run)
        return self._paths

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Saves a checkpoint. A disk that fails is a warning, and raised by ``run.finish()``."""
        paths = self.paths
        paths.refuse(path)
        options = save_options(checkpoint, path, paths.run, storage_options)
        paths.saved(path, paths.run.save(to_state(checkpoint), sharded=False, **options), options["name"])

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Loads what a path or a REF means, every byte verified; what Lightning itself wrote, as Lightning does.

        Raises:
            NotFound: There is no such checkpoint; the message says which there are.
            Corrupt: It is damaged.
        """
        if is_foreign(path):
            return TorchCheckpointIO().load_checkpoint(os.fspath(path), weights_only=weights_only)
        found = self.paths.find(path)
        assert found is not None
        device = (
            "cpu" if map_location is None or callable(map_location) or isinstance(map_location, dict) else map_location
        )
        state = load_state(found, self.paths.run, device)
        return {**from_state(state, "cpu", weights_only), NOTE: note_of(found, self.paths.run)}

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Lets go of a path: its checkpoint goes to the trash (``runtree undelete``) when a newer one is durable.

        One that is pinned, tagged, forked from, or another run's, stays. What Lightning itself wrote is removed as Lightning does.
        """
        if is_foreign(path):
            TorchCheckpointIO().remove_checkpoint(os.fspath(path))
        else:
            self.paths.drop(path)

    def teardown(self) -> None:
        """Waits until what was saved is durable."""
        if self._paths is not None:
            self._paths.settle(wait=True)


def is_foreign(path: Any) -> bool:
    """Whether something is at a path that runtree did not write there."""
    from runtree.integrations._lightning_paths import read

    return not isinstance(path, Checkpoint) and os.path.exists(path) and read(path) is None


def save_options(checkpoint: Mapping[str, Any], path: str | os.PathLike[str], run: Run, given: Any) -> dict[str, Any]:
    """What ``run.save`` is told of a checkpoint that ``ModelCheckpoint`` calls ``path``."""
    options = dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}
    if given is not None and (not isinstance(given, Mapping) or set(options) - set(_OPTIONS)):
        raise InvalidType(f"storage_options {given!r} is no dict of {', '.join(_OPTIONS)}")
    options.setdefault("step", step_of(checkpoint, path, run))
    options["name"] = checkpoint_name(str(options.get("name", Path(path).stem)))
    options["metrics"] = {**_metrics(checkpoint, os.fspath(path)), **(options.get("metrics") or {})}
    return options


def step_of(checkpoint: Mapping[str, Any], path: str | os.PathLike[str], run: Run) -> int | None:
    """The step of a checkpoint, in what loggers count; of one that is not a Trainer's, as its path says."""
    fit: Mapping[str, Any] = (checkpoint.get("loops") or {}).get("fit_loop", {})
    manual = _count(fit, "epoch_loop.manual_optimization.optim_step_progress", "total", "ready")
    batches = _count(fit, "epoch_loop.batch_progress", "total", "ready")
    if manual and batches:
        return batches
    step = checkpoint.get("global_step", checkpoint.get("step"))
    if isinstance(step, int):
        return step
    found = _dcp.STEP.match(Path(path).stem)
    return int(found["step"]) if found is not None else run.step


def _count(tree: Any, *keys: str) -> int:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, int) else 0


def _metrics(checkpoint: Mapping[str, Any], path: str) -> dict[str, float]:
    """What a validation at this very step came to, and the value for which a ``ModelCheckpoint`` saves at this path."""
    values: dict[str, float] = {}
    for state in (checkpoint.get("callbacks") or {}).values():
        if not isinstance(state, Mapping):
            continue
        validated = state.get(METRICS)
        if isinstance(validated, Mapping) and validated.get("step") == checkpoint.get("global_step"):
            values.update(validated["values"])
        best = state.get("best_k_models")
        if isinstance(best, Mapping) and path in best and state.get("monitor"):
            # Lightning ranks what is no number as infinite; the validation says what it was.
            values.setdefault(str(state["monitor"]), float(best[path]))
    return {name: value for name, value in values.items() if math.isfinite(value)}


def load_state(checkpoint: Checkpoint, run: Run, device: Any) -> dict[str, Any]:
    """The state tree of a checkpoint that Lightning saved whole."""
    try:
        state = run.load(checkpoint, device=device)
    except Unsupported as error:
        raise NotFound(
            f"checkpoint {checkpoint.reference} is a directory",
            hint="load a file of it: ckpt_path=run.dir(ref) / 'name.ckpt'",
        ) from error
    if not isinstance(state, dict) or state.keys() != KEYS:
        raise NotFound(
            f"checkpoint {checkpoint.reference} is not one that Lightning saved whole",
            hint="load it with run.load(), or with the strategy that saved it",
        )
    return cast("dict[str, Any]", state)


def note_of(checkpoint: Checkpoint, run: Run) -> dict[str, Any]:
    """What a loaded checkpoint dict says of where it comes from."""
    return {"reference": checkpoint.reference, "step": checkpoint.step, "foreign": checkpoint._name[0] != run.id}
