//! What a process remembers of immutable objects, so that the next collection reads only what is new.
//!
//! Names are listed each time; only contents are remembered, and only of objects that are never rewritten. So nothing here can be out of date.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtree_core::manifest::{CheckpointName, CommittedPart, Outcome};
use runtree_core::{
    AttemptNumber, ComponentName, Error, ErrorKind, Result, RunId, Timestamp, WriterId,
};
use runtree_store::{ObjectPath, OutlinedChunk, Store, layout};

use super::journals::Journaled;
use super::needed::{Prefix, prefix};
use super::roots::Reference;

/// Chunks that are remembered, of all checkpoints together: 96 MiB. What is more is read again.
const MAX_CHUNKS: usize = 8 << 20;

/// What was read so far. Shared by all collections of an engine.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Contents>);

/// The chunks of one checkpoint, of one pending part, or of one list of files.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pub(super) hashes: Vec<Prefix>,
    /// Raw bytes of each; a chunk has fewer than 2^32.
    pub(super) bytes: Vec<u32>,
}

impl Chunks {
    fn extend(&mut self, chunks: &[OutlinedChunk]) {
        for chunk in chunks {
            self.hashes.push(prefix(&chunk.hash));
            self.bytes
                .push(u32::try_from(chunk.bytes).unwrap_or(u32::MAX));
        }
    }
}

/// Whose chunks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Checkpoint(CheckpointName),
    Part(CheckpointName, ComponentName, u32),
    Files(RunId, WriterId, u64),
}

/// The contents of immutable objects.
#[derive(Debug, Default)]
pub(super) struct Contents {
    births: HashMap<RunId, Vec<Reference>>,
    attempts: HashMap<(RunId, AttemptNumber), Option<Reference>>,
    /// The parts of decided saves; none if one was given up.
    decided: HashMap<CheckpointName, Option<Arc<[CommittedPart]>>>,
    chunks: HashMap<Holder, Arc<Chunks>>,
    /// Chunks in `chunks`.
    count: usize,
    /// When a tombstone was written.
    buried: HashMap<(CheckpointName, u64), Timestamp>,
    /// Deleted checkpoints, by their tombstones, of which a collection left nothing that only they need.
    pub(super) collected: HashSet<(CheckpointName, u64)>,
    /// Decisions that were made durable here: tombstones, and commits that give a save up.
    pub(super) durable: HashSet<ObjectPath>,
    pub(super) journaled: Journaled,
}

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// The checkpoints of other runs that a run's birth and its launches name.
    pub(super) fn references_of(&mut self, store: &Store, run: RunId) -> Result<Vec<Reference>> {
        if !self.births.contains_key(&run)
            && let Some(record) = store.try_read_run(run)?
        {
            self.births.insert(run, Reference::of_run(&record));
        }
        let mut found = self.births.get(&run).cloned().unwrap_or_default();
        for attempt in store.list_attempts(run)? {
            let known = match self.attempts.entry((run, attempt)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => {
                    let record = store.read_attempt(run, attempt)?;
                    *place.insert(Reference::of_attempt(&record))
                }
            };
            found.extend(known.filter(|reference| !found.contains(reference)));
        }
        Ok(found)
    }

    /// The parts of a save whose commit was listed; none if it was given up.
    pub(super) fn decided(
        &mut self,
        store: &Store,
        name: CheckpointName,
    ) -> Result<Option<Arc<[CommittedPart]>>> {
        if let Some(known) = self.decided.get(&name) {
            return Ok(known.clone());
        }
        let record = store.read_commit(name.run, name.key)?.ok_or_else(|| {
            Error::corrupt(format!(
                "{} was there and is not any more",
                layout::commit(name.run, name.key)
            ))
        })?;
        let parts = (record.outcome == Outcome::Committed).then(|| Arc::from(record.parts));
        self.decided.insert(name, parts.clone());
        Ok(parts)
    }

    /// The chunks of a committed checkpoint.
    pub(super) fn chunks_of(
        &mut self,
        store: &Store,
        name: CheckpointName,
        parts: &[CommittedPart],
    ) -> Result<Arc<Chunks>> {
        self.remember(Holder::Checkpoint(name), |chunks| {
            for part in parts {
                let who = (&part.component, part.rank);
                let read = store.read_part_chunks(name.run, name.key, who, Some(part.hash));
                chunks.extend(&read.map_err(|error| unknown(name, error))?);
            }
            Ok(())
        })
    }

    /// The chunks of a part that is not committed.
    pub(super) fn chunks_of_part(
        &mut self,
        store: &Store,
        name: CheckpointName,
        component: &ComponentName,
        rank: u32,
    ) -> Result<Arc<Chunks>> {
        self.remember(Holder::Part(name, component.clone(), rank), |chunks| {
            let read = store.read_part_chunks(name.run, name.key, (component, rank), None);
            chunks.extend(&read.map_err(|error| unknown(name, error))?);
            Ok(())
        })
    }

    /// The chunks that a list of files names.
    pub(super) fn chunks_of_files(
        &mut self,
        store: &Store,
        run: RunId,
        (writer, number): (WriterId, u64),
    ) -> Result<Arc<Chunks>> {
        self.remember(Holder::Files(run, writer, number), |chunks| {
            let hashes = store.read_file_list(run, writer, number)?;
            chunks.hashes = hashes.iter().map(prefix).collect();
            Ok(())
        })
    }

    fn remember(
        &mut self,
        holder: Holder,
        read: impl FnOnce(&mut Chunks) -> Result<()>,
    ) -> Result<Arc<Chunks>> {
        if let Some(known) = self.chunks.get(&holder) {
            return Ok(Arc::clone(known));
        }
        let mut chunks = Chunks::default();
        read(&mut chunks)?;
        chunks.hashes.shrink_to_fit();
        chunks.bytes.shrink_to_fit();
        let chunks = Arc::new(chunks);
        if self.count + chunks.hashes.len() > MAX_CHUNKS {
            self.chunks.clear();
            self.count = 0;
        }
        self.count += chunks.hashes.len();
        self.chunks.insert(holder, Arc::clone(&chunks));
        Ok(chunks)
    }

    /// When the store stamped a tombstone.
    pub(super) fn buried_at(
        &mut self,
        store: &Store,
        name: CheckpointName,
        index: u64,
    ) -> Result<Timestamp> {
        if let Some(known) = self.buried.get(&(name, index)) {
            return Ok(*known);
        }
        let path = layout::tombstone(name.run, name.key, index);
        let stamp = store
            .stamp(&path)?
            .ok_or_else(|| Error::corrupt(format!("{path} was there and is not any more")))?;
        self.buried.insert((name, index), stamp);
        Ok(stamp)
    }
}

/// What is needed can not be told, so nothing may be deleted.
fn unknown(name: CheckpointName, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) {
        return error;
    }
    let id = runtree_core::CheckpointId::of(name.run, name.key);
    Error::corrupt(format!(
        "what checkpoint {id} needs can not be told, so nothing is deleted"
    ))
    .with_hint(format!(
        "put the object back from a copy of the store, or give the checkpoint up: runtree delete {id}"
    ))
    .with_source(error)
}
