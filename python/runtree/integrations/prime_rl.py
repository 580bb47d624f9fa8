"""prime-rl's checkpoint managers on runtree: the same calls, and a run in the place of directories; docs/integrations/prime-rl.md.

    from runtree.integrations.prime_rl import setup_ckpt_managers        # in prime_rl.trainer, for that of prime_rl.trainer.ckpt
    from runtree.integrations.prime_rl import setup_ckpt_manager         # in prime_rl.orchestrator, for that of .orchestrator.ckpt

A checkpoint exists once the parts of trainer and orchestrator are both there, whole and durable: what a crash leaves of a step is
never picked, and both go on from the same one.
"""

# The framework's own types are incomplete: what it returns is Unknown to a strict checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from runtree import _launch, _live
from runtree._init import init
from runtree.checkpoint import Checkpoint, PendingSave
from runtree.checkpoint_config import CheckpointConfig
from runtree.checkpointer import Checkpointer
from runtree.errors import Invalid, InvalidType, NotFound
from runtree.run import Run

__all__ = [
    "CheckpointNotFound",
    "OrchestratorCheckpointManager",
    "TrainerCheckpointManager",
    "setup_ckpt_manager",
    "setup_ckpt_managers",
]


class CheckpointNotFound(NotFound, FileNotFoundError):
    """There is no whole checkpoint at that step; prime-rl raises ``FileNotFoundError``."""


class _Manager:
    """What both managers are.

    Args:
        output_dir: prime-rl's; its name is the run's key where the run begins here.
        config: prime-rl's block, or a :class:`runtree.CheckpointConfig`, or a dict of its fields. What they have in common counts.
        run: The live run; this process's only one unless given, and one that begins if there is none.
        parts: How many ranks of each component make one checkpoint, the same in all processes.
    """

    component = "trainer"

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        config: Any,
        *,
        run: Run | None = None,
        parts: Mapping[str, int] | None = None,
    ) -> None:
        self.config = config
        block = _block(config)
        self.run = run or _run(Path(output_dir), parts)
        self._checkpointer = Checkpointer(self.run, block, component=self.component, parts=parts)
        #: Where the files of checkpoints are, if ``output_dir`` of the block asks for them.
        self.ckpt_dir = (block.output_dir or Path(output_dir)) / "checkpoints"
        self._pending: dict[int, PendingSave] = {}

    @property
    def ckpt_steps(self) -> list[int]:
        """Steps of the whole checkpoints that this run goes on with, ascending."""
        return [each.step for each in self._whole()]

    def get_latest_step(self) -> int | None:
        """The newest step that is whole; None if there is none. The same for trainer and orchestrator."""
        return next(reversed(self.ckpt_steps), None)

    def get_ckpt_path(self, step: int) -> Path:
        """Where the files of a checkpoint's part are, if ``output_dir`` of the block asks for them."""
        return self.ckpt_dir / f"step_{step}" / self.component

    def mark_stable(self, step: int) -> None:
        """Waits until what was saved at a step is whole and durable: there is nothing else to mark.

        Raises:
            Unavailable: The parts of others did not come.
        """
        pending = self._pending.pop(step, None)
        if pending is not None:
            pending.result()

    def maybe_clean(self) -> None:
        """Puts what neither ``keep_last`` nor ``keep_interval`` keeps into the trash; the newest always stays.

        It is also done after each commit, by the process that speaks for the checkpoint; others do nothing.
        """
        if self._checkpointer._view is not None:
            self._checkpointer._view.wait(0)
        block = self._checkpointer.config
        is_speaker = self.component == "trainer" and self._checkpointer._setup.rank == 0
        if block is not None and block.retention is not None and is_speaker and not self.run.disabled:
            self.run.prune(block.retention)

    def _whole(self) -> list[Checkpoint]:
        if self.run.disabled:
            return []
        return [each for each in self.run.checkpoints() if each.effective and not self._checkpointer._lacks(each)]

    def _save(self, step: int, state: dict[str, Any]) -> None:
        pending = self._checkpointer.save(_check_step(step), state)
        if pending is not None:
            self._pending = {each: save for each, save in self._pending.items() if not save.done()} | {step: pending}

    def _restore(self, step: int, state: dict[str, Any]) -> None:
        """Restores a state in place from a step, without what the block skips."""
        checkpointer = self._checkpointer
        block = checkpointer.config or CheckpointConfig(load_only=True)
        checkpointer.config = dataclasses.replace(block, resume_step=_check_step(step), resume_dir=None)
        try:
            checkpointer.resume(state, per_rank={"dataloader*": "modulo"})
        except NotFound as missing:
            there = ", ".join(map(str, self.ckpt_steps)) or "none"
            raise CheckpointNotFound(
                f"checkpoint not found: {missing.message}", hint=f"whole ones are at steps: {there}"
            ) from None
        finally:
            checkpointer.config = block


