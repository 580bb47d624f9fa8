//! Everything a live run says besides saving: points, console, config, tags, files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runtree_core::event::{Event, Lamport};
use runtree_core::manifest::JournalPosition;
use runtree_core::media::AlertLevel;
use runtree_core::{Error, Result, Step, Timestamp};
use serde_json::Value;

use super::front::Pushed;
use super::{RunWriter, WarningKind, lock};

/// How long `flush` waits for the thread before it says that the disk does not answer.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);

/// Longest title and text of an alert; the rest is cut off.
const MAX_TITLE_BYTES: usize = 256;
const MAX_ALERT_BYTES: usize = 16 << 10;

/// At most so many bytes of a text, whole characters, with a mark where it was cut.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

impl RunWriter {
    /// Logs values of one step. Without a step: the next. With `commit == false` they are kept until the next call with `true`.
    ///
    /// Never waits for a disk. Off the ranks that log it does nothing, said once.
    ///
    /// # Errors
    /// `Invalid` for the first step below the start of the run; later ones are dropped, counted, and warned of once.
    pub fn log(
        &self,
        step: Option<Step>,
        timestamp: Option<Timestamp>,
        values: &[(&str, f64)],
        commit: bool,
    ) -> Result<()> {
        let shared = &*self.shared;
        if !shared.logs() {
            shared.warn(
                WarningKind::OffRank,
                format!(
                    "log on rank {} does nothing; pass log_ranks=\"all\" to keep a series per rank",
                    shared.rank
                ),
            );
            return Ok(());
        }
        let timestamp = timestamp.unwrap_or_else(|| shared.engine.now());
        let pushed = lock(&shared.front).log(step, timestamp, values, commit)?;
        self.after_push(pushed, step)
    }

    pub(super) fn after_push(&self, pushed: Pushed, step: Option<Step>) -> Result<()> {
        let shared = &*self.shared;
        match pushed {
            Pushed::Kept => {}
            Pushed::KeptMuch => shared.wake.notify_one(),
            Pushed::FirstBelow(first) => {
                let step = step.unwrap_or(first.previous());
                return Err(Error::invalid(format!(
                    "step {step} lies below the start of run {}, which is {first}",
                    shared.record.display_id
                ))
                .with_hint(
                    "history below the fork step is the parent's; fork earlier to log it anew",
                ));
            }
            Pushed::Below => shared.warn(
                WarningKind::BelowStart,
                format!(
                    "points below the start of run {} are dropped",
                    shared.record.display_id
                ),
            ),
            Pushed::Full => shared.warn(
                WarningKind::QueueFull,
                "the disk is slower than log: new points are dropped and counted",
            ),
        }
        Ok(())
    }

    /// Logs values of the machine. Their step is milliseconds since the run's birth, so that launches follow each other.
    pub fn log_system(&self, timestamp: Option<Timestamp>, values: &[(&str, f64)]) -> Result<()> {
        let shared = &*self.shared;
        let timestamp = timestamp.unwrap_or_else(|| shared.engine.now());
        let step = Step(timestamp.micros_since(shared.record.created) / 1000);
        let rank = (shared.world_size > 1).then_some(shared.rank);
        let pushed = lock(&shared.front).log_system(step, timestamp, values, rank)?;
        self.after_push(pushed, Some(step))
    }

