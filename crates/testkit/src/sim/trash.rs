//! Who deletes, who takes back, and who gives up what others did not finish.

use runtree_core::manifest::{CheckpointName, TombstoneRecord};
use runtree_core::{ErrorKind, Result, Timestamp, WriterId};
use runtree_engine::TrashBound;
use runtree_engine::gc::{Collector, Memory, undelete as take_back};
use runtree_store::Tombstone;

use super::Fault;
use super::saver::some_checkpoint;
use super::world::Actor;

/// Checkpoints that somebody deletes, or takes back.
const TRIES: usize = 8;

/// Deletes checkpoints, and frees what leaves the trash, as a run that prunes.
pub(super) fn delete(actor: &mut Actor) -> Result<()> {
    let memory = Memory::default();
    for _ in 0..tries(actor) {
        actor.idle()?;
        let Some(name) = some_checkpoint(actor)? else {
            continue;
        };
        actor
            .store
            .write_tombstone(Tombstone::Deleted, &tombstone(name))?;
        if actor.fault == Fault::IntentsLate {
            // Somebody else collects.
            continue;
        }
        let bound = TrashBound {
            checkpoints: actor.trash,
        };
        Collector::new(&actor.store, &memory, Timestamp(0))
            .keeping(0)
            .collect_trash(name.run, bound)?;
    }
    Ok(())
}

/// Takes checkpoints out of the trash.
pub(super) fn undelete(actor: &mut Actor) -> Result<()> {
    for number in 0..tries(actor) {
        if actor.fault != Fault::IntentsLate {
            actor.idle()?;
        }
        let Some(name) = some_checkpoint(actor)? else {
            continue;
        };
        let holder = WriterId::from_bits(number as u64);
        let done = match actor.fault {
            Fault::NoIntent => without_intent(actor, name),
            _ => take_back(&actor.store, name, holder, Timestamp(0)).map(drop),
        };
        match done {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is rare is tried more often.
fn tries(actor: &Actor) -> usize {
    if actor.fault == Fault::IntentsLate {
        8 * TRIES
    } else {
        TRIES
    }
}

/// Gives up saves that are not decided.
pub(super) fn reclaim(actor: &mut Actor) -> Result<()> {
    for _ in 0..TRIES {
        actor.idle()?;
        for run in actor.runs.clone() {
            for key in actor.store.list_pending(run)? {
                actor.store.abandon(run, key)?;
            }
        }
    }
    Ok(())
}

pub(super) fn tombstone(checkpoint: CheckpointName) -> TombstoneRecord {
    TombstoneRecord {
        checkpoint,
        reason: "a simulation".to_owned(),
        created: Timestamp(0),
    }
}

/// The faulty way: it looks, and then says so.
fn without_intent(actor: &Actor, name: CheckpointName) -> Result<()> {
    let store = &actor.store;
    let rounds = store.list_rounds()?;
    let mut chunks = Vec::new();
    let commit = store.read_commit(name.run, name.key)?;
    for part in commit.into_iter().flat_map(|commit| commit.parts) {
        chunks.extend(store.read_committed_part(name.run, name.key, &part)?.chunks);
    }
    if store.lost_chunks(&chunks, &rounds)?.is_empty() {
        store.write_tombstone(Tombstone::Restored, &tombstone(name))?;
    }
    Ok(())
}
