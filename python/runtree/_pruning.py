"""What a live run lets go of: its older checkpoints."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runtree._saying import Saying

if TYPE_CHECKING:
    from runtree.retention import KeepBest, PrunePlan


class Pruning(Saying):
    """That part of a live run."""

    def _show_warnings(self) -> None:
        raise NotImplementedError

    def prune(
        self,
        policy: Any = None,
        *,
        keep_last: int | None = None,
        keep_interval: int | None = None,
        keep_every: int | None = None,
        keep_best: KeepBest | None = None,
        keep_newer_than: timedelta | float | str | None = None,
        keep_without_metric: bool | None = None,
        dry_run: bool = False,
    ) -> PrunePlan:
        """Puts the committed checkpoints of this run that no rule keeps into the trash; see :class:`runtree.Retention` for the rules.

        Without a rule, the policy that counts for the run (``init(retention=)``, its project's, the store's). A save that is on its
        way is no candidate: what is committed is. The trash is emptied in the background, down to one checkpoint, before the next
        save is written. A metric that nothing has a value of yet deletes nothing, and warns once.

        Returns the plan, with reasons; with ``dry_run`` nothing is changed, and ``plan.apply()`` does it.
        """
        rules = {"keep_last": keep_last, "keep_interval": keep_interval, "keep_every": keep_every, "keep_best": keep_best,
                 "keep_newer_than": keep_newer_than, "keep_without_metric": keep_without_metric}  # fmt: skip
        return self._prune(policy, rules, dry_run)

    def delete_checkpoints(self, best_checkpoint_metric: str = "val/reward") -> PrunePlan:
        """Keeps the newest checkpoint and the best by a metric, and puts the rest into the trash.

        The largest value is the best; for a loss say ``"val/loss:min"``. Before the metric first appears nothing is deleted.
        """
        rule = best_checkpoint_metric
        return self._prune({"keep_best": rule, "keep_without_metric": False}, {}, dry_run=False)

    def _prune(self, policy: Any, rules: dict[str, Any], dry_run: bool) -> PrunePlan:
        from runtree import _native
        from runtree.retention import PrunePlan, rules_of

        self._refuse_finished()
        given = rules_of(policy, **rules)
        writer = self._writer
        if writer is None or writer.inert:
            return PrunePlan(self._store, None, not dry_run)
        native = _native.prune_live(self._store.native, writer, given, dry_run)
        self._show_warnings()
        return PrunePlan(self._store, native, not dry_run)
