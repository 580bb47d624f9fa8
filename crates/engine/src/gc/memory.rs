//! What a process remembers of immutable objects, so that the next collection reads only what is new.
//!
//! Names are listed each time; only contents are remembered, and only of objects that are never rewritten. So nothing here can be out of date.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtree_core::{AttemptNumber, Result, RunId};
use runtree_store::Store;

use super::roots::Reference;

/// What was read so far. Shared by all collections of an engine.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Contents>);

/// The contents of immutable objects.
#[derive(Debug, Default)]
pub(super) struct Contents {
    births: HashMap<RunId, Vec<Reference>>,
    attempts: HashMap<(RunId, AttemptNumber), Option<Reference>>,
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
            let key = (run, attempt);
            let known = match self.attempts.get(&key) {
                Some(known) => *known,
                None => {
                    let record = store.read_attempt(run, attempt)?;
                    let reference = Reference::of_attempt(&record);
                    self.attempts.insert(key, reference);
                    reference
                }
            };
            found.extend(known.filter(|reference| !found.contains(reference)));
        }
        Ok(found)
    }
}
