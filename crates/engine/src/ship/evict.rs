//! Eviction: deleting here what the remote keeps ([`sync::keep`]).
//!
//! The newest complete checkpoint stays, and so does what a rule of retention protects: pins, leases, tags, what forks and bases start from.

use runtree_core::manifest::CheckpointName;
use runtree_core::retention::Policy;
use runtree_core::{Result, RunId};
use runtree_store::Store;

use crate::engine::Engine;
use crate::retain::{LIVE_TRASH, UnknownMetric};
use crate::sync;

/// Evicts what a run saved, but for its `keep` newest checkpoints. `trusted` was read and verified just now. `reason` stands in the tombstones. Returns what was evicted.
pub(super) fn evict(
    engine: &Engine,
    there: &Store,
    run: RunId,
    keep: u32,
    trusted: Option<CheckpointName>,
    reason: &str,
) -> Result<Vec<CheckpointName>> {
    sync::release(engine.store(), there, run)?;
    let policy = Policy {
        keep_last: Some(keep.max(1)),
        ..Policy::default()
    };
    let mut plan = engine.plan_prune_unsized(run, &policy, UnknownMetric::KeepAll)?;
    for decision in plan.decisions.iter_mut().filter(|decision| !decision.keep) {
        decision.keep = !sync::keep(engine.store(), there, decision.name, engine.now())?;
    }
    let gone = engine.bury_planned(&plan, trusted, &|_| reason.to_owned())?;
    if !gone.is_empty() {
        engine.collect_trash(run, LIVE_TRASH)?;
    }
    Ok(gone)
}
