//! Which runs a refresh looks at: of a small store all, of a large one those to which something may have happened.

use std::collections::BTreeSet;
use std::ops::Range;

use runtree_core::{Result, RunId};
use runtree_index::{FoldItem, Index as _};
use runtree_store::Touches;

use super::Scan;
use crate::engine::{Engine, ScanOptions};

/// Key of what `touched/` looked like when all of the store was folded last.
const TOUCHES: &str = "touches";

impl Engine {
    /// Reads from the index what a scan of any store needs, once.
    pub(super) fn load_for_scan(&self, scan: &mut Scan) -> Result<()> {
        let generation = scan.generation.as_deref().unwrap_or_default();
        self.load_open_seen(&mut scan.seen, generation)?;
        if scan.listed.is_none() {
            scan.listed = Some(self.index.mentioned_runs()?);
            let kept = self.index.stamp(TOUCHES)?;
            let kept = kept.as_deref().and_then(|it| it.strip_prefix(generation));
            scan.touches = kept.and_then(Touches::parse);
        }
        Ok(())
    }

    /// Runs that have to be looked at, in the order of `runs`: parents before their forks.
    ///
    /// Nothing happened to a run since it was folded last if its file of `touched/` is as it was then ([`Touches`]) and all its journals are closed; or
    /// if its folder is as it was ([`changed_runs`](runtree_store::Store::changed_runs)), and what is open of its journals.
    pub(super) fn doubtful_runs(
        &self,
        scan: &mut Scan,
        runs: &[RunId],
        touches: Option<&Touches>,
    ) -> Result<Vec<RunId>> {
        let options = self.options.scan;
        let round = next_round(options, scan, runs.len(), || self.options.entropy.bits());
        let Scan {
            seen,
            generation,
            listed,
            touches: before,
            ..
        } = scan;
        let generation = generation.as_deref().unwrap_or_default();
        if runs.len() <= options.small_store {
            self.load_all_seen(seen, generation)?;
            return Ok(runs.to_vec());
        }
        let before = before.as_ref().zip(touches);
        let is_calm = |run: RunId| {
            before.is_some_and(|(before, now)| before.holds(now, run))
                && !seen.is_open(run)
                && listed.as_ref().is_some_and(|listed| listed.contains(&run))
        };
        let touched: Vec<RunId> = runs.iter().copied().filter(|&run| !is_calm(run)).collect();
        if touched.len() > runs.len() / 8 {
            self.load_all_seen(seen, generation)?;
        }
        for &run in touched.iter().chain(&runs[round.clone()]) {
            self.load_seen(seen, generation, run)?;
        }
        let changed = self.store.changed_runs(&touched, |run| seen.get(run));
        let doubtful: BTreeSet<RunId> = changed.into_iter().chain(runs[round].to_vec()).collect();
        Ok(doubtful.into_iter().collect())
    }

    /// Keeps what `touched/` looked like before everything was folded, for the next scan and the next process.
    pub(super) fn keep_touches(
        &self,
        scan: &mut Scan,
        touches: Option<Touches>,
        doubtful: &[RunId],
    ) {
        let Some(mut touches) = touches else {
            return;
        };
        for &run in doubtful {
            // It is damaged, or was touched too lately to be recognised: it is looked at until it is neither.
            if scan.seen.get(run).is_none() {
                touches.forget(run);
            }
        }
        if scan.touches.as_ref() == Some(&touches) {
            return;
        }
        let generation = scan.generation.as_deref().unwrap_or_default();
        let value = [generation, &touches.to_bytes()].concat();
        let key = TOUCHES.to_owned();
        // What is not kept costs the next process time, and this one nothing: a query must not fail for it.
        let _ = self.index.apply(&[FoldItem::Stamp { key, value }]);
        scan.touches = Some(touches);
    }
}

/// Places among `count` runs that are looked at closely this time: all of a small store, else the next few, in a process's first refresh from a place that
/// chance chooses, so that processes that look only once find everything, too.
fn next_round(
    options: ScanOptions,
    scan: &mut Scan,
    count: usize,
    chance: impl FnOnce() -> u128,
) -> Range<usize> {
    if count <= options.small_store {
        return 0..count;
    }
    let first = scan
        .round
        .unwrap_or_else(|| (chance() % count as u128) as usize);
    let first = if first < count { first } else { 0 };
    let next = count.min(first + options.round);
    scan.round = Some(next);
    first..next
}
