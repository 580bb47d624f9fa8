//! The one thread that writes: takes what waits, appends it to the journal, syncs, says that the process lives, looks for a newer launch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use runtree_core::event::Event;
use runtree_core::manifest::{AttemptRecord, JournalPosition};
use runtree_core::{Error, Result, Timestamp, WriterId};
use runtree_store::{FrameKind, JournalWriter};

use super::front::{Item, QUEUE_BYTES};
use super::{Shared, WarningKind, lock};
use crate::seal::{Journals, Urgency};

/// Group commit: what was logged is durable after at most this long.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// A process that logs nothing says that it lives this often.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How far the flusher came.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// Flushes answered, whether they worked or not.
    pub(super) answered: u64,
    /// Whether the last one worked.
    pub(super) failed: Option<String>,
    pub(super) position: Option<JournalPosition>,
    pub(super) at: Option<Timestamp>,
    /// What the disk says, while it refuses.
    pub(super) error: Option<String>,
    /// Frames that could not be written in the end.
    pub(super) lost_frames: u64,
    /// The thread has ended.
    pub(super) ended: bool,
}

/// The running thread.
#[derive(Debug)]
pub(super) struct Flusher {
    thread: JoinHandle<()>,
}

/// What the thread owns.
struct Worker {
    shared: Arc<Shared>,
    journal: Option<JournalWriter>,
    attempt: AttemptRecord,
    /// Frames appended or not, that are not durable: written again if the journal has to be replaced.
    unsynced: VecDeque<(FrameKind, Vec<u8>)>,
    unsynced_bytes: usize,
    /// Bytes that went into the journal at hand since it was sealed last.
    unsealed_bytes: u64,
    last_frame: Instant,
}

