"""The callback of an unmodified ``Trainer``: metrics, config, checkpoints, the best model, resuming and forking."""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportPrivateUsage=false, reportUntypedBaseClass=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import sort_checkpoints

import runtree
from runtree import _live, _warn
from runtree.errors import Corrupt, Error, Invalid, InvalidType, NotFound
from runtree.integrations._transformers_best import Best
from runtree.integrations._transformers_names import config_of, metric_names
from runtree.integrations._transformers_pretrained import is_trainer_state
from runtree.integrations._transformers_rates import use_arguments
from runtree.integrations._transformers_taking import begin, guard_rotation, take, wait_copied, watching

if TYPE_CHECKING:
    from runtree.checkpoint import Checkpoint
    from runtree.run import Run

ON_FORK = ("use-args", "keep")


class RuntreeCallback(TrainerCallback):
    """Records a training of an unmodified ``Trainer`` in a run.

    Every ``checkpoint-N`` is taken in byte for byte, in the background; the rotation of ``save_total_limit`` waits until one is
    copied. Metrics have the names that the Trainer's own W&B callback gives them (``train/loss``, ``eval/loss``). A checkpoint has
    the evaluation of its step; the best by ``metric_for_best_model`` has the tag ``best``, so that retention keeps it.

    Args:
        run: The live run to record in. Without one: the run that ``project``, ``run_id`` and ``init`` say, else the one live run of
            this process, else a new one. It is started when it is first needed.
        project: Its project.
        run_id: Your own name for it: the same again is the same run, which goes on.
        on_fork: What rate the first launch of a fork trains at: ``"use-args"``, that of its ``TrainingArguments``, or ``"keep"``,
            that of the checkpoint, which the Trainer loads.
        checkpoints: Whether checkpoints are taken in.
        **init: Any other keyword of :func:`runtree.init`: ``fork="MMP-42@500"``, ``store=``, ``retention=``.

    Raises:
        Invalid: The arguments contradict each other.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        project: str | None = None,
        run_id: str | None = None,
        on_fork: str = "use-args",
        checkpoints: bool = True,
        **init: Any,
    ) -> None:
        if on_fork not in ON_FORK:
            raise Invalid(f"on_fork {on_fork!r} is not one of {', '.join(map(repr, ON_FORK))}")
        unknown = sorted(init.keys() - inspect.signature(runtree.init).parameters.keys())
        if unknown:
            raise InvalidType(f"{', '.join(unknown)}: neither the callback nor runtree.init takes that")
        keywords = {"project": project, "run_id": run_id, **init}
        self._init: dict[str, Any] = {key: value for key, value in keywords.items() if value is not None}
        if run is not None and not isinstance(run, runtree.Run):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(
                f"run is a {type(run).__name__}, not a live run", hint="pass what runtree.init() returned"
            )
        if run is not None and self._init:
            raise Invalid(
                f"run and {', '.join(self._init)} are two ways to say which run it is", hint="give one of them"
            )
        self.on_fork = on_fork
        self.checkpoints = checkpoints
        self._run = run
        self._owned = False
        self._name: str | None = None
        self._trials = 0
        # Whether a live run comes before what `init` says: one that autolog made.
        self._shares = False
        self._best: Best | None = None
        self._began = False
        self._evaluated: tuple[int, dict[str, Any]] = (-1, {})
        # Arguments and state, in the middle of a training.
        self._now: tuple[Any, Any] | None = None
        # What a mixin has done itself: the step it saved, and that it has set the rates.
        self._saved_step: int | None = None
        # The checkpoint that the training was told to go on from.
        self._start: Checkpoint | None = None
        self._rates_are_set = False
        self._waits_always = not guard_rotation()

    @property
    def run(self) -> Run:
        """The run; the first call starts it."""
        if self._run is None:
            live = list(_live._runs.values())
            if (self._shares and live) or (not self._init and len(live) == 1):
                # Whoever began one last means that.
                self._run = live[-1]
            else:
                resume: dict[str, Any] = {"resume": "allow"} if "run_id" in self._init else {}
                name: dict[str, Any] = {"name": self._name} if self._name else {}
                self._run = runtree.init(**{**name, **resume, **self._init})
                self._owned = True
        return self._run

    def resume_path(self, ref: str | int = "latest") -> str | None:
        """A directory for ``trainer.train(resume_from_checkpoint=…)``; None at the first start of a run that is no fork.

        ``"latest"`` is the checkpoint this launch starts from. If it is damaged and one process decides alone, it is the newest good
        one before it, and a warning says so.

        Raises:
            NotFound: The run has no checkpoint ``ref``.
        """
        run = self.run
        if run.disabled:
            return None
        try:
            checkpoint = run._to_load(ref)
        except NotFound:
            if ref == "latest":
                return None
            raise
        if is_trainer_state(checkpoint):
            raise Invalid(
                f"checkpoint {checkpoint.reference} is a state, as RuntreeTrainerMixin saves it, and no directory of the Trainer",
                hint=f'go on with the mixin: trainer.train(resume_from_checkpoint="runtree:{ref}")',
            )
        return str(self._directory(checkpoint, ref == "latest" and run._setup.world_size == 1))

    def _directory(self, checkpoint: Checkpoint, may_fall_back: bool) -> Path:
        checkpoint, found = self._good_directory(checkpoint, may_fall_back)
        self._start = checkpoint
        if self.run._writer is not None:
            # As a load does: an older one moves the start of this launch.
            self.run._writer.note_loaded(*checkpoint._name, checkpoint.bytes)
        return found

    def _good_directory(self, checkpoint: Checkpoint, may_fall_back: bool) -> tuple[Checkpoint, Path]:
        run = self.run
        try:
            return checkpoint, checkpoint.dir()
        except Corrupt as damage:
            if run._writer is not None:
                with contextlib.suppress(Error):
                    run._writer.note_damaged(*checkpoint._name, damage.message)
            if not may_fall_back:
                raise
            for older in reversed(
                [each for each in run.checkpoints() if each.effective and each.step < checkpoint.step]
            ):
                with contextlib.suppress(Corrupt):
                    found = older.dir()
                    _warn.once(
                        f"{run.id} damaged",
                        f"checkpoint {checkpoint.reference} is damaged ({damage.message}): training goes on from {older.reference}",
                    )
                    return older, found
            raise

    # ---- What the Trainer calls.

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Records the config; in a fork, sets the rate."""
        wait_copied()
        begin()
        self._watch(True)
        if state.is_hyper_param_search and self._owned and self._began:
            # Each trial is a run of its own.
            self.run.finish()
            self._run = self._best = self._start = None
            self._trials += 1
            if "run_id" in self._init:
                self._init["run_id"] = (
                    f"{self._init['run_id'].removesuffix(f'-trial-{self._trials - 1}')}-trial-{self._trials}"
                )
        self._name = args.run_name if args.run_name != args.output_dir else None
        run = self.run
        self._began = True
        self._saved_step = None
        if self._best is None:
            self._best = Best(run)
        if state.is_world_process_zero and not run.disabled:
            self._record_config(config_of(args, model))
        if state.global_step > 0 and not run.disabled:
            self._resumed(args, state, kwargs.get("optimizer"), kwargs.get("lr_scheduler"))
        self._rates_are_set = False

    def _watch(self, on: bool) -> None:
        self._now = None
        # Compared by what it is bound to: a training that failed left it there.
        watching[:] = [each for each in watching if each != self._before_rotation]
        if on:
            watching.append(self._before_rotation)

    def _record_config(self, config: dict[str, Any]) -> None:
        known = self.run.config
        changed = {key: value for key, value in config.items() if key not in known or known[key] != value}
        if changed:
            self.run.update_config(changed)

    def _resumed(self, args: Any, state: Any, optimizer: Any, scheduler: Any) -> None:
        run = self.run
        start = self._start or run.resumed_from
        if start is None:
            _warn.once(
                f"{run.id} resume",
                f"{run.display_id} goes on from step {state.global_step}, which it has no checkpoint of: its history begins there",
            )
        elif start.step < state.global_step:
            _warn.once(
                f"{run.id} resume",
                f"the Trainer goes on from step {state.global_step}, {run.display_id} from checkpoint {start.reference}: "
                "its history has a gap; resume with resume_from_checkpoint=callback.resume_path()",
            )
        assert self._best is not None
        # What the resumed state takes for the best may have lost its tag to a later one, which is history now.
        self._best.restore(args, state)
        if self.is_fork and self.on_fork == "use-args" and not self._rates_are_set and optimizer is not None:
            assert start is not None
            use_arguments(optimizer, scheduler, run.store.run(start._info["run"]["id"]).config)

    @property
    def is_fork(self) -> bool:
        """Whether this launch starts from a checkpoint of another run."""
        start = self._start or self.run.resumed_from
        return start is not None and start._info["run"]["id"] != self.run.id

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Logs numbers at the Trainer's step."""
        if logs and "train_runtime" in logs:
            # The last event before the Trainer, with save_total_limit=1, deletes all but the best.
            wait_copied()
        if not logs or not state.is_world_process_zero:
            return
        run = self.run
        if not self._began and run.step is not None and state.global_step < run.step:
            _warn.once(
                f"{run.id} early",
                f"an evaluation before the training is resumed is not logged: {run.display_id} is at step {run.step}",
            )
            return
        run.log(metric_names(logs), step=state.global_step)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Remembers the metrics, for the checkpoint of this step."""
        found = {name: value for name, value in metric_names(metrics or {}).items() if name.startswith("eval/")}
        step, before = self._evaluated
        self._evaluated = (state.global_step, {**before, **found} if step == state.global_step else found)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Where nothing makes the rotation wait, waits before a save may rotate."""
        self._now = (args, state)
        if self._waits_always:
            wait_copied()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits if this step was saved already: a save at the end of the epoch would write into what is being copied."""
        self._now = (args, state)
        if self._saved_step == state.global_step or self._waits_always:
            wait_copied()

    def _before_rotation(self, folder: Any) -> None:
        """Takes in what was just written, where the Trainer deletes that: it rotates before it says that it has saved, and where
        checkpoints of a longer training lie in the folder, it takes the new one for the oldest."""
        if self._now is None:
            return
        args, state = self._now
        path = Path(folder) / f"checkpoint-{state.global_step}"
        if self._skips(state) or args.world_size > 1 or not path.is_dir():
            return
        newest = sort_checkpoints(folder, use_mtime=True)[-1:]
        if newest != [str(path)]:
            self._take(state, path)

    def _skips(self, state: Any) -> bool:
        return not self.checkpoints or self.run.disabled or self._saved_step == state.global_step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes ``checkpoint-N`` in."""
        if self._skips(state):
            return
        if args.world_size > 1:
            # The files of other ranks, and rank 0's own, are there once everybody is here.
            from torch import distributed

            if distributed.is_initialized():
                distributed.barrier()
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_hyper_param_search and not path.is_dir():
            # A trial has a folder of its own; its name depends on who searches.
            path = max(path.parent.glob(f"*/{path.name}"), key=os.path.getmtime, default=path)
        if path.is_dir() or not state.is_world_process_zero:
            self._take(state, path)
        else:
            _warn.once(
                f"{self.run.id} gone", f"{path} is not there (any more): it was not taken into {self.run.display_id}"
            )

    def _take(self, state: Any, path: Path) -> None:
        # On all ranks: they must agree on what was saved already.
        self._saved_step = state.global_step
        if not state.is_world_process_zero:
            return
        assert self._best is not None
        is_best = self._best.note(state)
        options = self.run._save_options(state.global_step, metrics=self.metrics_at(state.global_step), pin=is_best)
        take(self.run, path, {**options, "rank": 0, "world_size": 1}, self._best.mark if is_best else None)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Waits for copies: the script may delete what it wrote."""
        self._watch(False)
        wait_copied()

    def metrics_at(self, step: int) -> dict[str, float]:
        """The evaluation of a step, by the names of the run."""
        at, metrics = self._evaluated
        return {name: float(value) for name, value in metrics.items()} if at == step else {}
