//! What is said about runs and checkpoints after the fact: names, notes, tags, pins, deletion.
//!
//! What concerns a run's fields is an event in a journal of its own (a command is a writer, too), with a Lamport count above all that
//! is known, so that the later word wins wherever journals are read. Pins and tombstones are objects. Nothing is ever rewritten, and
//! deleting a run hides it: children keep what they show.

use std::collections::BTreeMap;

use runtree_core::event::{Event, Lamport, RunStatus};
use runtree_core::manifest::{CheckpointName, PinRecord, TombstoneRecord};
use runtree_core::retention::Protection;
use runtree_core::{AttemptNumber, CheckpointId, Error, ErrorKind, Result, RunId, Step};
use runtree_store::{JournalWriter, Tombstone};
use serde_json::Value;

use crate::engine::Engine;
use crate::gc::Reliance;

/// What to say about a run; what is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// A new name.
    pub name: Option<String>,
    /// New notes; empty removes them.
    pub notes: Option<String>,
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
    /// Config keys to set, deep-merged.
    pub config_patch: Option<Value>,
    /// A status, and why.
    pub status: Option<(RunStatus, Option<String>)>,
}

impl Engine {
    /// Says something about a run. Durable when it returns.
    ///
    /// # Errors
    /// `NotFound` if the run is not there; `Invalid` if the name or the config patch can not be one, or the status is none that is set.
    pub fn annotate(&self, run: RunId, annotation: Annotation) -> Result<()> {
        let mut lamport = self.next_lamport(run)?;
        let mut events = Vec::new();
        let mut next = || {
            let now = Lamport(lamport);
            lamport += 1;
            now
        };
        if let Some(name) = annotation.name {
            crate::runs::check_name(&name)?;
            events.push(Event::Name {
                lamport: next(),
                name,
            });
        }
        if let Some(notes) = annotation.notes {
            events.push(Event::Notes {
                lamport: next(),
                notes,
            });
        }
        if !annotation.add_tags.is_empty() || !annotation.remove_tags.is_empty() {
            events.push(Event::Tags {
                lamport: next(),
                add: annotation.add_tags,
                remove: annotation.remove_tags,
            });
        }
        if let Some(patch) = annotation.config_patch {
            crate::runs::config::require_object(&patch)?;
            events.push(Event::Config {
                lamport: next(),
                patch,
            });
        }
        if let Some((status, reason)) = annotation.status {
            if matches!(status, RunStatus::Running | RunStatus::Created) {
                return Err(Error::invalid(format!(
                    "the status {} is a run's own to say; set completed, failed, stopped or lost",
                    status.as_str()
                )));
            }
            events.push(Event::Status {
                lamport: next(),
                attempt: None,
                status,
                reason,
                at: self.now(),
            });
        }
        self.write_events(run, &events)
    }

    /// Gives metric values and tags to a checkpoint.
    ///
    /// # Errors
    /// `NotFound` if the checkpoint is not there.
    pub fn annotate_checkpoint(
        &self,
        checkpoint: CheckpointName,
        metrics: BTreeMap<String, f64>,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
    ) -> Result<()> {
        self.require_checkpoint(checkpoint)?;
        let lamport = self.next_lamport(checkpoint.run)?;
        let key = checkpoint.key;
        let mut events = Vec::new();
        if !metrics.is_empty() {
            events.push(Event::CheckpointMetrics {
                lamport: Lamport(lamport),
                key,
                metrics,
            });
        }
        if !add_tags.is_empty() || !remove_tags.is_empty() {
            events.push(Event::CheckpointTags {
                lamport: Lamport(lamport + 1),
                key,
                add: add_tags,
                remove: remove_tags,
            });
        }
        self.write_events(checkpoint.run, &events)
    }

    /// Keeps a checkpoint whatever retention says.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` if it is in the trash, or left it while it was being pinned.
    pub fn pin(&self, checkpoint: CheckpointName, reason: &str) -> Result<()> {
        self.require_writable()?;
        let reliance = Reliance::begin(&self.store)?;
        self.require_forkable(checkpoint)?;
        let record = PinRecord {
            checkpoint,
            reason: reason.to_owned(),
            created: self.now(),
            ttl_seconds: None,
        };
        self.store.write_pin(&pin_name(checkpoint), &record)?;
        if let Err(lost) = reliance.check(&self.store, checkpoint) {
            self.store.delete_pin(&pin_name(checkpoint))?;
            return Err(lost);
        }
        self.refresh_now()
    }