class TrainerCheckpointManager(_Manager):
    """In the place of ``prime_rl.trainer.ckpt.CheckpointManager``, of RL and of SFT."""

    def save(
        self, step: Any, model: Any, optimizers: Any, scheduler: Any, progress: Any, dataloader: Any = None
    ) -> None:
        """Saves a step: shards of the model and its optimizers, scheduler, progress and this rank's place in the data.

        Returns when this rank's part is durable; with ``save_async`` of the block, when it has been copied. A disk that fails is a
        warning, and the run's ``finish`` raises. (The order of 2025, ``model, optimizers, scheduler, progress, step``, does, too.)
        """
        step, model, optimizers, scheduler, progress = _in_order(step, model, optimizers, scheduler, progress)
        from torch.distributed.checkpoint.state_dict import get_state_dict

        weights, moments = get_state_dict(model, optimizers)
        state = {"model": weights, "optimizers": moments, "scheduler": scheduler, "dataloader": dataloader}
        state["progress"] = None if progress is None else _fields(progress)
        self._save(step, {name: value for name, value in state.items() if value is not None})

    def load(
        self, step: Any, model: Any, optimizers: Any, scheduler: Any, progress: Any, dataloader: Any = None
    ) -> None:
        """Restores a step in place, on any number of ranks; what is None, and what the block skips, stays as it is.

        On another number of ranks, rank ``i`` takes the place in the data that rank ``i % ranks`` had.

        Raises:
            CheckpointNotFound: There is no whole checkpoint at that step; those there are are listed.
        """
        step, model, optimizers, scheduler, progress = _in_order(step, model, optimizers, scheduler, progress)
        from torch.distributed.checkpoint.state_dict import get_state_dict, set_model_state_dict, set_state_dict

        weights, moments = cast("tuple[Any, Any]", get_state_dict(model, optimizers))
        fields = None if progress is None else _fields(progress)
        state = {
            "model": weights,
            "optimizers": moments,
            "scheduler": scheduler,
            "dataloader": dataloader,
            "progress": fields,
        }
        state = {name: value for name, value in state.items() if value is not None}
        self._restore(step, state)
        if getattr(self._checkpointer.config, "skip_optimizer", False):
            set_model_state_dict(model, weights)
        else:
            set_state_dict(model, optimizers, model_state_dict=weights, optim_state_dict=state["optimizers"])
        _set_fields(progress, state.get("progress"))


class OrchestratorCheckpointManager(_Manager):
    """In the place of ``prime_rl.orchestrator.ckpt.CheckpointManager``."""

    component = "orchestrator"

    def save(self, progress: Any, task_sampler: Any, step: int) -> None:
        """Saves a step: the counters, and the state of what the tasks come from (a sampler, or a buffer that writes a directory)."""
        self._save(step, {"progress": _fields(progress), "train_source": _source_state(task_sampler)})

    def load(self, progress: Any, task_sampler: Any, step: int) -> None:
        """Restores a step in place; with ``skip_progress`` nothing is.

        Raises:
            CheckpointNotFound: There is no whole checkpoint at that step; one that the orchestrator alone has saved is none.
        """
        state = {"progress": _fields(progress), "train_source": None}
        self._restore(step, state)
        block = self._checkpointer.config
        if block is not None and block.skip_progress:
            return
        _set_fields(progress, state["progress"])
        if block is None or not (block.skip_dataloader or getattr(self.config, "skip_buffer", False)):
            _set_source_state(task_sampler, state["train_source"])