impl Flusher {
    /// Takes over a journal that is open and holds its first frames.
    pub(super) fn spawn(
        shared: Arc<Shared>,
        journal: JournalWriter,
        attempt: AttemptRecord,
    ) -> Result<Self> {
        lock(&shared.durable).position = Some(journal.position());
        let worker = Worker {
            shared,
            journal: Some(journal),
            attempt,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            unsealed_bytes: 0,
            last_frame: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("runtree-flush".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| {
                Error::unavailable("can not start the thread that writes the journal")
                    .with_source(error)
            })?;
        Ok(Self { thread })
    }

    /// Waits for the thread to end, at most until `deadline`; says whether it did.
    pub(super) fn join(self, shared: &Shared, deadline: Option<Instant>) -> bool {
        let mut durable = lock(&shared.durable);
        while !durable.ended {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            let left = left.unwrap_or(FLUSH_INTERVAL);
            durable = shared
                .flushed
                .wait_timeout(durable, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        drop(durable);
        self.thread.join().is_ok()
    }
}

/// The first frames of a journal: who writes.
pub(super) fn open_journal(
    shared: &Shared,
    attempt: &AttemptRecord,
    writer: WriterId,
) -> Result<JournalWriter> {
    let engine = &shared.engine;
    let mut journal = JournalWriter::create(&engine.store, shared.record.run, writer)?;
    journal.append_event(&Event::Opened {
        attempt: Some(attempt.attempt),
        rank: shared.rank,
        world_size: shared.world_size,
        at: engine.now(),
        process: shared.process.clone(),
    })?;
    Ok(journal)
}

/// Notes a launch that is newer than this one and not its own: this one is fenced. Errors of the store say nothing about fences.
pub(super) fn look_for_newer_attempt(shared: &Shared) {
    if shared.fenced_by().is_some() {
        return;
    }
    let launch = lock(&shared.attempt).clone();
    if let Some(newer) = shared.engine.find_rival(&launch) {
        lock(&shared.notices).fenced_by = Some(newer);
        let error = super::fenced_error(&shared.record.display_id, newer);
        shared.warn(WarningKind::Fenced, error.message());
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            let (asked, stopping) = self.wait();
            let (items, bytes) = lock(&self.shared.front).take();
            let outcome = self.flush(items, bytes);
            // Before the answer: who flushes before a commit then knows whether the run continues elsewhere.
            look_for_newer_attempt(&self.shared);
            self.answer(asked, outcome);
            if stopping {
                break;
            }
        }
        let mut durable = lock(&self.shared.durable);
        durable.ended = true;
        durable.lost_frames += self.unsynced.len() as u64;
        self.shared.flushed.notify_all();
    }

    /// Until a second has passed, much has gathered, or somebody asks.
    fn wait(&self) -> (u64, bool) {
        let answered = lock(&self.shared.durable).answered;
        let deadline = Instant::now() + FLUSH_INTERVAL;
        let mut front = lock(&self.shared.front);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = front.asked;
            if asked > answered
                || front.stopping
                || left.is_zero()
                || (front.queued_bytes() > super::front::WAKE_BYTES && self.unsynced.is_empty())
            {
                return (asked, front.stopping);
            }
            front = self
                .shared
                .wake
                .wait_timeout(front, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
    }

    fn answer(&self, asked: u64, outcome: Result<()>) {
        let mut durable = lock(&self.shared.durable);
        durable.answered = asked;
        match outcome {
            Ok(()) => {
                durable.position = self.journal.as_ref().map(JournalWriter::position);
                durable.at = Some(self.shared.engine.now());
                durable.error = None;
                durable.failed = None;
            }
            Err(error) => {
                let text = error.chain();
                durable.error = Some(text.clone());
                durable.failed = Some(text.clone());
                self.shared.warn(
                    WarningKind::Storage,
                    format!("metrics can not be written, they wait in memory: {text}"),
                );
            }
        }
        self.shared.flushed.notify_all();
    }

    fn flush(&mut self, items: VecDeque<Item>, bytes: usize) -> Result<()> {
        let mut outcome = Ok(());
        for item in items {
            match item {
                Item::Event(event) => {
                    if matches!(event, Event::Closed { .. }) {
                        self.stage_lost();
                    }
                    self.stage_event(&event);
                }
                Item::Points(mut batch) => {
                    if let Some(payload) = batch.builder.take() {
                        self.stage(FrameKind::Points, payload);
                    }
                    lock(&self.shared.front).give_back(batch);
                }
                Item::Reopen(attempt) => {
                    // What came before belongs to the old journal: it must be there before the new one opens.
                    self.stage_event(&Event::Closed {
                        at: self.shared.engine.now(),
                    });
                    outcome = self.write();
                    self.drop_unsynced();
                    self.attempt = *attempt;
                    self.journal = None;
                }
            }
        }
        lock(&self.shared.front).release(bytes);
        self.stage_lost();
        if self.unsynced.is_empty() && self.last_frame.elapsed() >= ALIVE_INTERVAL {
            self.stage_event(&Event::Alive {
                at: self.shared.engine.now(),
            });
        }
        outcome.and_then(|()| self.write())
    }

    fn stage_event(&mut self, event: &Event) {
        if let Ok(payload) = serde_json::to_vec(event) {
            self.stage(FrameKind::Event, payload);
        }
    }

    fn stage(&mut self, kind: FrameKind, payload: Vec<u8>) {
        // The bound of the queue holds for what could not be written, too. Frames are compressed, so this is a long while.
        if self.unsynced_bytes + payload.len() > QUEUE_BYTES {
            lock(&self.shared.durable).lost_frames += 1;
            self.shared.warn(
                WarningKind::QueueFull,
                "the disk refuses for so long that metrics had to be dropped",
            );
            return;
        }
        self.unsynced_bytes += payload.len();
        self.unsynced.push_back((kind, payload));
    }

    /// A frame that says what was dropped since the last one.
    fn stage_lost(&mut self) {
        let dropped = lock(&self.shared.front).take_unreported();
        let mut reasons: Vec<&str> = dropped.keys().map(|(reason, _)| *reason).collect();
        reasons.dedup();
        for reason in reasons {
            let points = dropped
                .iter()
                .filter(|((why, _), _)| *why == reason)
                .map(|((_, name), count)| (name.clone(), *count))
                .collect();
            self.stage_event(&Event::Lost {
                reason: reason.to_owned(),
                points,
                at: self.shared.engine.now(),
            });
        }
    }

    /// Frames of a launch that is over can not go into the next one's journal: `rewind` flushed before, so there is hardly anything.
    fn drop_unsynced(&mut self) {
        lock(&self.shared.durable).lost_frames += self.unsynced.len() as u64;
        self.unsynced.clear();
        self.unsynced_bytes = 0;
    }

    /// Writes and syncs what is staged; opens the journal if there is none. After a failure the journal is given up: a file whose sync failed can not be trusted, so all
    /// that is not known to be durable goes into a fresh one next time.
    fn write(&mut self) -> Result<()> {
        if self.unsynced.is_empty() && self.journal.is_some() {
            return Ok(());
        }
        let written = self.try_write();
        if written.is_ok() {
            self.unsealed_bytes += self.unsynced_bytes as u64;
            self.unsynced.clear();
            self.unsynced_bytes = 0;
            self.last_frame = Instant::now();
            self.seal_what_is_much();
        } else {
            self.journal = None;
        }
        written
    }

    fn seal_what_is_much(&mut self) {
        let limit = self.shared.engine.options.seal;
        if limit.is_some_and(|limit| self.unsealed_bytes >= limit)
            && let Some(journal) = &self.journal
        {
            self.unsealed_bytes = 0;
            self.shared
                .seal(Journals::Of(journal.writer()), Urgency::Beside);
        }
    }

    fn try_write(&mut self) -> Result<()> {
        let journal = if let Some(journal) = &mut self.journal {
            journal
        } else {
            let writer = self.shared.engine.new_writer_id();
            let opened = open_journal(&self.shared, &self.attempt, writer)?;
            self.journal.insert(opened)
        };
        for (kind, payload) in &self.unsynced {
            journal.append(*kind, payload)?;
        }
        journal.sync().map(|_| ())
    }
}