    /// Takes the pin back. If a user has none on it, then those of stores that deleted it because it is here: whoever says so knows that there may be no other copy.
    ///
    /// # Errors
    /// `NotFound` if there is none; a lease is none.
    pub fn unpin(&self, checkpoint: CheckpointName) -> Result<()> {
        self.require_writable()?;
        let own = pin_name(checkpoint);
        let mut found = Vec::new();
        for pin in self.store.list_pins()? {
            let Some(name) = pin.name() else { continue };
            if name == own {
                // By its name alone: a damaged one is taken back like any other.
                found = vec![own];
                break;
            }
            match self.store.read_pin(&pin) {
                Ok(record) if record.checkpoint == checkpoint && record.ttl_seconds.is_none() => {
                    found.push(name);
                }
                Ok(_) => {}
                // Taken back meanwhile; or damaged, and then nobody knows whose it is: `verify` says that.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {}
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() {
            return Err(Error::not_found(format!(
                "checkpoint {} of run {} is not pinned",
                checkpoint.key, checkpoint.run
            )));
        }
        for name in &found {
            self.store.delete_pin(name)?;
        }
        self.refresh_now()
    }

    /// Hides a run. Its checkpoints and points stay; children keep what they show.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_run(&self, run: RunId) -> Result<()> {
        self.set_deleted(run, true)
    }

    /// Brings a deleted run back.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn undelete_run(&self, run: RunId) -> Result<()> {
        self.set_deleted(run, false)
    }

    fn set_deleted(&self, run: RunId, deleted: bool) -> Result<()> {
        let lamport = Lamport(self.next_lamport(run)?);
        let at = self.now();
        self.write_events(
            run,
            &[Event::Deleted {
                lamport,
                deleted,
                at,
            }],
        )
    }

    /// Puts a checkpoint into the trash. Once there already, it stays there. What a fork or a base needs keeps its bytes there.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is pinned or leased.
    pub fn delete_checkpoint(&self, checkpoint: CheckpointName, reason: &str) -> Result<()> {
        self.require_checkpoint(checkpoint)?;
        for protection in self.pins_of(checkpoint)? {
            let what = match protection {
                Protection::Pinned { reason } => format!("pinned: {reason}"),
                Protection::Leased { reason } => format!("leased: {reason}"),
                Protection::ForkedBy(_) | Protection::BaseOf(_) => continue,
            };
            return Err(Error::conflict(format!(
                "checkpoint {} of run {} is {what}",
                checkpoint.key, checkpoint.run
            ))
            .with_hint("runtree unpin it first; a lease lapses when its holder is gone"));
        }
        self.bury(checkpoint, reason)
    }

    /// Takes a checkpoint out of the trash.
    ///
    /// # Errors
    /// `NotFound` if it never was there, or its bytes are gone.
    pub fn undelete_checkpoint(&self, checkpoint: CheckpointName) -> Result<()> {
        self.require_checkpoint(checkpoint)?;
        crate::gc::undelete(&self.store, checkpoint, self.new_writer_id(), self.now())?;
        self.refresh_known(checkpoint.run)
    }

    fn bury(&self, checkpoint: CheckpointName, reason: &str) -> Result<()> {
        let record = TombstoneRecord {
            checkpoint,
            reason: reason.to_owned(),
            created: self.now(),
        };
        self.store.write_tombstone(Tombstone::Deleted, &record)?;
        self.refresh_known(checkpoint.run)
    }

    /// Takes a run back to a step, outside a process: a new attempt whose base is there. The next launch that resumes continues from
    /// it; a process that is alive is fenced.
    ///
    /// # Errors
    /// `Invalid` with the range, if the step is not in the run's own history.
    pub fn rewind(&self, run: RunId, step: Step) -> Result<AttemptNumber> {
        self.require_writable()?;
        let record = self.store.read_run(run)?;
        let key = self.random_launch_key();
        let attempt = self.create_rewind(&record, step, &key)?;
        // Nobody runs it until it is launched again; without a word it would look like a launch that is under way.
        let waits = format!("rewound to step {step}; the next launch continues there");
        self.annotate(
            run,
            Annotation {
                status: Some((RunStatus::Stopped, Some(waits))),
                ..Annotation::default()
            },
        )?;
        Ok(attempt.attempt)
    }

    fn next_lamport(&self, run: RunId) -> Result<u64> {
        self.require_writable()?;
        self.store.read_run(run)?;
        Ok(self.current_lamport(run)? + 1)
    }

    /// A checkpoint that was committed, in the trash or not.
    fn require_checkpoint(&self, checkpoint: CheckpointName) -> Result<()> {
        self.require_writable()?;
        if self
            .store
            .read_commit(checkpoint.run, checkpoint.key)?
            .is_some_and(|commit| commit.outcome == runtree_core::manifest::Outcome::Committed)
        {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "checkpoint {} of run {} is not in this store",
            checkpoint.key, checkpoint.run
        )))
    }

    /// A journal of its own for a few words: opened, written, closed, durable.
    fn write_events(&self, run: RunId, events: &[Event]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut journal = JournalWriter::create(&self.store, run, self.new_writer_id())?;
        journal.append_event(&Event::Opened {
            attempt: None,
            rank: 0,
            world_size: 1,
            at: self.now(),
            process: BTreeMap::new(),
        })?;
        for event in events {
            journal.append_event(event)?;
        }
        journal.append_event(&Event::Closed { at: self.now() })?;
        journal.sync()?;
        self.refresh_known(run)
    }
}

/// The name of the user's pin of a checkpoint: its id, so that pinning twice is one pin.
fn pin_name(checkpoint: CheckpointName) -> String {
    CheckpointId::of(checkpoint.run, checkpoint.key).to_string()
}
