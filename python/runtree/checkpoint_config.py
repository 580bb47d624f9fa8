"""The checkpoint block of a trainer: when it saves, what it keeps, where it goes on. Nothing is written without one.

A plain dataclass: a field of another dataclass, of a pydantic model (which is not needed), of what tyro reads; flags of ``argparse``;
a table of a TOML file. What there is to know about a block is said here, what it does is :class:`runtree.Checkpointer`'s.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runtree import _checkpoint_rules as rules
from runtree.errors import InvalidType

if TYPE_CHECKING:
    from runtree._checkpoint_arguments import TrainerArguments
    from runtree.checkpointer import Checkpointer
    from runtree.retention import Retention
    from runtree.run import Run


@dataclass(frozen=True)
class CheckpointConfig:
    """The checkpoint block of a trainer: ``--ckpt``, ``[ckpt]``.

    Raises:
        Invalid: Every problem of the block at once, each with what to do (a ``ValueError``).
    """

    # What stands below each field is what `--help` of tyro and of argparse says.
    interval: int | None = None
    """Save after every so many steps; only after the last one unless given."""

    save_async: bool = False
    """Go on training while a checkpoint is being written; else wait until it is durable."""

    keep_last: int | None = None
    """Keep the newest so many checkpoints; all unless given. The newest always stays."""

    keep_interval: int | None = None
    """Keep those whose step is a multiple of it for good, besides the newest."""

    resume_step: int | None = None
    """Go on from the checkpoint at this step, -1: from the newest whole one. From scratch unless given."""

    resume_dir: Path | None = None
    """Go on from another run's checkpoint, by a directory step_<N> that output_dir wrote."""

    output_dir: Path | None = None
    """Write every checkpoint as plain files besides: <output_dir>/checkpoints/step_<N>/<component>/."""

    skip_progress: bool = False
    """Do not restore the progress (step, samples, tokens): it counts from where it is."""

    skip_scheduler: bool = False
    """Do not restore the scheduler."""

    skip_dataloader: bool = False
    """Do not restore the place in the data."""

    skip_optimizer: bool = False
    """Do not restore the optimizer."""

    load_only: bool = False
    """Write nothing: what --resume means without --ckpt."""

    def __post_init__(self) -> None:
        for field in rules.PATHS:
            value = getattr(self, field)
            if isinstance(value, str) and value:
                object.__setattr__(self, field, Path(value))
        rules.refuse(rules.check(self._fields()))

    def _fields(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def _said(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
                if getattr(self, field.name) != field.default}  # fmt: skip

    # ---- What it means.

    @property
    def retention(self) -> Retention | None:
        """What is kept, None if nothing was said: the newest ``keep_last`` and every ``keep_interval``-th step."""
        from runtree.retention import Retention

        if self.load_only or (self.keep_last is None and self.keep_interval is None):
            return None
        return Retention(keep_last=self.keep_last, keep_interval=self.keep_interval)

    @property
    def fork(self) -> str | None:
        """The REF of ``resume_dir``: ``runtree.init(fork=config.fork)`` goes on with the history of its run, too.

        Raises:
            NotFound: There is no such directory.
            Invalid: It was not written by ``output_dir``.
        """
        from runtree._checkpoint_view import read_marker

        return None if self.resume_dir is None else read_marker(self.resume_dir).reference

    def bind(
        self,
        run: Run,
        *,
        component: str = "trainer",
        parts: Mapping[str, int] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> Checkpointer:
        """What saves and resumes a run as the block says; see :class:`runtree.Checkpointer`."""
        from runtree.checkpointer import Checkpointer

        return Checkpointer(run, self, component=component, parts=parts, rank=rank, world_size=world_size)

    # ---- Where it comes from.

    @classmethod
    def of(cls, block: CheckpointConfig | Mapping[str, Any] | bool | None) -> CheckpointConfig | None:
        """A block from itself or from a mapping of its fields, as a TOML file has them (``keep-last`` or ``keep_last``, ``"None"``).

        None and False are no block, True is the defaults. Raises ``Invalid`` with every problem at once, unknown keys included.
        """
        if block is None or block is False:
            return None
        if block is True:
            return cls()
        if isinstance(block, CheckpointConfig):
            return block
        if not isinstance(block, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(
                f"a checkpoint block is a runtree.CheckpointConfig or a dict of its fields, not a {type(block).__name__}"
            )
        fields, problems = rules.read(block)
        rules.refuse(problems)
        return cls(**fields)

    @classmethod
    def share(
        cls,
        shared: CheckpointConfig | Mapping[str, Any] | bool | None = None,
        /,
        **components: CheckpointConfig | Mapping[str, Any] | bool | None,
    ) -> dict[str, CheckpointConfig | None]:
        """The blocks of processes that make one checkpoint, of one for all and each own: ``share(ckpt, trainer=…, orchestrator=…)``.

        What all were told fills in what one was not. Of a :class:`CheckpointConfig` what differs from the defaults counts as said.
        False is no block for sure, None says nothing.

        Raises:
            Invalid: Every conflict at once: a setting that is given twice and differs, or that processes which make one checkpoint
                must agree on (whether they write, ``interval``, ``resume_step``, ``resume_dir``, ``keep_last``, ``keep_interval``,
                ``output_dir``).
        """

        def name(component: str, field: str) -> str:
            return ".".join(each for each in (component, "ckpt", field) if each)

        problems: list[rules.Problem] = []

        def said(component: str, block: Any) -> rules.Said:
            if block is None or isinstance(block, bool):
                return rules.Said({}, block)
            if isinstance(block, CheckpointConfig):
                fields = block._said()
                return rules.Said(fields, None if fields.pop("load_only", False) else True)
            fields, found = rules.read(cast("Mapping[str, Any]", block), lambda field: name(component, field))
            problems.extend(found)
            return rules.Said(fields, True)

        own = {component: said(component, block) for component, block in components.items()}
        blocks, conflicts = rules.share(said("", shared), own, name)
        rules.refuse([*problems, *conflicts], "the checkpoint blocks")
        return {component: None if fields is None else cls(**fields) for component, fields in blocks.items()}

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, *, components: Sequence[str] = ()) -> None:
        """Adds ``--ckpt``, ``--ckpt.interval N``, …, ``--no-ckpt``, ``--resume``, ``--resume.step N``, ``--resume.dir DIR``.

        For each of the ``components`` the same below its name (``--trainer.ckpt.interval N``), and ``--trainer @ FILE``. A bare
        ``@ FILE`` is read, too. Files are TOML; a later one overrides an earlier one, the command line all. What else is in them is
        in the parsed arguments: ``args.settings``, ``args.trainer``.
        """
        from runtree import _checkpoint_arguments

        _checkpoint_arguments.add(parser, tuple(components))

    @classmethod
    def from_arguments(cls, args: argparse.Namespace, component: str | None = None) -> CheckpointConfig | None:
        """The block that parsed arguments say, None if none: then nothing is written.

        ``component`` is whose, where :meth:`add_arguments` was told several. Raises ``Invalid`` with every problem at once, those
        between components included, whichever is asked for.
        """
        from runtree import _checkpoint_arguments

        fields = _checkpoint_arguments.block_of(args, component)
        return None if fields is None else cls(**fields)

    @classmethod
    def parse(
        cls, argv: Sequence[str] | None = None, *, components: Sequence[str] = (), component: str | None = None
    ) -> TrainerArguments:
        """Takes its flags and files out of a command line: ``config``, ``settings`` (what else is in the files) and ``rest``.

        For command lines that argparse does not read: ``rest``, in its order, is for tyro, click or a parser of your own. A problem
        raises ``Invalid``.
        """
        from runtree import _checkpoint_arguments

        parsed, rest = _checkpoint_arguments.split(argv, tuple(components))
        return _checkpoint_arguments.TrainerArguments(cls.from_arguments(parsed, component), parsed.settings, rest)

    def arguments(self, component: str = "") -> list[str]:
        """The flags that say the same: what a launcher starts its processes with."""
        from runtree import _checkpoint_arguments

        return _checkpoint_arguments.flags_of(self._said(), component)

    # ---- pydantic, which is not imported before it asks.

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def before(value: Any) -> Any:
            # What is neither is pydantic's to refuse.
            return cls.of(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value

        schema: Any = core_schema
        return schema.no_info_before_validator_function(before, handler(source))
