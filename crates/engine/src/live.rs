//! The live run of a process: what `init` returns. `log` never waits for a disk; one thread writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runtree_core::event::RunStatus;
use runtree_core::manifest::{AttemptRecord, CheckpointName, JournalPosition, RunRecord};
use runtree_core::{AttemptNumber, DisplayId, Error, Result, RunId, Step, Timestamp};
use serde_json::Value;

/// Something the user should see once.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// What kind of thing.
    pub kind: WarningKind,
    /// In words.
    pub message: String,
}

/// Kinds of warnings: each is shown once per run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WarningKind {
    /// Points below the start of the run were dropped.
    BelowStart,
    /// Points were dropped because the disk is too slow.
    QueueFull,
    /// The disk refused.
    Storage,
    /// The run continues elsewhere.
    Fenced,
    /// The fork step has no checkpoint of its own.
    ForkGap,
    /// The owner of the fork step is not the declared parent.
    Owner,
    /// `log` on a rank that does not log.
    OffRank,
    /// A damaged checkpoint was passed over.
    Damaged,
    /// The index could not be brought up to date.
    Index,
    /// A save did not become durable.
    Save,
}

/// How the writer is doing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Health {
    /// Bytes waiting to be written.
    pub queued_bytes: u64,
    /// Points dropped, per metric.
    pub dropped_points: BTreeMap<String, u64>,
    /// Saves that are not durable yet.
    pub pending_saves: u64,
    /// Saves that failed.
    pub failed_saves: u64,
    /// Time of the last durable flush.
    pub last_flush: Option<Timestamp>,
    /// What the disk said last, if it refuses.
    pub storage_error: Option<String>,
    /// The newer launch that took the run over.
    pub fenced_by: Option<AttemptNumber>,
    /// Every warning so far.
    pub warnings: Vec<Warning>,
}

/// What `finish` leaves behind.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct FinishReport {
    /// Display id.
    pub display_id: String,
    /// The status that was written.
    pub status: RunStatus,
    /// Last step this launch logged.
    pub last_step: Option<Step>,
    /// Points that were dropped, per metric.
    pub dropped_points: BTreeMap<String, u64>,
    /// Saves that are durable.
    pub saves: u64,
    /// Every warning of this process.
    pub warnings: Vec<Warning>,
}

/// The live run of this process.
#[derive(Debug)]
pub struct RunWriter {
    pub(crate) engine: std::sync::Arc<crate::engine::Engine>,
    /// The saves of this process: `finish` drains them, health counts them.
    pub(crate) saves: crate::save::RunSaves,
    record: RunRecord,
    attempt_record: AttemptRecord,
}

impl RunWriter {
    /// The run.
    pub fn run(&self) -> RunId {
        self.record.run
    }

    /// This launch.
    pub fn attempt(&self) -> AttemptNumber {
        self.attempt_record.attempt
    }

    /// Display id.
    pub fn display_id(&self) -> &DisplayId {
        &self.record.display_id
    }

    /// The birth record.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// The launch's record.
    pub fn attempt_record(&self) -> AttemptRecord {
        self.attempt_record.clone()
    }

    /// Whether nothing but chance names this launch: no other process can be part of it.
    pub(crate) fn launch_key_is_random(&self) -> bool {
        true
    }

    /// Journals that a commit was written: a hint for the index.
    pub(crate) fn note_saved(&self, key: runtree_core::SaveKey) {
        let _ = key;
    }

    /// Warns the user, once per kind and text.
    pub(crate) fn warn(&self, kind: WarningKind, message: String) {
        let _ = (kind, message);
    }

    /// Whether this process made the writer; a forked child's copy does nothing.
    pub fn is_owner_process(&self) -> bool {
        true
    }

    /// The step that `log` without a step takes next.
    pub fn next_step(&self) -> Step {
        Step(0)
    }

    /// The last step logged here, else the last inherited one.
    pub fn last_step(&self) -> Option<Step> {
        None
    }

    /// The checkpoint that this launch starts from, the same on all ranks.
    pub fn resumed_from(&self) -> Option<CheckpointName> {
        self.attempt_record.checkpoint
    }

    /// Warnings that were not taken yet.
    pub fn take_warnings(&self) -> Vec<Warning> {
        Vec::new()
    }

    /// Logs values of one step. Without a step: the next. With `commit == false` they are kept until the next call with `true`.
    pub fn log(
        &self,
        step: Option<Step>,
        timestamp: Option<Timestamp>,
        values: &[(&str, f64)],
        commit: bool,
    ) -> Result<()> {
        let _ = (step, timestamp, values, commit);
        Err(Error::internal("not built yet"))
    }

    /// Logs values of the machine; their steps count by themselves.
    pub fn log_system(&self, timestamp: Option<Timestamp>, values: &[(&str, f64)]) -> Result<()> {
        let _ = (timestamp, values);
        Err(Error::internal("not built yet"))
    }

    /// Keeps lines of the console.
    pub fn console(&self, stream: &str, lines: Vec<String>) -> Result<()> {
        let _ = (stream, lines);
        Err(Error::internal("not built yet"))
    }

    /// Sets config keys, deep-merged.
    pub fn update_config(&self, patch: Value) -> Result<()> {
        let _ = patch;
        Err(Error::internal("not built yet"))
    }

    /// Adds tags.
    pub fn add_tags(&self, tags: Vec<String>) -> Result<()> {
        let _ = tags;
        Err(Error::internal("not built yet"))
    }

    /// Renames the run.
    pub fn set_name(&self, name: &str) -> Result<()> {
        let _ = name;
        Err(Error::internal("not built yet"))
    }

    /// Sets the notes.
    pub fn set_notes(&self, notes: &str) -> Result<()> {
        let _ = notes;
        Err(Error::internal("not built yet"))
    }

    /// Attaches a file; its bytes are durable when this returns.
    pub fn log_file(&self, path: &Path, name: Option<&str>) -> Result<()> {
        let _ = (path, name);
        Err(Error::internal("not built yet"))
    }

    /// Waits until everything logged before is durable.
    pub fn flush(&self) -> Result<JournalPosition> {
        Err(Error::internal("not built yet"))
    }

    /// Says that a checkpoint was loaded; before the first point that may lower where this launch starts.
    pub fn note_loaded(&self, checkpoint: CheckpointName) -> Result<()> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// Goes back to a step: a new attempt in this process.
    pub fn rewind(&self, step: Step) -> Result<()> {
        let _ = step;
        Err(Error::internal("not built yet"))
    }

    /// The newer launch that took the run over, if one did.
    pub fn fenced_by(&self) -> Option<AttemptNumber> {
        None
    }

    /// How the writer is doing.
    pub fn health(&self) -> Health {
        Health::default()
    }

    /// Writes what is left, says goodbye, and reports.
    ///
    /// # Errors
    /// `LostData` if a save that was returned is not durable; `Conflict` if the run continues elsewhere.
    pub fn finish(
        &self,
        status: Option<RunStatus>,
        reason: Option<String>,
        deadline: Option<Duration>,
    ) -> Result<FinishReport> {
        let _ = (status, reason, deadline);
        Err(Error::internal("not built yet"))
    }
}
