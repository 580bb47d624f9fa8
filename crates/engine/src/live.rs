//! The live run of a process: what `init` returns. `log` never waits for a disk; one thread writes.
//!
//! ```text
//! log ── mutex ──▶ front (batch builder, queue of events)          flusher, each second or when asked:
//!                        └── swap ──▶ encode ──▶ journal.append ──▶ sync ──▶ heartbeat, fencing check
//! ```
//!
//! The mutex is held for a push into a builder, or for a swap; never while anything is encoded or written. What the disk refuses is
//! kept (up to the queue's bound) and written again to a fresh journal, since a journal whose sync failed can not be trusted; points
//! written twice are one point, because the last write of a step wins. Errors of the thread are warnings and health, never raised by `log`.
//!
//! A forked child's copy of a writer has no thread: edges ask [`RunWriter::is_owner_process`] first and do nothing there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use runtree_core::event::{Event, RunStatus};
use runtree_core::manifest::{AttemptRecord, CheckpointName, RunRecord};
use runtree_core::{
    AttemptNumber, DisplayId, Error, Result, RunId, SaveKey, Step, Timestamp, WriterId,
};
use runtree_store::FileList;

use crate::engine::Engine;
use crate::retain::Said;
use crate::runs::LogRanks;
use crate::save::{RunSaves, StagingUse};
use crate::seal::{Journals, Urgency};
use crate::ship::{RemoteReport, Shipper};

mod events;
mod flusher;
mod front;
mod lifecycle;
mod media;
mod prune;
mod remote;

pub(crate) use flusher::FLUSH_INTERVAL;
use flusher::Flusher;
pub(crate) use front::Bounds;
use front::Front;
pub(crate) use lifecycle::Launch;
use media::MediaLane;
pub use media::{MediaContent, MediaEntry, MediaSource};

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
    /// Older checkpoints can not be encoded.
    Encoding,
    /// Points can not be sealed.
    Sealing,
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
    /// Old checkpoints are not deleted.
    Retention,
    /// The remote can not be pushed to.
    Remote,
    /// The run is over, and not all of it is at the remote.
    Unpushed,
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
    /// How far the remote is behind, if there is one.
    pub remote: Option<RemoteReport>,
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
    /// What the remote has, if there is one.
    pub remote: Option<RemoteReport>,
    /// Every warning of this process.
    pub warnings: Vec<Warning>,
}

/// The live run of this process.
#[derive(Debug)]
pub struct RunWriter {
    pub(crate) engine: Arc<Engine>,
    /// The saves of this process: `finish` drains them, health counts them.
    pub(crate) saves: RunSaves,
    shared: Arc<Shared>,
    flusher: Mutex<Option<Flusher>>,
    finished: Mutex<Option<FinishReport>>,
    /// Until it is finished.
    staging: Mutex<Option<StagingUse>>,
    /// The newest checkpoint that this process saw through to its commit.
    committed: Mutex<Option<CheckpointName>>,
    /// Pushes the run, if it has a remote.
    shipper: OnceLock<Shipper>,
    process_id: u32,
}

/// What the caller's threads and the flusher share.
#[derive(Debug)]
pub(crate) struct Shared {
    engine: Arc<Engine>,
    record: RunRecord,
    attempt: Mutex<AttemptRecord>,
    /// This process in the seat of its rank, if its launch has seats.
    seat: Option<WriterId>,
    rank: u32,
    world_size: u32,
    log_ranks: LogRanks,
    process: BTreeMap<String, String>,
    front: Mutex<Front>,
    /// Wakes the flusher.
    wake: std::sync::Condvar,
    durable: Mutex<flusher::Durable>,
    /// Wakes those who wait for a flush.
    flushed: std::sync::Condvar,
    notices: Mutex<Notices>,
    media: MediaLane,
    /// Where the chunks are listed that this process's journals name.
    files: Mutex<FileList>,
}

#[derive(Debug, Default)]
struct Notices {
    all: Vec<Warning>,
    /// How many of them were taken.
    taken: usize,
    seen: BTreeSet<(WarningKind, String)>,
    fenced_by: Option<AttemptNumber>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Keeps a warning for the edges; each (kind, message) once, and those kinds that may repeat each second once at all.
    pub(crate) fn warn(&self, kind: WarningKind, message: impl Into<String>) {
        let message = message.into();
        let mut notices = lock(&self.notices);
        let once = match kind {
            WarningKind::Save | WarningKind::Damaged | WarningKind::Retention => message.clone(),
            _ => String::new(),
        };
        if notices.seen.insert((kind, once)) {
            notices.all.push(Warning { kind, message });
        }
    }

    fn attempt(&self) -> AttemptNumber {
        lock(&self.attempt).attempt
    }

    /// Seals journals of this run in the background, if this process may.
    fn seal(self: &Arc<Self>, which: Journals, urgency: Urgency) {
        if self.engine.options.seal.is_none() {
            return;
        }
        let shared = Arc::downgrade(self);
        let report = move |error: Error| {
            if let Some(shared) = shared.upgrade() {
                let text = format!("metrics stay in the journal, unsealed: {}", error.chain());
                shared.warn(WarningKind::Sealing, text);
            }
        };
        let (engine, run) = (&self.engine, self.record.run);
        engine.sealer().begin(engine, run, which, urgency, report);
    }

    fn fenced_by(&self) -> Option<AttemptNumber> {
        lock(&self.notices).fenced_by
    }

    /// Whether this rank keeps points.
    fn logs(&self) -> bool {
        self.rank == 0 || self.log_ranks == LogRanks::All
    }
}

