//! Who carries between the two stores of a world: pushers, and those who delete here what is kept there.

use std::collections::BTreeSet;

use runtree_core::manifest::{CheckpointName, Outcome, PinRecord, RunRecord};
use runtree_core::{DisplayId, ErrorKind, Result, RunId, Timestamp};
use runtree_engine::TrashBound;
use runtree_engine::gc::{Collector, Memory};
use runtree_engine::sync::{SyncSelection, keep, sync};
use runtree_store::{Store, Tombstone};

use super::Fault;
use super::keeper::is_deleted;
use super::saver::some_checkpoint;
use super::trash::tombstone;
use super::world::Actor;

/// Pushes of one pusher, evictions of one evicter.
const TRIES: usize = 5;

/// The records of the runs that are copied.
pub(super) fn bear(store: &Store, runs: &[RunId]) -> Result<()> {
    for (number, &run) in (1..).zip(runs) {
        let record = RunRecord {
            run,
            project: "simulation".parse()?,
            display_id: DisplayId::new("SIM", number)?,
            key: None,
            name: "a run".to_owned(),
            experiment: "a simulation".to_owned(),
            created: Timestamp(0),
            fork: None,
            base: None,
            config: serde_json::json!({}),
            inherited_config: Vec::new(),
            tags: Vec::new(),
            notes: None,
        };
        store
            .create_run(&record)?
            .or_conflict(|| format!("{run} is taken"))?;
    }
    Ok(())
}

/// Copies what is missing there, as often as something new may be here.
pub(super) fn push(actor: &mut Actor) -> Result<()> {
    let there = actor.other().clone();
    let selection = SyncSelection {
        runs: Some(actor.runs.iter().copied().collect::<BTreeSet<_>>()),
        // One actor is one thread.
        concurrency: Some(1),
        ..SyncSelection::default()
    };
    for _ in 0..TRIES {
        actor.idle()?;
        if actor.fault == Fault::NoSecondLookOfCopies {
            actor.freeze_rounds_there();
        }
        let counts_on_rounds = actor.fault == Fault::CopyHitInRound;
        actor.lies_there().rounds_name_nothing(counts_on_rounds);
        match sync(&actor.store, &there, &selection, &|_| {}) {
            // Deleted and collected here while it was copied.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => drop(other?),
        }
        actor.lies_there().thaw_rounds();
    }
    Ok(())
}

/// Deletes here what the other store keeps from now on.
pub(super) fn evict(actor: &mut Actor) -> Result<()> {
    let there = actor.other().clone();
    let memory = Memory::default();
    for _ in 0..2 * TRIES {
        actor.idle()?;
        let Some(name) = some_checkpoint(actor)? else {
            continue;
        };
        if is_deleted(&actor.store, name)? {
            continue;
        }
        let is_kept = match actor.fault {
            Fault::LookBeforePin => look_then_pin(&there, name)?,
            _ => keep(&actor.store, &there, name, Timestamp(0))?,
        };
        if !is_kept {
            continue;
        }
        // From here on this is the only copy.
        actor.bank_there().rely(name);
        actor
            .store
            .write_tombstone(Tombstone::Deleted, &tombstone(name))?;
        let bound = TrashBound {
            checkpoints: actor.trash,
        };
        Collector::new(&actor.store, &memory, Timestamp(0))
            .keeping(0)
            .collect_trash(name.run, bound)?;
    }
    Ok(())
}

/// The faulty way: it looks, and then pins.
fn look_then_pin(there: &Store, name: CheckpointName) -> Result<bool> {
    let commit = there.read_commit(name.run, name.key)?;
    let is_committed = commit.is_some_and(|commit| commit.outcome == Outcome::Committed);
    if !is_committed || is_deleted(there, name)? {
        return Ok(false);
    }
    let pin = PinRecord {
        checkpoint: name,
        reason: "evicted".to_owned(),
        created: Timestamp(0),
        ttl_seconds: None,
    };
    there.write_pin(&format!("evicted-{}", name.key), &pin)?;
    Ok(true)
}
