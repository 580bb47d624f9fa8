"""A mixin that saves a ``Trainer``'s state without writing directories, and loads it again."""

# The framework's own types are incomplete, and what a mixin is mixed into is not known to a checker.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer

import runtree
from runtree import _guard, _warn
from runtree._loading import Wanted
from runtree.errors import InvalidType, NotFound
from runtree.integrations import _transformers_state as states
from runtree.integrations._transformers_callback import RuntreeCallback
from runtree.integrations._transformers_pretrained import is_trainer_state
from runtree.integrations._transformers_taking import Marking
from runtree.integrations._transformers_urls import SCHEME, settle
from runtree.retention import Retention
from runtree.store import find_store
from runtree.torch import restore

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.run import Run

    _Base = Trainer
else:
    _Base = object


class RuntreeTrainerMixin(_Base):
    """``class MyTrainer(RuntreeTrainerMixin, Trainer)``: its checkpoints are states in a run, not directories.

    ``train(resume_from_checkpoint=…)`` takes ``"runtree:latest"`` (from scratch if there is none), ``"runtree:500"`` or any other
    selector of this run, ``"runtree://REF"``, True (the newest of the run, else the Trainer's own), and directories as ever.
    ``save_total_limit`` becomes the run's retention, unless it has one. ``state.best_model_checkpoint`` is a ``runtree://`` address.
    The run is that of the :class:`RuntreeCallback` among the callbacks; without one there is a default one.

    What several processes, FSDP, DeepSpeed or TPUs train, and what is pushed to the Hub from checkpoints, is saved as the Trainer
    does, into directories, which the callback takes in.
    """

    runtree_guard: bool = True
    """Whether a save returns before its copy is made, and ``optimizer.step()`` waits for it (:meth:`runtree.Run.guard`): between a
    save and the next step nothing else may then change what the optimizer trains."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        callbacks: list[Any] = self.callback_handler.callbacks
        found = next((each for each in callbacks if isinstance(each, RuntreeCallback)), None)
        if found is None:
            found = RuntreeCallback()
            self.add_callback(found)
        self._runtree: RuntreeCallback = found
        self._runtree_loaded: states.Loaded | None = None
        self._runtree_guard: Any = None
        self._runtree_files: dict[str, bytes] | None = None
        self._runtree_refused = False

    # ---- Training.

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **keywords: Any) -> Any:
        """Trains; see the class for what ``resume_from_checkpoint`` may be."""
        checkpoint, rest = self._runtree_find(resume_from_checkpoint)
        self._runtree_files = None
        with self._runtree_resuming(checkpoint) as place:
            try:
                return super().train(rest if place is None else place, *args, **keywords)
            finally:
                self._runtree_release()

    def _runtree_find(self, asked: Any) -> tuple[Checkpoint | None, Any]:
        """The state to go on from; or what is the Trainer's own to find."""
        text = os.fspath(asked) if isinstance(asked, os.PathLike) else asked
        is_ours = isinstance(text, str) and text.startswith("runtree:")
        run = self._runtree.run if is_ours or asked is True else None
        if run is None or run.disabled:
            return None, None if is_ours else asked
        try:
            if is_ours and text.startswith(SCHEME):
                checkpoint = states.named(run, text)
            else:
                checkpoint = run._to_load("latest" if asked is True else text.removeprefix("runtree:"))
        except NotFound:
            if asked is True or text == "runtree:latest":
                return None, asked if asked is True else None
            raise
        if is_trainer_state(checkpoint):
            return checkpoint, None
        return None, str(self._runtree._directory(checkpoint, run._setup.world_size == 1))

    @contextlib.contextmanager
    def _runtree_resuming(self, checkpoint: Checkpoint | None) -> Generator[str | None]:
        """Loads a state, and makes the one file of it that the Trainer itself wants to read."""
        if checkpoint is None:
            yield None
            return
        run = self._runtree.run
        alone = run._setup.world_size == 1
        is_newest = run.resumed_from == checkpoint or not run.resumed_from
        checkpoint, tree = run._load(checkpoint, Wanted(None, None, None, None), run._setup, alone and is_newest)
        self._runtree._start = checkpoint
        with tempfile.TemporaryDirectory(prefix="runtree-") as place:
            self._runtree_loaded = states.Loaded(place, tree, checkpoint)
            (Path(place) / states.TRAINER_STATE).write_text(states.trainer_state_text(tree))
            try:
                yield place
            finally:
                self._runtree_loaded = None

    def _runtree_release(self) -> None:
        if self._runtree_guard is not None:
            self._runtree_guard[0].remove()
            self._runtree_guard = None

    # ---- Saving.

    def _runtree_saves_states(self) -> bool:
        model: Any = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return not (
            self._runtree.run.disabled
            or self._runtree_refused
            or not self._runtree.checkpoints
            or self.args.world_size > 1
            or self.args.push_to_hub
            or self.is_fsdp_enabled
            or self.is_deepspeed_enabled
            or self.is_fsdp_xla_enabled
            or self.is_distributed_loading_by_transformers
            or states.needs_directories(model)
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not self._runtree_saves_states():
            super()._save_checkpoint(model, trial)
            return
        callback = self._runtree
        run, step = callback.run, self.state.global_step
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        assert callback._best is not None
        is_best = callback._best.note(self.state)
        if is_best:
            self.state.best_model_checkpoint = self._runtree_address(run, step)
        states.export_callbacks(self)
        self._runtree_watch(run)
        if self._runtree_files is None:
            # Once a training: neither changes while it goes on.
            self._runtree_files = states.processing_files(self)
            self._runtree_keep(run)
        state = states.gather(self, self._runtree_files)
        try:
            pending = run.save(state, step=step, metrics=callback.metrics_at(step), pin=is_best, rank=0, world_size=1)
        except InvalidType as error:
            # An optimizer or a scheduler with a state of its own kind: a file of the Trainer's holds anything.
            self._runtree_refused = True
            _warn.once(f"{run.id} state", f"checkpoints are saved as the Trainer does, in directories: {error.message}")
            super()._save_checkpoint(model, trial)
            return
        callback._saved_step = step
        if is_best:
            Marking(run, step, pending, callback._best.mark).start()

    def _runtree_watch(self, run: Run) -> None:
        """Lets saves be copied beside the next forward and backward pass."""
        plain = getattr(self.optimizer, "optimizer", self.optimizer)
        if (
            not self.runtree_guard
            or not hasattr(plain, "register_step_pre_hook")
            or (self._runtree_guard is not None and self._runtree_guard[1] is plain)
        ):
            return
        self._runtree_release()
        self._runtree_guard = (run.guard(plain), plain)

    def _runtree_keep(self, run: Run) -> None:
        limit = self.args.save_total_limit
        if limit is not None and limit > 0 and run.retention is None:
            run.store.set_retention(Retention(keep_last=limit), run=run.id)

    def _runtree_address(self, run: Run, step: int) -> str:
        place = run.store.location
        return f"{SCHEME}{'' if str(find_store(None)) == place else f'{place}#'}{run.display_id}@{step}"

    # ---- Loading.

    def _init_training_state(self, *args: Any, **keywords: Any) -> Any:
        found = super()._init_training_state(*args, **keywords)
        if self._runtree_loaded is not None:
            # The Trainer forgets a best one that is no directory.
            self.state.best_model_checkpoint = states.best_address(self._runtree_loaded.tree)
        return found

    def _load_from_checkpoint(self, resume_from_checkpoint: Any, model: Any = None) -> None:
        loaded = self._runtree_loaded
        if loaded is None or resume_from_checkpoint != loaded.place:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        states.load_model(self, loaded.tree)

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        loaded = self._runtree_loaded
        if loaded is None or checkpoint != loaded.place:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if "optimizer" not in loaded.tree:
            return  # save_only_model: the Trainer, too, goes on with fresh ones.
        foreign = loaded.checkpoint._info["run"]["id"] != self._runtree.run.id
        keep = ("lr",) if foreign and self._runtree.on_fork == "use-args" else ()
        restore(loaded.tree, optimizer=self.optimizer, scheduler=self.lr_scheduler, keep=keep)
        self._runtree._rates_are_set = True
        del loaded.tree["optimizer"]

    def _load_scaler(self, checkpoint: Any) -> None:
        loaded = self._runtree_loaded
        if loaded is None or checkpoint != loaded.place:
            super()._load_scaler(checkpoint)
        elif "scaler" in loaded.tree:
            scaler: Any = self.accelerator.scaler
            scaler.load_state_dict(loaded.tree["scaler"])

    def _load_rng_state(self, checkpoint: Any) -> None:
        loaded = self._runtree_loaded
        if loaded is None or checkpoint != loaded.place:
            super()._load_rng_state(checkpoint)
        elif "rng" in loaded.tree and self.args.world_size == 1:
            # One process saved it: several would all draw the same.
            runtree.rng().load_state_dict(loaded.tree["rng"])

    def _load_best_model(self) -> None:
        address = self.state.best_model_checkpoint
        if address is None or not address.startswith(SCHEME):
            super()._load_best_model()
            return
        # What is being copied must not change, and what is to be loaded must be there.
        _guard.wait_all()
        run = self._runtree.run
        settle(run)
        checkpoint = states.named(run, address)
        states.load_model(self, checkpoint.load(keys=["model.*", "adapters.*"]))