    /// Keeps lines of the console. Dropped, with a warning, if the disk is too slow.
    pub fn console(&self, stream: &str, lines: Vec<String>) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let event = Event::Console {
            stream: stream.to_owned(),
            at: self.shared.engine.now(),
            lines,
        };
        if !lock(&self.shared.front).push_bounded(event) {
            self.warn(
                WarningKind::QueueFull,
                "the disk is slower than the console: lines are dropped",
            );
        }
        Ok(())
    }

    /// Says something that somebody should see. Dropped, with a warning, if the disk is too slow.
    ///
    /// # Errors
    /// `Invalid` without a title.
    pub fn alert(&self, title: &str, text: &str, level: AlertLevel) -> Result<()> {
        if title.trim().is_empty() {
            return Err(Error::invalid("an alert has a title"));
        }
        let mut front = lock(&self.shared.front);
        let alert = Event::Alert {
            title: cut(title, MAX_TITLE_BYTES),
            text: cut(text, MAX_ALERT_BYTES),
            level,
            step: front.last_step(),
            at: self.shared.engine.now(),
        };
        if !front.push_bounded(alert) {
            drop(front);
            self.warn(
                WarningKind::QueueFull,
                "the disk is slower than the alerts: some are dropped",
            );
        }
        Ok(())
    }

    /// Adds what was found out about this process after it began.
    pub fn add_process_facts(&self, facts: BTreeMap<String, String>) {
        self.push_event(Event::Environment {
            facts,
            at: self.shared.engine.now(),
        });
    }

    /// Attaches bytes as a file; they are durable when this returns.
    ///
    /// # Errors
    /// `Unavailable` if they can not be stored.
    pub fn log_file_bytes(&self, name: &str, bytes: bytes::Bytes) -> Result<()> {
        let engine = &self.shared.engine;
        let (bytes, chunks) = engine.put_bytes(bytes, &self.shared.files)?;
        self.push_event(Event::File {
            name: name.to_owned(),
            bytes,
            chunks,
            at: engine.now(),
        });
        self.flush().map(|_| ())
    }

    /// Sets config keys, deep-merged.
    ///
    /// # Errors
    /// `Invalid` if the patch is not an object.
    pub fn update_config(&self, patch: Value) -> Result<()> {
        if !patch.is_object() {
            return Err(Error::invalid("a config is an object with string keys"));
        }
        let lamport = self.next_lamport();
        self.push_event(Event::Config { lamport, patch });
        Ok(())
    }

    /// Adds tags.
    pub fn add_tags(&self, tags: Vec<String>) -> Result<()> {
        self.change_tags(tags, Vec::new());
        Ok(())
    }

    /// Removes tags.
    pub fn remove_tags(&self, tags: Vec<String>) -> Result<()> {
        self.change_tags(Vec::new(), tags);
        Ok(())
    }

    fn change_tags(&self, add: Vec<String>, remove: Vec<String>) {
        let lamport = self.next_lamport();
        self.push_event(Event::Tags {
            lamport,
            add,
            remove,
        });
    }

    /// Renames the run.
    ///
    /// # Errors
    /// `Invalid` if it can not be a name.
    pub fn set_name(&self, name: &str) -> Result<()> {
        crate::runs::check_name(name)?;
        let lamport = self.next_lamport();
        self.push_event(Event::Name {
            lamport,
            name: name.to_owned(),
        });
        Ok(())
    }

    /// Sets the notes.
    pub fn set_notes(&self, notes: &str) -> Result<()> {
        let lamport = self.next_lamport();
        self.push_event(Event::Notes {
            lamport,
            notes: notes.to_owned(),
        });
        Ok(())
    }

    /// One more than what this process used and what the index has seen of others, so that a later word wins wherever it is said.
    pub(crate) fn next_lamport(&self) -> Lamport {
        let run = self.run();
        let seen = self.shared.engine.current_lamport(run);
        let seen = seen.unwrap_or_else(|error| {
            self.warn(
                WarningKind::Index,
                format!("the index is not up to date: {}", error.chain()),
            );
            0
        });
        lock(&self.shared.front).next_lamport(seen)
    }

    /// Attaches a file; its bytes are durable when this returns.
    ///
    /// # Errors
    /// `NotFound` or `Unavailable` if it can not be read or stored.
    pub fn log_file(&self, path: &Path, name: Option<&str>) -> Result<()> {
        let engine = &self.shared.engine;
        let name = match name {
            Some(name) => name.to_owned(),
            None => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .ok_or_else(|| Error::invalid(format!("{} has no file name", path.display())))?,
        };
        let (bytes, chunks) = engine.put_file(path, &self.shared.files)?;
        self.push_event(Event::File {
            name,
            bytes,
            chunks,
            at: engine.now(),
        });
        self.flush().map(|_| ())
    }

    /// Waits until everything logged before is durable.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses or does not answer; what was logged waits in memory and is tried again.
    pub fn flush(&self) -> Result<JournalPosition> {
        if !self.is_owner_process() {
            return Err(Error::conflict(
                "the run belongs to the parent process; a forked child can not write to it",
            ));
        }
        let shared = &*self.shared;
        let deadline = std::time::Instant::now() + FLUSH_PATIENCE;
        // Their events come after their bytes: a flush that did not wait for those would leave what was logged before it out.
        if let Err(failed) = shared.media.drain(Some(deadline)) {
            return Err(Error::unavailable(format!(
                "media can not be stored: {failed}"
            )));
        }
        let ticket = {
            let mut front = lock(&shared.front);
            front.asked += 1;
            front.asked
        };
        shared.wake.notify_one();
        let mut durable = lock(&shared.durable);
        while durable.answered < ticket && !durable.ended {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable(
                    "the disk has not answered for a minute; metrics wait in memory",
                ));
            }
            durable = shared
                .flushed
                .wait_timeout(durable, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        if let Some(failed) = &durable.failed {
            return Err(Error::unavailable(format!(
                "metrics can not be written: {failed}"
            )));
        }
        durable
            .position
            .ok_or_else(|| Error::internal("a flush left no journal position"))
    }
}