impl RunWriter {
    /// The run.
    pub fn run(&self) -> RunId {
        self.shared.record.run
    }

    /// This launch.
    pub fn attempt(&self) -> AttemptNumber {
        self.shared.attempt()
    }

    /// Display id.
    pub fn display_id(&self) -> &DisplayId {
        &self.shared.record.display_id
    }

    /// The birth record.
    pub fn record(&self) -> &RunRecord {
        &self.shared.record
    }

    /// The launch's record.
    pub fn attempt_record(&self) -> AttemptRecord {
        lock(&self.shared.attempt).clone()
    }

    /// The store it writes to.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Whether nothing but chance names this launch: no other process can be part of it.
    pub(crate) fn launch_key_is_random(&self) -> bool {
        crate::runs::is_random(&lock(&self.shared.attempt).launch_key)
    }

    /// Journals that a commit was written, with the next flush.
    pub(crate) fn note_saved(&self, key: SaveKey) {
        self.push_event(Event::Saved { key });
    }

    /// Lets the policy that counts for this run, if there is one, be applied: `newest` was just committed by this process.
    pub(crate) fn prune_older(&self, newest: CheckpointName) {
        let retainer = self.engine.retainer();
        retainer.prune(&self.engine, newest, self.retention_report());
    }

    /// Whom to tell of what pruning in the background has to say.
    fn retention_report(&self) -> impl Fn(Said) + Send + 'static {
        let shared = Arc::downgrade(&self.shared);
        move |said| {
            if let Some(shared) = shared.upgrade() {
                shared.warn(WarningKind::Retention, said.to_string());
            }
        }
    }

    /// Lets the older checkpoints be encoded, on one rank for all.
    pub(crate) fn encode_older(&self) {
        if self.rank() != 0 || !self.engine.options.encode {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        self.engine
            .encoder()
            .notify(&self.engine, self.run(), move |error| {
                if let Some(shared) = shared.upgrade() {
                    shared.warn(
                        WarningKind::Encoding,
                        format!(
                            "cold checkpoints stay as large as they were saved: {}",
                            error.chain()
                        ),
                    );
                }
            });
    }

    /// Seals journals of this run in the background, if this process may.
    pub(crate) fn seal(&self, which: Journals, urgency: Urgency) {
        self.shared.seal(which, urgency);
    }

    /// This process's rank.
    pub fn rank(&self) -> u32 {
        self.shared.rank
    }

    /// How many ranks the launch has.
    pub fn world_size(&self) -> u32 {
        self.shared.world_size
    }

    /// Whether this process made the writer; a forked child's copy does nothing.
    pub fn is_owner_process(&self) -> bool {
        self.process_id == std::process::id()
    }

    /// The step that `log` without a step takes next.
    pub fn next_step(&self) -> Step {
        lock(&self.shared.front).next_step()
    }

    /// The same, to be logged at.
    ///
    /// # Errors
    /// `Invalid` if the last step there is has been logged.
    pub fn automatic_step(&self) -> Result<Step> {
        lock(&self.shared.front).automatic_step()
    }

    /// The last step of this launch, else the last one it inherits.
    pub fn last_step(&self) -> Option<Step> {
        lock(&self.shared.front).last_step()
    }

    /// The checkpoint that this launch starts from, the same on all ranks.
    pub fn resumed_from(&self) -> Option<CheckpointName> {
        lock(&self.shared.attempt).checkpoint
    }

    /// Warnings that were not taken yet.
    pub fn take_warnings(&self) -> Vec<Warning> {
        let mut notices = lock(&self.shared.notices);
        let new = notices.all[notices.taken..].to_vec();
        notices.taken = notices.all.len();
        new
    }

    /// Keeps a warning for the edges.
    pub(crate) fn warn(&self, kind: WarningKind, message: impl Into<String>) {
        self.shared.warn(kind, message);
    }

    /// The newer launch that took the run over, if one did.
    pub fn fenced_by(&self) -> Option<AttemptNumber> {
        self.shared.fenced_by()
    }

    /// Refuses if the run continues elsewhere, looking at the store now: asked before a checkpoint is committed.
    pub(crate) fn check_fence(&self) -> Result<()> {
        flusher::look_for_newer_attempt(&self.shared);
        self.shared.fenced_by().map_or(Ok(()), |newer| {
            Err(fenced_error(&self.shared.record.display_id, newer))
        })
    }

    /// Puts an event into the journal, with the next flush.
    pub(crate) fn push_event(&self, event: Event) {
        lock(&self.shared.front).push_event(event);
    }

    /// How the writer is doing.
    pub fn health(&self) -> Health {
        let (queued_bytes, dropped_points) = {
            let front = lock(&self.shared.front);
            (front.queued_bytes() as u64, front.dropped().clone())
        };
        let queued_bytes = queued_bytes + self.shared.media.queued_bytes() as u64;
        let (last_flush, storage_error) = {
            let durable = lock(&self.shared.durable);
            (durable.at, durable.error.clone())
        };
        let (pending_saves, failed_saves) = self.saves.counts();
        let notices = lock(&self.shared.notices);
        Health {
            queued_bytes,
            dropped_points,
            pending_saves,
            failed_saves,
            last_flush,
            storage_error,
            fenced_by: notices.fenced_by,
            remote: self.remote(),
            warnings: notices.all.clone(),
        }
    }
}

pub(crate) fn fenced_error(run: &DisplayId, newer: AttemptNumber) -> Error {
    Error::conflict(format!("run {run} continued elsewhere as attempt {newer}"))
        .with_hint("two launches of one run were alive at once; the newer one goes on")
}
