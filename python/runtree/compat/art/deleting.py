"""Deleting a model's checkpoints: all but the newest and the best.

ART ranks rows of a file and, where it finds no value, deletes all but the newest. Here the checkpoints that there are are ranked, by
runtree's retention; where nothing has a value of the metric, nothing is deleted, and one warning says so.
"""

from __future__ import annotations

from typing import Any

from runtree import _live, _warn
from runtree._native import plan_prune
from runtree.errors import Invalid, NotFound
from runtree.retention import PrunePlan, rules_of
from runtree.stored import StoredRun


def delete(run: StoredRun, metric: str, mode: str | None, *, force: bool, dry_run: bool) -> PrunePlan:
    """Puts into the trash what is neither the newest nor the best by a metric; returns the plan, with reasons.

    Args:
        run: The model's run, whether it is alive in this process or not.
        metric: Any metric. The largest is the best, unless ``mode`` (or ``metric:min``) says otherwise; a name like a loss needs it.
        mode: ``"max"`` or ``"min"``.
        force: Keeps the newest alone where nothing has a value of the metric.
        dry_run: Changes nothing; ``plan.apply()`` does it.

    Raises:
        Invalid: The mode is neither, or must be said.
    """
    if mode not in (None, "min", "max"):
        raise Invalid(f"mode {mode!r} is neither 'min' nor 'max'")
    best = metric if mode is None else (metric, mode)
    rules: dict[str, Any] = {"keep_best": best, "keep_without_metric": False}
    plan = _prune(run, rules, dry_run)
    if plan.unranked is not None and force:
        return _prune(run, {"keep_last": 1}, dry_run)
    return plan


def _prune(run: StoredRun, rules: dict[str, Any], dry_run: bool) -> PrunePlan:
    live = _live.find(run.id)
    if live is not None:
        return live.prune(rules, dry_run=dry_run)
    try:
        return run.store.prune(run.id, rules, dry_run=dry_run)
    except NotFound as unknown:
        _warn.once(f"{run.id} unranked", f"nothing is deleted of {run.display_id}: {unknown}")
        return _nothing_goes(run, unknown.message)


def _nothing_goes(run: StoredRun, why: str) -> PrunePlan:
    # Every step is a multiple of one: the plan that keeps everything.
    native = plan_prune(run.store.native, run.id, rules_of({"keep_interval": 1}))
    plan = PrunePlan(run.store, native, applied=True)
    plan._info["unranked"] = why  # pyright: ignore[reportPrivateUsage]
    return plan
