//! Who saves without training: a tool, with a journal of its own that says that it was there and what it saved.

use std::sync::{Arc, Mutex, PoisonError};

use runtree_core::event::Event;
use runtree_core::manifest::{AttemptRecord, JournalPosition};
use runtree_core::{AttemptNumber, Error, Result, RunId, SaveKey};
use runtree_store::JournalWriter;

use super::StagingUse;
use super::commit::Owner;
use super::committer::RunSaves;
use crate::engine::Engine;

/// A tool that saves.
pub(crate) struct Tool {
    engine: Arc<Engine>,
    run: RunId,
    attempt: AttemptNumber,
    saves: RunSaves,
    journal: Mutex<JournalWriter>,
    /// Whom it saves for, and how far that one's journal was.
    absent: Option<(AttemptRecord, JournalPosition)>,
    _staging: StagingUse,
}

impl Tool {
    /// Opens the journal of a tool called `name`.
    ///
    /// # Errors
    /// As the store says.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        run: RunId,
        attempt: AttemptNumber,
        saves: RunSaves,
        name: &str,
    ) -> Result<Self> {
        let mut journal = JournalWriter::create(engine.store(), run, engine.new_writer_id())?;
        journal.append_event(&Event::Opened {
            attempt: None,
            rank: 0,
            world_size: 1,
            at: engine.now(),
            process: std::iter::once(("tool".to_owned(), name.to_owned())).collect(),
        })?;
        // Whoever looks who has written to the run sees that this is a tool.
        journal.sync()?;
        Ok(Self {
            engine: Arc::clone(engine),
            run,
            attempt,
            saves,
            journal: Mutex::new(journal),
            absent: None,
            _staging: engine.saver().enter(),
        })
    }

    /// The same in the place of a process that is gone, whose journal is durable up to `position`: as it would, it commits nothing once the run continues elsewhere.
    pub(crate) fn in_place_of(self, launch: AttemptRecord, position: JournalPosition) -> Self {
        Self {
            absent: Some((launch, position)),
            ..self
        }
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// As the disk says.
    pub(crate) fn close(&self) -> Result<()> {
        let at = self.engine.now();
        self.with_journal(|journal| {
            journal.append_event(&Event::Closed { at })?;
            journal.sync().map(drop)
        })
    }

    fn with_journal<T>(&self, act: impl FnOnce(&mut JournalWriter) -> Result<T>) -> Result<T> {
        act(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Owner for Tool {
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
        let own = self.with_journal(JournalWriter::sync)?;
        Ok(self.absent.as_ref().map_or(own, |(_, position)| *position))
    }

    fn known_fence(&self) -> Option<Error> {
        None
    }

    fn check_fence(&self) -> Result<()> {
        // What a tool brings in of its own disturbs no launch.
        let newer = self
            .absent
            .as_ref()
            .and_then(|(launch, _)| self.engine.find_rival(launch));
        newer.map_or(Ok(()), |newer| {
            Err(Error::conflict(format!(
                "the run continues elsewhere as attempt {newer}"
            )))
        })
    }

    fn is_last_hope(&self) -> bool {
        // What somebody who is gone had staged stays where it is if it can not be written.
        self.absent.is_none()
    }

    fn saved(&self, key: SaveKey, _: bool) {
        // A hint: without it the index finds the commit by itself.
        let _ = self.with_journal(|journal| journal.append_event(&Event::Saved { key }));
    }

    fn save_failed(&self, _key: SaveKey, _error: Error) {}
}
