"""Lightning's sharded strategy, saving into a run.

``ModelParallelStrategy`` writes shards by itself, past every ``CheckpointIO``. Its subclass here gives the same state dicts to
``run.save``: each rank's shards are its part of one checkpoint, which exists when all parts do. No rank waits for another's disk, and
what is no tensor stays a state tree, where torch's own format pickles. (``FSDPStrategy`` is FSDP1, which torch has deprecated.)

A state is ``{"state_dict": model, "optimizer_0": …}`` with fully qualified names, plus, in the part of rank 0, ``"lightning"``: the
rest of the checkpoint, as :mod:`._lightning_state` has it. Any number of ranks loads it, and so do ``dcp.load`` and ``run.load``. Of
what is not sharded and differs by rank (running statistics) each rank gets back its own; on another number of ranks, rank 0's.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportMissingTypeStubs=false

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from runtree import _ranks
from runtree.checkpoint import Checkpoint
from runtree.errors import Invalid, NotFound
from runtree.integrations._lightning import ModelParallelStrategy
from runtree.integrations._lightning_io import NOTE, is_foreign, note_of, save_options
from runtree.integrations._lightning_paths import Paths
from runtree.integrations._lightning_state import from_state, to_state
from runtree.integrations._source import Source, on_first
from runtree.run import Run
from runtree.store import Store

_REST = "lightning"


class RuntreeModelParallelStrategy(ModelParallelStrategy):
    """``ModelParallelStrategy`` (FSDP2, tensor parallel) that saves into a run.

    Takes what ``ModelParallelStrategy`` takes, and ``run``: the live run; without one, this process's only one at the first save or
    load. ``save_checkpoint`` returns when this rank's shards have been copied. Paths and REFs are those of
    :class:`RuntreeCheckpointIO`.
    """

    def __init__(self, run: Run | None = None, **keywords: Any) -> None:
        if not keywords.get("save_distributed_checkpoint", True):
            raise Invalid(
                "save_distributed_checkpoint=False gathers the weights on one rank, and shards need no gathering",
                hint="leave it out; `runtree export REF DIR --layout hf` puts them together",
            )
        super().__init__(**keywords)
        self._source = Source(run)
        self._paths: Paths | None = None

    @property
    def paths(self) -> Paths:
        """The notes of the run."""
        run = self._source.get()
        if self._paths is None or self._paths.run is not run:
            self._paths = Paths(run)
        return self._paths

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Saves each rank's shards as its part of one checkpoint. A disk that fails is a warning."""
        path = os.fspath(self.broadcast(filepath))
        paths, run = self.paths, self.paths.run
        on_first(lambda: paths.refuse(path))
        # What ranks measured may differ; what a checkpoint is worth does not.
        options = on_first(lambda: save_options(checkpoint, path, run, storage_options))
        rest = dict(checkpoint)
        state: dict[str, Any] = {"state_dict": rest.pop("state_dict")}
        for index, optimizer in enumerate(rest.pop("optimizer_states", [])):
            state[f"optimizer_{index}"] = optimizer
        if self.global_rank == 0:
            state[_REST] = to_state(rest)
        pending = run.save(state, sharded=True, rank=self.global_rank, world_size=self.world_size, **options)
        if self.global_rank == 0:
            paths.saved(path, pending, options["name"])
        else:
            paths.follow(pending)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads each rank's slices straight into model and optimizers, on any number of ranks, every byte verified."""
        wanted = self.broadcast(checkpoint_path)
        if on_first(lambda: is_foreign(wanted)):
            return super().load_checkpoint(wanted, weights_only)
        run = self.paths.run
        location, name = on_first(lambda: self._name_of(wanted))
        store = run.store if location == run.store.location else Store(location)
        return self._load(Checkpoint(store, store.native.checkpoint_info(*name)), run, weights_only)

    def _name_of(self, wanted: Any) -> tuple[str, tuple[str, str]]:
        found = self.paths.find(wanted, alone=True)
        assert found is not None
        return found._store.location, found._name

    def _load(self, checkpoint: Checkpoint, run: Run, weights_only: bool | None) -> dict[str, Any]:
        from torch.distributed.checkpoint import state_dict as dicts

        model, module = self.model, self.lightning_module
        assert model is not None
        assert module is not None
        keys = _ranks.keys(checkpoint, "trainer", 0)
        if "state_dict" not in keys or _REST not in keys:
            raise NotFound(
                f"checkpoint {checkpoint.reference} was not saved by a sharded strategy",
                hint="train with the strategy that saved it, or load its weights with run.load()",
            )
        weights = dicts.get_model_state_dict(model)
        if not module.strict_loading:
            there = {each["name"] for each in checkpoint.tensors()}
            weights = {key: value for key, value in weights.items() if f"state_dict.{key}" in there}
        weights = self._take(checkpoint, "state_dict", weights)
        dicts.set_model_state_dict(model, weights, options=dicts.StateDictOptions(strict=module.strict_loading))
        for index, optimizer in enumerate(self.optimizers):
            name = f"optimizer_{index}"
            if name not in keys:
                raise Invalid(
                    f"checkpoint {checkpoint.reference} has no state of optimizer {index}", hint="it has weights only"
                )
            state = self._take(checkpoint, name, dicts.get_optimizer_state_dict(model, optimizer))
            dicts.set_optimizer_state_dict(model, optimizer, optim_state_dict=state)
        rest = checkpoint.load(keys=[_REST, f"{_REST}.*"], device="cpu", rank=0)[_REST]
        writer = run._writer
        if writer is not None and not writer.inert:
            writer.note_loaded(*checkpoint._name, checkpoint.bytes // max(1, len(checkpoint.parts)))
        return {**from_state(rest, "cpu", weights_only), NOTE: note_of(checkpoint, run)}

    def _take(self, checkpoint: Checkpoint, key: str, into: Mapping[str, Any]) -> dict[str, Any]:
        """One entry of the state: tensors are filled in place, everything else is as it was saved."""
        ranks = _ranks.count(checkpoint, "trainer")
        own = self.global_rank if ranks == self.world_size else None
        loaded = _ranks.load(
            checkpoint, {key: into}, [key, f"{key}.*"], None, "trainer", own, 0, self.global_rank
        )  # fmt: skip
        return cast("dict[str, Any]", loaded)[key]

    def remove_checkpoint(self, filepath: Any) -> None:
        """Lets go of a path, as :meth:`RuntreeCheckpointIO.remove_checkpoint` does."""
        if self.global_rank == 0 and not is_foreign(filepath):
            self.paths.drop(filepath)
        else:
            super().remove_checkpoint(filepath)

    def teardown(self) -> None:
        """Waits until what was saved is durable."""
        if self._paths is not None:
            self._paths.settle(wait=True)
        super().teardown()
