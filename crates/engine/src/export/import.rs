//! A directory as a checkpoint of a run that no process is training: a save by a tool, with a journal of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use runtree_core::event::Event;
use runtree_core::manifest::JournalPosition;
use runtree_core::{AttemptNumber, Error, Result, RunId, SaveKey, Step, WriterId, wire};
use runtree_store::JournalWriter;

use crate::engine::Engine;
use crate::save::{self, EntrySource, Owner, RunSaves, SaveRequest};

/// A tool that saves: its journal says that it was there, and what it saved.
struct Importer {
    engine: Arc<Engine>,
    run: RunId,
    attempt: AttemptNumber,
    saves: RunSaves,
    journal: Mutex<JournalWriter>,
}

impl Importer {
    fn with_journal<T>(&self, act: impl FnOnce(&mut JournalWriter) -> Result<T>) -> Result<T> {
        act(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Owner for Importer {
    fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn run(&self) -> RunId {
        self.run
    }

    fn attempt(&self) -> AttemptNumber {
        self.attempt
    }

    fn launch_key_is_random(&self) -> bool {
        true
    }

    fn saves(&self) -> &RunSaves {
        &self.saves
    }

    fn flush(&self) -> Result<JournalPosition> {
        self.with_journal(JournalWriter::sync)
    }

    fn known_fence(&self) -> Option<Error> {
        None
    }

    fn check_fence(&self) -> Result<()> {
        // A tool does not train: whoever launched since is not disturbed by what is brought in.
        Ok(())
    }

    fn saved(&self, key: SaveKey) {
        // A hint: without it the index finds the commit by itself.
        let _ = self.with_journal(|journal| journal.append_event(&Event::Saved { key }));
    }

    fn save_failed(&self, _key: SaveKey, _error: Error) {}
}

/// [`Engine::import_dir`].
pub(super) fn import_dir(
    engine: &Arc<Engine>,
    run: RunId,
    directory: &Path,
    step: Step,
    name: Option<String>,
) -> Result<wire::CheckpointInfo> {
    let store = engine.store();
    let attempt = store
        .list_attempts(run)?
        .into_iter()
        .max()
        .ok_or_else(|| Error::not_found(format!("run {run} has no launch in this store")))?;
    let clock = &engine.options.clock;
    let writer = WriterId::from_bits(engine.options.entropy.bits() as u64);
    let mut journal = JournalWriter::create(store, run, writer)?;
    journal.append_event(&Event::Opened {
        attempt: None,
        rank: 0,
        world_size: 1,
        at: clock.now(),
        process: std::iter::once(("tool".to_owned(), "import".to_owned())).collect(),
    })?;
    let importer = Arc::new(Importer {
        engine: Arc::clone(engine),
        run,
        attempt,
        saves: RunSaves::starting_at(next_k(engine, run, attempt, step)?),
        journal: Mutex::new(journal),
    });
    let owner: Arc<dyn Owner> = importer.clone();
    let request = SaveRequest {
        name,
        ..SaveRequest::of(vec![EntrySource::Directory(directory.to_owned())])
    };
    let pending = save::save(&owner, step, request)?;
    let saved = pending.wait(None);
    importer.with_journal(|journal| {
        journal.append_event(&Event::Closed { at: clock.now() })?;
        journal.sync().map(drop)
    })?;
    saved?;
    pending.result(None)
}

/// The first number that no save of this step in this attempt has: another process may have saved it.
fn next_k(engine: &Engine, run: RunId, attempt: AttemptNumber, step: Step) -> Result<u32> {
    let store = engine.store();
    let taken = store
        .list_commits(run)?
        .into_iter()
        .chain(store.list_pending(run)?);
    let highest = taken
        .filter(|key| (key.attempt, key.step) == (attempt, step))
        .map(|key| key.k)
        .max();
    Ok(highest.map_or(0, |k| k + 1))
}
