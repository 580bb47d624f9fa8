"""Forking a model: which checkpoint, what refuses it, and how it is recorded.

Nothing is overwritten, whatever is asked. A fork is a run of its own whose history up to the step is the other model's; where a model
has a run already, a new one takes its place (:mod:`runtree.compat.art.standing`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtree import _live
from runtree.compat.art import adapters, standing
from runtree.compat.art.sources import Offer, Source, StoredSource, facts_of
from runtree.compat.art.standing import Standing
from runtree.errors import Conflict, Invalid
from runtree.store import Store
from runtree.stored import StoredRun

if TYPE_CHECKING:
    from runtree.compat.art.model import TrainableModel

# What a fork was asked for stands in the config of the run, so that the same call is known again after a restart.
_ASKED = "art_fork"
_QUANTISED = re.compile(r"(-unsloth)?(-bnb-4bit)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """What a fork is asked for."""

    from_model: str
    from_project: str
    place: Path | str | None
    """A bucket or directory; None: the store the fork is made in."""
    not_after: int | None
    force: bool
    verbose: bool

    def record(self, model: TrainableModel) -> dict[str, Any]:
        """What stands in the config. The model itself is named: a config is inherited, what was asked for it is not."""
        place = None if self.place is None else str(self.place)
        return {
            "model": model.name,
            "from_model": self.from_model,
            "from_project": self.from_project,
            "from": place,
            "not_after_step": self.not_after,
        }

    def say(self, text: str) -> None:
        """Tells what happens, if that is wanted."""
        if self.verbose:
            print(f"runtree: {text}", file=sys.stderr, flush=True)


def fork(store: Store, model: TrainableModel, request: Request, find: Callable[[], Source]) -> int:
    """Makes a model the fork of another's newest checkpoint that fits; returns its step.

    The same call again finds the fork that it made before, and changes nothing: neither what the model learned since nor what its
    parent saved since. ``find`` looks up what is forked, which is then not needed.

    Raises:
        NoCheckpoint: Nothing fits.
        Conflict: A fork onto itself; a step that is there with other content; a later step; another base model or rank.
    """
    there = standing.find(store, model.project, model.name)
    if there.run is not None and _was_asked(there.run, model, request):
        step = there.run.fork_step or 0
        request.say(f"{model.name} was forked from {request.from_model} at step {step} before, and goes on")
        return step
    is_itself = (request.from_project, request.from_model) == (model.project, model.name)
    if request.place is None and is_itself:
        raise Conflict(
            f"model {model.name!r} can not be forked onto itself",
            hint="give the fork another name, or go back with runtree rewind",
        )
    source = find()
    with source.offer(request.not_after) as offer:
        request.say(f"{request.from_model}: step {offer.step} of {offer.where}")
        is_here = isinstance(source, StoredSource) and source.is_here
        if is_here and there.run is not None and offer.run == there.run.id:
            raise Conflict(f"model {model.name!r} can not be forked onto itself", hint="give the fork another name")
        if not request.force:
            _check_fits(model, there, offer)
            if there.run is not None and _is_settled(there.run, offer, model.name):
                request.say(f"{model.name} has it already")
                return offer.step
        taken = offer.take()
    again = standing.find(store, model.project, model.name)
    if again.run is not None and taken.startswith(again.run.id) and (there.run is None or not request.force):
        # The model itself, brought back from where it was kept.
        request.say(f"{model.name} is restored at step {offer.step}")
        return offer.step
    # Its key is the one of what was there when it was decided: whoever makes the same fork at this moment makes the same run.
    new = _make(store, model, request, there, taken)
    request.say(f"{model.name} is {new.display_id}, forked from {new.parent} at step {new.fork_step}")
    return offer.step


def check_base(what: str, stored: str | None, wanted: str) -> None:
    """Refuses a model that was trained from another base model."""
    if stored is not None and stored != wanted:
        raise Conflict(
            f"{what} was trained from {stored}, not from {wanted}",
            hint="take its base_model, give the model another name, or pass force=True if the two fit each other",
        )


def _was_asked(run: StoredRun, model: TrainableModel, request: Request) -> bool:
    return run.fork_step is not None and run.config.get(_ASKED) == request.record(model)


def _check_fits(model: TrainableModel, there: Standing, offer: Offer) -> None:
    facts = offer.facts()
    if offer.base_model is not None:
        check_base(f"the checkpoint of {offer.where}", offer.base_model, model.base_model)
    elif facts.base_model is not None and _bare(facts.base_model) != _bare(model.base_model):
        # What nobody recorded is known from the adapter alone, which may name a quantised copy of the model.
        check_base(f"the adapter of {offer.where}", facts.base_model, model.base_model)
    rank = model.lora_rank
    if rank is None and there.run is not None:
        own = there.run.checkpoints()
        rank = facts_of(own[-1]).rank if own else None
    if rank is not None and facts.rank is not None and rank != facts.rank:
        raise Conflict(
            f"the adapter of {offer.where} has rank {facts.rank}, model {model.name!r} has rank {rank}",
            hint="train with that rank, or pass force=True",
        )


def _bare(base_model: str) -> str:
    return _QUANTISED.sub("", base_model.rstrip("/").rpartition("/")[2]).casefold()


def _is_settled(run: StoredRun, offer: Offer, name: str) -> bool:
    """Whether a model's run has what is offered, as its newest.

    Raises:
        Conflict: It has something else there, or something later, from which it would go on.
    """
    parent = run._birth()["parent"]  # pyright: ignore[reportPrivateUsage]
    own = [each for each in run.checkpoints() if each.state == "complete"]
    if parent is not None and (parent["id"], run.fork_step) == (offer.run, offer.step):
        # This fork, asked for in other words; what was learned since is its own. But a step may be saved again.
        starts = [each for each in own if each.inherited and each.step == offer.step]
        if starts and adapters.digest(starts[-1].dir()) == offer.digest():
            return True
    if not own or own[-1].step < offer.step:
        return False
    newest = own[-1]
    if newest.step > offer.step:
        raise Conflict(
            f"model {name!r} ({run.display_id}) has a checkpoint at step {newest.step}, later than step {offer.step}, "
            "and would go on from there",
            hint="give the fork another name; with force=True it takes the place of what is there, which stays as "
            f"{run.display_id}",
        )
    if adapters.digest(newest.dir()) == offer.digest():
        return True
    raise Conflict(
        f"model {name!r} ({run.display_id}) has another checkpoint at step {offer.step}",
        hint=f"give the fork another name; with force=True it takes the place of what is there, which stays as {run.display_id}",
    )


def _make(store: Store, model: TrainableModel, request: Request, there: Standing, reference: str) -> StoredRun:
    key = there.key if there.run is None else there.next_key
    live = None if there.run is None else _live.find(there.run.id)
    if live is not None:
        live.finish("stopped", f"replaced by a fork of {request.from_model}")
    config = {**model.settings(), _ASKED: request.record(model)}
    return store.fork(reference, name=model.name, run_id=key, config=config, into=model.project)


def check_step(not_after_step: Any) -> int | None:
    """``not_after_step`` as a step."""
    if not_after_step is None:
        return None
    if isinstance(not_after_step, bool) or not isinstance(not_after_step, int):
        raise Invalid(f"not_after_step {not_after_step!r} is not a step", hint="not_after_step=500")
    return not_after_step
