//! Having another store keep a checkpoint, so that it may be deleted here.
//!
//! 1. A pin at the other store, named after this one and the checkpoint: from now on its retention and its collectors leave that alone.
//! 2. Only then is it looked whether the checkpoint is there, committed and not deleted. If it was deleted before the pin, it stays here.
//!
//! Looked at first and pinned later, it could be deleted there between the two, while it is deleted here: the only copy would be gone.

use std::collections::BTreeSet;

use runtree_core::manifest::{CheckpointName, Outcome, PinRecord};
use runtree_core::{CheckpointId, Result, RunId, Timestamp};
use runtree_store::{Store, layout};

use crate::gc::is_deleted;

/// Has `there` keep a checkpoint for `here`; says whether it has it whole, and keeps it from now on whatever its own rules say.
///
/// # Errors
/// As the stores say; then it must stay here.
pub fn keep(here: &Store, there: &Store, name: CheckpointName, now: Timestamp) -> Result<bool> {
    let pin = pin_name(here, name);
    there.write_pin(
        &pin,
        &PinRecord {
            checkpoint: name,
            reason: format!("evicted from {}", here.objects()),
            created: now,
            ttl_seconds: None,
        },
    )?;
    if is_whole(there, name)? {
        return Ok(true);
    }
    there.delete_pin(&pin)?;
    Ok(false)
}

/// Whether a store has a checkpoint, and has not deleted it.
fn is_whole(store: &Store, name: CheckpointName) -> Result<bool> {
    let commit = store.read_commit(name.run, name.key)?;
    let is_committed = commit.is_some_and(|commit| commit.outcome == Outcome::Committed);
    Ok(is_committed && !is_deleted(store, name)?)
}

/// Takes back what `there` keeps for `here` of a run, as far as it is here again.
///
/// Only for who evicts the run, and before it does: between the pin of an eviction and its tombstone the checkpoint is not deleted here yet, and whoever took the pin back
/// then would leave the only copy unprotected.
///
/// # Errors
/// As the stores say.
pub(crate) fn release(here: &Store, there: &Store, run: RunId) -> Result<()> {
    let gone = deleted(here, run)?;
    let start = prefix(here);
    for listed in there.list_pins()? {
        let Some(name) = listed.name().filter(|name| name.starts_with(&start)) else {
            continue;
        };
        let checkpoint = there.read_pin(&listed)?.checkpoint;
        if checkpoint.run == run && !gone.contains(&checkpoint.key) {
            there.delete_pin(&name)?;
        }
    }
    Ok(())
}

/// Saves of a run that are deleted in a store.
pub(super) fn deleted(store: &Store, run: RunId) -> Result<BTreeSet<runtree_core::SaveKey>> {
    let tombstones = store.list_tombstones(run)?.into_iter();
    let deleted = tombstones.filter(|(_, highest)| layout::is_deleted(*highest));
    Ok(deleted.map(|(key, _)| key).collect())
}

fn prefix(here: &Store) -> String {
    format!("evicted-{}-", here.id())
}

fn pin_name(here: &Store, name: CheckpointName) -> String {
    format!("{}{}", prefix(here), CheckpointId::of(name.run, name.key))
}
