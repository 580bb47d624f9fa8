"""What integrations share: which run is written to, and how ranks agree on what one of them finds out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import runtree
from runtree import _dcp
from runtree.errors import Error, Invalid, InvalidType
from runtree.run import Run

T = TypeVar("T")

#: What becomes of the learning rate when training goes on from another run's checkpoint.
ON_FORK = ("use-args", "keep")


def checked_on_fork(on_fork: str) -> str:
    """One of the two words."""
    if on_fork not in ON_FORK:
        raise Invalid(
            f"on_fork {on_fork!r} is not one of 'use-args', 'keep'",
            hint="'use-args': a fork trains at the rate of the script; 'keep': at the one in the checkpoint",
        )
    return on_fork


class Source:
    """A run that was given, else this process's only one, else, where ``start`` has keywords, one that is started when first needed.

    It is started late because ranks find each other through the process group, which the libraries make late.

    Args:
        run: The live run.
        start: Keywords of ``runtree.init``; None: there is one, and none is ever started.
        join: Whether a run that is live here is taken even if there are keywords.
    """

    def __init__(self, run: Run | None = None, start: dict[str, Any] | None = None, *, join: bool = False) -> None:
        if run is not None and not isinstance(run, Run):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"run is a {type(run).__name__}, not a live run", hint="pass what runtree.init() returns")
        if run is not None and start:
            raise Invalid(f"a run and {', '.join(start)} are two ways to say which run", hint="leave one of them out")
        self._run = run
        self._start = start
        self._join = join
        self.is_own = False
        """Whether it was started here."""

    def get(self) -> Run:
        """The run. Where it is started here, the first call is one of all ranks."""
        run = self._run
        if run is not None and not (run.finished and self.is_own):
            return run
        live = _dcp.live_runs()
        if len(live) == 1 and (self._join or not self._start):
            self._run, self.is_own = live[0], False
        elif self._start is None:
            names = f"several runs, {', '.join(each.display_id for each in live)}" if live else "no run"
            raise Invalid(f"this process has {names}", hint="call runtree.init() first, and pass the run it returns")
        else:
            self._run, self.is_own = runtree.init(**self._start), True
        return self._run

    @property
    def known(self) -> Run | None:
        """The run, if it was asked for before."""
        return self._run


def distributed() -> Any:
    """``torch.distributed`` if there are several ranks, else None."""
    module: Any = sys.modules.get("torch.distributed")
    several = module is not None and module.is_available() and module.is_initialized() and module.get_world_size() > 1
    return module if several else None


def on_first(function: Callable[[], T]) -> T:
    """Calls a function on rank 0 and gives its result to all ranks; an error of runtree is raised on all of them."""
    ranks = distributed()
    if ranks is None:
        return function()
    told: list[Any] = [None]
    failed: Error | None = None
    if ranks.get_rank() == 0:
        try:
            told = [("is", function())]
        except Error as error:
            failed = error
            told = [(error.kind, error.message, error.hint)]
    ranks.broadcast_object_list(told, 0)
    if failed is not None:
        raise failed
    if told[0][0] == "is":
        return cast("T", told[0][1])
    kind, message, hint = told[0]
    raise next((each for each in Error.__subclasses__() if each.kind == kind), Error)(message, hint=hint)
