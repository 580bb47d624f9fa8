//! Relying on a checkpoint without having its bytes: forks, bases, pins and undeletes are writers, too, and look again (W4).
//!
//! ```text
//! Reliance::begin (W1) ──▶ the checkpoint is not deleted ──▶ the record that names it (W3) ──▶ Reliance::check (W4)
//! ```
//!
//! The record is a root for every round that begins after it. A round that began before it is seen by `check`, which then looks at every chunk; one that was over before
//! `begin` had deleted what it would, and who comes after it finds the checkpoint deleted.

use runtree_core::manifest::{CheckpointName, ChunkRecord, Outcome};
use runtree_core::{CheckpointId, Error, Result};
use runtree_store::{Rounds, Store};

/// What was seen of collectors before a checkpoint was looked at.
#[derive(Debug)]
pub struct Reliance {
    seen: Rounds,
}

impl Reliance {
    /// Begins to rely on something (W1): before it is looked at.
    ///
    /// # Errors
    /// As the store says.
    pub fn begin(store: &Store) -> Result<Self> {
        store.list_rounds().map(|seen| Self { seen })
    }

    /// Looks again (W4), once the record that names the checkpoint is there. After an error the record is to be taken back.
    ///
    /// # Errors
    /// `Conflict` if a collector took something of it meanwhile; `Corrupt` if its manifests can not be read.
    pub fn check(&self, store: &Store, name: CheckpointName) -> Result<()> {
        let now = store.list_rounds()?;
        if self.seen.has_all_of(&now) {
            return Ok(());
        }
        let chunks = chunks_of(store, name)?;
        let lost = store.lost_chunks(&chunks, &now)?;
        if lost.is_empty() {
            return Ok(());
        }
        let id = CheckpointId::of(name.run, name.key);
        Err(Error::conflict(format!(
            "checkpoint {id} (step {} of run {}) was deleted meanwhile, and {} of its {} chunks are gone",
            name.key.step,
            name.run,
            lost.len(),
            chunks.len()
        ))
        .with_hint(format!("choose another one: runtree checkpoints {}", name.run)))
    }
}

/// Every chunk of a committed checkpoint, each once.
pub(super) fn chunks_of(store: &Store, name: CheckpointName) -> Result<Vec<ChunkRecord>> {
    let commit = store
        .read_commit(name.run, name.key)?
        .filter(|commit| commit.outcome == Outcome::Committed)
        .ok_or_else(|| {
            Error::not_found(format!(
                "checkpoint {} of run {} is not complete",
                name.key, name.run
            ))
        })?;
    let mut chunks = Vec::new();
    for part in &commit.parts {
        chunks.extend(store.read_committed_part(name.run, name.key, part)?.chunks);
    }
    chunks.sort_unstable_by_key(|chunk| chunk.hash);
    chunks.dedup_by_key(|chunk| chunk.hash);
    Ok(chunks)
}
