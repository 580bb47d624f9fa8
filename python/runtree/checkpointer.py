"""What a trainer calls: when to save, save, resume, as its checkpoint block says. Without a block it does nothing.

    checkpoints = runtree.Checkpointer(run, config)                  # or config.bind(run)
    start = checkpoints.resume(state) or 0
    for step in range(start + 1, max_steps + 1):
        ...
        if checkpoints.should_save(step, is_last=step == max_steps):
            checkpoints.save(step, state)

Several processes that make one checkpoint together (a trainer's ranks, an orchestrator) have one each, told the same ``parts``.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from runtree import _ranks, _warn
from runtree._checkpoint_state import SKIPPED, check_state, checked_parts, put_back, speaker
from runtree._loading import Wanted
from runtree.checkpoint import RESULT_TIMEOUT_SECONDS, Checkpoint, PendingSave
from runtree.checkpoint_config import CheckpointConfig
from runtree.errors import Error, Invalid, NotFound

if TYPE_CHECKING:
    from runtree._checkpoint_view import View
    from runtree.run import Run

# How long `close` waits for the parts of others.
_OTHERS_SECONDS = 60.0


class Checkpointer:
    """Saves and resumes a run as a checkpoint block says; see :meth:`CheckpointConfig.bind`.

    A state is a dict with text keys: ``model``, ``optimizer``, ``scheduler``, ``dataloader``, ``progress`` and any others. Steps
    are counted from 1: checkpoint N is what N steps have made.

    Args:
        run: The live run.
        config: The block; with None nothing is ever written or restored.
        component: What this process saves: ``"trainer"``, ``"orchestrator"``.
        parts: How many ranks of each component make one checkpoint, the same in all processes: ``{"trainer": 8, "orchestrator": 1}``.
            A checkpoint exists once all of them are there. This component alone unless given.
        rank: This process among those of its component; the run's unless given.
        world_size: How many those are; as ``parts`` or the launch says unless given.

    Raises:
        Invalid: The arguments contradict each other, or the block has problems.
    """

    def __init__(
        self,
        run: Run,
        config: CheckpointConfig | Mapping[str, Any] | None,
        *,
        component: str = "trainer",
        parts: Mapping[str, int] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        #: The run.
        self.run = run
        #: The block; None: nothing is written.
        self.config = CheckpointConfig.of(config)
        self._parts = checked_parts(component, parts, run._setup.world_size if world_size is None else world_size)
        size = self._parts[component]
        rank = (run._setup.rank if size > 1 or component == "trainer" else 0) if rank is None else rank
        if world_size not in (None, size) or not 0 <= rank < size:
            raise Invalid(
                f"this is rank {rank} of {world_size or size} of {component}, and parts says that there are {size}",
                hint="give every process of all components the same parts, and each its rank",
            )
        self._setup = run._setup._replace(rank=rank, world_size=size, component=component)
        self._last: int | None = None
        self._view: View | None = None
        # One of all processes speaks for the checkpoint as a whole.
        if self.config is None or run.disabled or rank or component != speaker(self._parts):
            return
        if self.config.retention is not None:
            run.store.set_retention(self.config.retention, run=run.id)
        if self.config.output_dir is not None and not self.config.load_only:
            from runtree._checkpoint_view import View

            self._view = View(run, self.config.output_dir)

    # ---- Saving.

    @property
    def writes(self) -> bool:
        """Whether there is a block that writes."""
        return self.config is not None and not self.config.load_only

    def should_save(self, step: int, is_last: bool = False) -> bool:
        """Whether a step that is done is to be saved: every ``interval``-th, and the last. Never the same step twice."""
        if self.config is None or self.config.load_only or step == self._last:
            return False
        interval = self.config.interval
        return is_last or (interval is not None and step > 0 and step % interval == 0)

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        *,
        metrics: Mapping[str, float] | None = None,
        name: str | None = None,
        pin: bool = False,
        sharded: bool | None = None,
    ) -> PendingSave | None:
        """Saves the state of a step, scheduled or not; None, and nothing is written, without a block.

        It returns when the state has been copied with ``save_async``, else when it is durable: what this process saves, that is, and
        the checkpoint with it if there is nobody else. A disk that fails is a warning, as in :meth:`Run.save`; ``result()`` of what
        is returned raises, and waits for all parts. See there for ``metrics``, ``name``, ``pin``, ``sharded``.
        """
        check_state(state)
        if self.config is None or self.config.load_only:
            return None
        rank, size, component = self._setup.rank, self._setup.world_size, self._setup.component
        pending = self.run.save(
            state, step=step, component=component, rank=rank, world_size=size, parts=self._parts,
            metrics=metrics, name=name, pin=pin, sharded=sharded,
        )  # fmt: skip
        self._last = step
        if self._view is not None:
            self._view.follow(pending)
        if not self.config.save_async:
            self._wait(pending)
        return pending

    def _wait(self, pending: PendingSave) -> None:
        native = pending._native
        with contextlib.suppress(Error):
            # Waiting for the others here may be waiting for what they wait for from this process.
            if native is not None and sum(self._parts.values()) > 1:
                native.wait_part(RESULT_TIMEOUT_SECONDS)
            else:
                pending.result()
                if self._view is not None:
                    self._view.wait(0)
        self.run._show_warnings()

    # ---- Resuming.

    def resume(self, state: Mapping[str, Any], *, per_rank: Any = None) -> int | None:
        """Restores a state in place from the checkpoint that the block names; returns its step, None if training starts from scratch.

        Only a whole checkpoint is taken: one of all ``parts``. ``resume_step=-1`` is the newest of them, the same for all processes
        of a launch, and none at all is no error; what ``init(base=)`` named is none of the run's. Tensors, arrays and objects with
        ``load_state_dict`` are restored in place, plain values put into their dicts. What ``state`` does not have is not read; what
        ``skip_…`` names stays as it is, and is said to be. With ``skip_progress`` it is 0: training counts anew. ``per_rank`` is as
        in :meth:`Run.load`.

        Raises:
            NotFound: There is no whole checkpoint at ``resume_step``, or in ``resume_dir``; the message lists the steps there are.
            Corrupt: It is damaged. A process alone that resumes the newest takes the newest good one instead, and warns.
        """
        check_state(state)
        config, run = self.config, self.run
        if run.disabled:
            return None
        if config is None or (config.resume_step is None and config.resume_dir is None):
            self._tell_of_another()
            return None
        found = self._find(config)
        if found is None:
            self._say(f"{run.display_id} has no whole checkpoint yet: training starts from scratch")
            return None
        skipped = {each for flag, names in SKIPPED.items() if getattr(config, flag) for each in names}
        wanted = [key for key in state if key not in skipped]
        saved = self._saved_keys(found)
        missing = [key for key in wanted if saved is not None and key not in saved]
        if missing:
            _warn.once(f"{run.id} missing", f"checkpoint {found.reference} has no {', '.join(missing)}: left as it is")
        globs = [pattern for key in wanted if key not in missing for pattern in (key, f"{key}.*")]
        if globs:
            alone = config.resume_step == -1 and sum(self._parts.values()) == 1
            into = {key: value for key, value in state.items() if key in wanted}
            found, loaded = run._load(found, Wanted(into, globs, None, per_rank), self._setup, alone)
            put_back(state, loaded)
        self._last = None if config.skip_progress else found.step
        left = sorted(key for key in state if key in skipped)
        told = f"; not restored: {', '.join(left)}" if left else ""
        self._say(f"{run.display_id} goes on from checkpoint {found.reference}{told}")
        self._tell_of_skips(state)
        return 0 if config.skip_progress else found.step

    def _find(self, config: CheckpointConfig) -> Checkpoint | None:
        run = self.run
        if config.resume_dir is not None:
            from runtree._checkpoint_view import read_marker

            found = read_marker(config.resume_dir).checkpoint()
            start = run.resumed_from
            # A fork of it has it here, and goes on from it with its history.
            return self._whole(start if start is not None and start.id == found.id else found)
        if config.resume_step != -1:
            return self._whole(run.checkpoint(cast("int", config.resume_step)))
        try:
            newest = run._to_load("latest")
        except NotFound:
            return None
        if self._is_base(newest):
            return None
        if not self._lacks(newest):
            return newest
        older = [each for each in run.checkpoints() if each.effective and each.step <= newest.step]
        return next((each for each in reversed(older) if not self._lacks(each)), None)

    def _is_base(self, checkpoint: Checkpoint) -> bool:
        """Whether it is what the run is based on: weights to begin with, whose steps and optimizer are of another training."""
        return self.run.base is not None and checkpoint._info["run"]["id"] != self.run.id

    def _lacks(self, checkpoint: Checkpoint) -> list[str]:
        there = {part["component"] for part in checkpoint.parts}
        return [component for component in self._parts if component not in there]

    def _whole(self, checkpoint: Checkpoint) -> Checkpoint:
        lacks = self._lacks(checkpoint)
        if lacks:
            steps = [each.step for each in self.run.checkpoints() if each.effective and not self._lacks(each)]
            raise NotFound(
                f"checkpoint {checkpoint.reference} has no part of {' and '.join(lacks)}",
                hint=f"whole ones are at steps {', '.join(map(str, steps))}" if steps else "there is no whole one",
            )
        return checkpoint

    def _saved_keys(self, checkpoint: Checkpoint) -> list[Any] | None:
        """The keys of a saved state; None if they can not be read, which loading tells."""
        with contextlib.suppress(Error):
            return _ranks.keys(checkpoint, self._setup.component, self._setup.rank)
        return None

    # ---- What is said.

    def _say(self, words: str) -> None:
        if self._setup.rank == 0:
            print(f"runtree: {words}", file=sys.stderr, flush=True)

    def _tell_of_another(self) -> None:
        start = self.run.resumed_from
        if start is not None and not self._is_base(start):
            self._say(f"training starts from scratch; --resume would go on from checkpoint {start.reference}")

    def _tell_of_skips(self, state: Mapping[str, Any]) -> None:
        """A block is of trainer and orchestrator; of a trainer alone a skip that skips nothing is a name that is not known."""
        if self._setup.component != "trainer":
            return
        for flag, names in SKIPPED.items():
            if getattr(self.config, flag) and not any(each in state for each in names):
                known = f"the state has {', '.join(state)}, none of {', '.join(names)}"
                _warn.once(f"{self.run.id} {flag}", f"{flag} skips nothing: {known}")

    # ---- The end.

    def close(self, timeout: float | None = None) -> None:
        """Waits until ``output_dir`` has what was saved: ``timeout`` seconds, 60 unless given, for what is not whole yet.

        At exit that is done too, for 10 seconds.
        """
        if self._view is not None:
            self._view.wait(_OTHERS_SECONDS if timeout is None else timeout)

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Checkpointer of {self.run.display_id}, {self._setup.component}: {self.config}>"
