//! Eviction: deleting here what another store keeps.
//!
//! 1. A pin at the other store, named after this one and the checkpoint: from now on its retention and its collectors leave that alone.
//! 2. Only then is it looked whether the checkpoint is there, committed and not deleted. If it was deleted before the pin, it stays here.
//! 3. A tombstone here, in which the other store is named.
//!
//! Looked at first and pinned later it could be deleted there between the two, while it is deleted here: the only copy would be gone. The newest complete checkpoint stays, and
//! so does what a rule of retention protects: pins, leases, tags, what forks and bases start from.

use std::collections::BTreeSet;

use runtree_core::manifest::{CheckpointName, Outcome, PinRecord};
use runtree_core::retention::Policy;
use runtree_core::{CheckpointId, Result, RunId};
use runtree_store::{Store, layout};

use crate::engine::Engine;
use crate::retain::UnknownMetric;

/// Evicts what a run saved, but for its `keep` newest checkpoints. `trusted` was read and verified just now. `reason` stands in the tombstones. Returns what was evicted.
pub(super) fn evict(
    engine: &Engine,
    there: &Store,
    run: RunId,
    keep: u32,
    trusted: Option<CheckpointName>,
    reason: &str,
) -> Result<Vec<CheckpointName>> {
    release(engine, there, run)?;
    let policy = Policy {
        keep_last: Some(keep.max(1)),
        ..Policy::default()
    };
    let mut plan = engine.plan_prune_unsized(run, &policy, UnknownMetric::KeepAll)?;
    for decision in plan.decisions.iter_mut().filter(|decision| !decision.keep) {
        decision.keep = !is_kept(engine, there, decision.name)?;
    }
    let gone = engine.bury_planned(&plan, trusted, &|_| reason.to_owned())?;
    if !gone.is_empty() {
        engine.collect_trash(run, crate::retain::LIVE_TRASH)?;
    }
    Ok(gone)
}

/// Whether the other store has a checkpoint and keeps it for this one from now on.
fn is_kept(engine: &Engine, there: &Store, name: CheckpointName) -> Result<bool> {
    let pin = pin_name(engine.store(), name);
    there.write_pin(
        &pin,
        &PinRecord {
            checkpoint: name,
            reason: format!("evicted from {}", engine.store().objects()),
            created: engine.now(),
            ttl_seconds: None,
        },
    )?;
    let is_there = there
        .read_commit(name.run, name.key)?
        .is_some_and(|commit| commit.outcome == Outcome::Committed);
    let tombstones = there.list_tombstones(name.run)?;
    let is_deleted = tombstones
        .into_iter()
        .any(|(key, highest)| key == name.key && layout::is_deleted(highest));
    if is_there && !is_deleted {
        return Ok(true);
    }
    there.delete_pin(&pin)?;
    Ok(false)
}

/// Takes back pins of what is here again.
fn release(engine: &Engine, there: &Store, run: RunId) -> Result<()> {
    let deleted: BTreeSet<_> = engine
        .store()
        .list_tombstones(run)?
        .into_iter()
        .filter(|(_, highest)| layout::is_deleted(*highest))
        .map(|(key, _)| key)
        .collect();
    let start = prefix(engine.store());
    for listed in there.list_pins()? {
        let Some(name) = listed.name().filter(|name| name.starts_with(&start)) else {
            continue;
        };
        let checkpoint = there.read_pin(&listed)?.checkpoint;
        if checkpoint.run == run && !deleted.contains(&checkpoint.key) {
            there.delete_pin(&name)?;
        }
    }
    Ok(())
}

fn prefix(here: &Store) -> String {
    format!("evicted-{}-", here.id())
}

fn pin_name(here: &Store, name: CheckpointName) -> String {
    format!("{}{}", prefix(here), CheckpointId::of(name.run, name.key))
}