def setup_ckpt_managers(
    output_dir: str | os.PathLike[str],
    config: Any,
    lora_config: Any = None,
    *,
    run: Run | None = None,
    parts: Mapping[str, int] | None = None,
) -> tuple[TrainerCheckpointManager | None, None]:
    """What prime-rl's trainer asks for: its manager, and none of weights, which ``checkpoint.export(dir, layout="hf")`` writes."""
    return (
        (None, None) if config is None else (TrainerCheckpointManager(output_dir, config, run=run, parts=parts), None)
    )


def setup_ckpt_manager(
    output_dir: str | os.PathLike[str], config: Any, *, run: Run | None = None, parts: Mapping[str, int] | None = None
) -> OrchestratorCheckpointManager | None:
    """What prime-rl's orchestrator asks for."""
    if config is None:
        return None
    return OrchestratorCheckpointManager(
        output_dir, config, run=run, parts={"trainer": 1, "orchestrator": 1} if parts is None else parts
    )


# ---- What is asked of objects that are prime-rl's.


def _block(config: Any) -> CheckpointConfig:
    if isinstance(config, (CheckpointConfig, Mapping)) or config is True:
        found = CheckpointConfig.of(config)
        assert found is not None
        return found
    names = [field.name for field in dataclasses.fields(CheckpointConfig)]
    said = {name: getattr(config, name) for name in names if getattr(config, name, None) is not None}
    if not said and not hasattr(config, "interval"):
        raise InvalidType(f"a {type(config).__name__} is no checkpoint block", hint="pass config.ckpt of prime-rl")
    return CheckpointConfig(**said)


def _run(output_dir: Path, parts: Mapping[str, int] | None) -> Run:
    live = list(_live._runs.values())
    if len(live) == 1:
        return live[0]
    if live:
        names = ", ".join(each.display_id for each in live)
        raise Invalid(f"this process has several runs, {names}", hint="pass run=, the one that is meant")
    if parts is not None and len(parts) > 1 and _launch.launch_key(os.environ) is None:
        raise Invalid(
            f"{' and '.join(parts)} are processes of one run, and nothing says that they belong together",
            hint="set RUNTREE_ATTEMPT to the same value for both, another for each launch; or pass run=",
        )
    return init(run_id=output_dir.absolute().name, resume="allow")


def _check_step(step: Any) -> int:
    if isinstance(step, bool) or not isinstance(step, int):
        raise InvalidType(f"step {step!r} is not a whole number")
    return step


def _in_order(*given: Any) -> tuple[Any, Any, Any, Any, Any]:
    step, model, optimizers, scheduler, progress = given
    if isinstance(step, int):
        return step, model, optimizers, scheduler, progress
    # model, optimizers, scheduler, progress, step.
    return progress, step, model, optimizers, scheduler


def _fields(progress: Any) -> dict[str, Any]:
    if hasattr(progress, "model_dump"):
        return dict(progress.model_dump())
    if dataclasses.is_dataclass(progress) and not isinstance(progress, type):
        return dataclasses.asdict(progress)
    return dict(progress) if isinstance(progress, Mapping) else dict(vars(progress))


def _set_fields(progress: Any, saved: Any) -> None:
    for name, value in (saved or {}).items():
        if isinstance(progress, dict):
            progress[name] = value
        elif hasattr(progress, name):
            setattr(progress, name, value)


def _source_state(source: Any) -> Any:
    if source is None:
        return None
    if hasattr(source, "state_dict"):
        return source.state_dict()
    if not hasattr(source, "save"):
        raise InvalidType(f"a {type(source).__name__} has neither state_dict nor save: its state can not be kept")
    with tempfile.TemporaryDirectory(prefix="runtree-buffer-") as folder:
        source.save(Path(folder) / "buffer")
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return {"files": {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}}


def _set_source_state(source: Any, saved: Any) -> None:
    if source is None or saved is None:
        return
    if hasattr(source, "load_state_dict"):
        source.load_state_dict(saved)
        return
    with tempfile.TemporaryDirectory(prefix="runtree-buffer-") as folder:
        for name, data in saved["files"].items():
            place = (Path(folder) / name).resolve()
            if not place.is_relative_to(Path(folder).resolve()):
                raise Invalid(f"the buffer's file {name!r} would leave its directory")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        source.load(Path(folder) / "buffer")
