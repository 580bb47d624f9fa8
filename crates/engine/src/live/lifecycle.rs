//! How a live run begins, goes back, and ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use runtree_core::event::{Event, RunStatus};
use runtree_core::lineage::AttemptId;
use runtree_core::manifest::{AttemptRecord, CheckpointName, RunRecord};
use runtree_core::{AttemptNumber, ComponentName, Error, Result, SaveKey, Step, WriterId};
use runtree_store::FileList;

use super::flusher::{Durable, Flusher, open_journal};
use super::front::{Bounds, Front};
use super::{
    FinishReport, MediaLane, Notices, RunWriter, Shared, Warning, WarningKind, fenced_error, lock,
};
use crate::engine::Engine;
use crate::runs::{LogRanks, is_random};
use crate::save::RunSaves;
use crate::seal::{Journals, Urgency};
use crate::ship::RemoteReport;

/// How long a writer that is dropped without `finish` waits for its last flush.
const DROP_PATIENCE: Duration = Duration::from_secs(5);

/// How long `finish` waits for its last flush at least, whatever its deadline.
const LAST_FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// How long `finish` waits at most for its points to be sealed. They are durable before; what is not sealed by then is by the same process if it goes on,
/// else by the next launch or `runtree seal`.
const SEAL_PATIENCE: Duration = Duration::from_millis(500);

/// How long `finish` waits at most until old checkpoints are deleted. What is left is left to the next prune.
const PRUNE_PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is settled before the writer starts.
pub(crate) struct Launch {
    pub(crate) record: RunRecord,
    pub(crate) attempt: AttemptRecord,
    /// What its first journal will be called, and the process in its seat.
    pub(crate) writer: WriterId,
    pub(crate) has_seat: bool,
    pub(crate) bounds: Bounds,
    pub(crate) rank: u32,
    pub(crate) world_size: u32,
    pub(crate) log_ranks: LogRanks,
    pub(crate) process: BTreeMap<String, String>,
    pub(crate) warnings: Vec<Warning>,
}

impl RunWriter {
    /// Opens this process's journal, says that the run is running, and starts the thread.
    pub(crate) fn start(engine: Arc<Engine>, launch: Launch) -> Result<Arc<Self>> {
        let rank =
            (launch.log_ranks == LogRanks::All && launch.world_size > 1).then_some(launch.rank);
        let files = FileList::new(launch.record.run, launch.writer);
        let shared = Arc::new(Shared {
            engine: Arc::clone(&engine),
            record: launch.record,
            attempt: Mutex::new(launch.attempt.clone()),
            seat: launch.has_seat.then_some(launch.writer),
            rank: launch.rank,
            world_size: launch.world_size,
            log_ranks: launch.log_ranks,
            process: launch.process,
            front: Mutex::new(Front::new(launch.bounds, rank)),
            wake: Condvar::new(),
            durable: Mutex::new(Durable::default()),
            flushed: Condvar::new(),
            notices: Mutex::new(Notices::default()),
            media: MediaLane::default(),
            files: Mutex::new(files),
        });
        for warning in launch.warnings {
            shared.warn(warning.kind, warning.message);
        }
        let saves = RunSaves::resuming(earlier_saves(&shared, &launch.attempt)?);
        let mut journal = open_journal(&shared, &launch.attempt, launch.writer)?;
        if launch.rank == 0 {
            let seen = shared.engine.current_lamport(shared.record.run)?;
            let lamport = lock(&shared.front).next_lamport(seen);
            journal.append_event(&Event::Status {
                lamport,
                attempt: Some(launch.attempt.attempt),
                status: RunStatus::Running,
                reason: None,
                at: shared.engine.now(),
            })?;
        }
        journal.sync()?;
        let attempt = launch.attempt.attempt;
        let flusher = Flusher::spawn(Arc::clone(&shared), journal, launch.attempt)?;
        engine.encoder().begin(shared.record.run);
        if launch.rank == 0 && attempt > AttemptNumber::FIRST {
            // What a launch left that did not come to seal it.
            let rank = launch.rank;
            shared.seal(Journals::Ended { attempt, rank }, Urgency::Beside);
        }
        Ok(Arc::new(Self {
            staging: Mutex::new(Some(engine.saver().enter())),
            engine,
            saves,
            shared,
            flusher: Mutex::new(Some(flusher)),
            finished: Mutex::new(None),
            committed: Mutex::new(None),
            shipper: OnceLock::new(),
            process_id: std::process::id(),
        }))
    }

    /// Says that a checkpoint was loaded; before the first point of a resumed launch, an older one than the launch was based on
    /// moves the start of its history down to it.
    pub fn note_loaded(&self, checkpoint: CheckpointName) -> Result<()> {
        let shared = &*self.shared;
        let timeline = shared.engine.timeline(self.run())?;
        let on_timeline = timeline.holds(
            AttemptId {
                run: checkpoint.run,
                attempt: checkpoint.key.attempt,
            },
            checkpoint.key.step,
        );
        let first = checkpoint.key.step.next();
        let mut front = lock(&shared.front);
        front.push_event(Event::Loaded {
            run: checkpoint.run,
            key: checkpoint.key,
            at: shared.engine.now(),
        });
        let mut bounds = front.bounds();
        if on_timeline && bounds.floor.is_some_and(|floor| first > floor) && first < bounds.start {
            front.push_event(Event::StartLowered { first });
            bounds.first = first;
            bounds.start = first;
            bounds.inherited_last = Some(checkpoint.key.step);
            front.set_bounds(bounds);
        }
        Ok(())
    }

    /// Says that a checkpoint was damaged when it was loaded, and waits until that is durable: the process may be about to end for it.
    ///
    /// # Errors
    /// `Unavailable` if the journal can not be written.
    pub fn note_damaged(&self, checkpoint: CheckpointName, what: &str) -> Result<()> {
        self.push_event(Event::Damaged {
            run: checkpoint.run,
            key: checkpoint.key,
            what: what.to_owned(),
            at: self.shared.engine.now(),
        });
        self.flush().map(|_| ())
    }

    /// Goes back to a step: a new attempt in this process, whose history continues after `step`.
    ///
    /// # Errors
    /// `Invalid` if the step is not in the run's own history; `Conflict` if the run continues elsewhere.
    pub fn rewind(&self, step: Step) -> Result<()> {
        let shared = &*self.shared;
        self.check_fence()?;
        lock(&shared.front).commit_pending()?;
        self.flush()?;
        let current = self.attempt_record();
        let attempt =
            shared
                .engine
                .rewind_launch(&shared.record, &current, step, &shared.process)?;
        // The seat in the new attempt is this process's before the same command, started again, looks for one.
        if let Some(writer) = shared.seat
            && !shared.engine.sit_down(&attempt, shared.rank, writer)?
        {
            return Err(fenced_error(self.display_id(), attempt.attempt));
        }
        let bounds = Bounds {
            first: step,
            floor: Some(crate::runs::floor_of(&shared.record)),
            start: step.next(),
            inherited_last: Some(step),
            last: None,
        };
        let mut front = lock(&shared.front);
        *lock(&shared.attempt) = attempt.clone();
        front.set_bounds(bounds);
        front.push_reopen(attempt);
        drop(front);
        self.flush().map(|_| ())
    }

    /// Writes what is left, says goodbye, and reports. Called again, it reports the same.
    ///
    /// Without a deadline it waits for saves and disk as long as they need.
    ///
    /// # Errors
    /// `LostData` if a save that was returned is not durable; `Conflict` if the run continues elsewhere.
    pub fn finish(
        &self,
        status: Option<RunStatus>,
        reason: Option<String>,
        deadline: Option<Duration>,
    ) -> Result<FinishReport> {
        if !self.is_owner_process() {
            return Err(Error::conflict(
                "the run belongs to the parent process; a forked child can not finish it",
            ));
        }
        let shared = &*self.shared;
        let mut finished = lock(&self.finished);
        if let Some(report) = &*finished {
            return Ok(report.clone());
        }
        let deadline = deadline.map(|wait| Instant::now() + wait);
        let status = status.unwrap_or(RunStatus::Completed);
        let (saves, failure) = self.finish_saves(deadline);
        let patience = Instant::now() + PRUNE_PATIENCE;
        let until = deadline.map_or(patience, |end| end.min(patience));
        self.engine.retainer().settle(self.run(), until);
        self.engine.encoder().stop(self.run(), deadline);
        shared.media.finish(deadline);
        self.say_goodbye(status, reason);
        let flusher = lock(&self.flusher).take();
        // Saves that never came may have used up the time; the last points and the goodbye still get theirs.
        let flush_deadline = deadline.map(|end| end.max(Instant::now() + LAST_FLUSH_PATIENCE));
        if !flusher.is_none_or(|flusher| flusher.join(shared, flush_deadline)) {
            shared.warn(
                WarningKind::Storage,
                "the disk did not answer in time: the last metrics may be lost",
            );
        }
        self.warn_about_lost_frames();
        lock(&self.staging).take();
        // The index is a cache: what it can not take now it takes at the next query.
        if let Err(error) = shared.engine.refresh_known(self.run()) {
            shared.warn(WarningKind::Index, error.chain());
        }
        self.seal_at_the_end(deadline);
        let remote = self.finish_remote(deadline);
        let report = self.report(status, saves, remote);
        *finished = Some(report.clone());
        drop(finished);
        if let Some(newer) = self.fenced_by() {
            return Err(fenced_error(self.display_id(), newer));
        }
        match failure {
            Some(text) => Err(Error::lost_data(text)),
            None => Ok(report),
        }
    }

    fn seal_at_the_end(&self, deadline: Option<Instant>) {
        let ended = Journals::Ended {
            attempt: self.attempt(),
            rank: self.rank(),
        };
        self.seal(ended, Urgency::Now);
        let patience = Instant::now() + SEAL_PATIENCE;
        let until = deadline.map_or(patience, |end| end.min(patience));
        self.engine.sealer().wait(self.run(), until);
    }

    /// Waits for the saves that were returned; says how many are durable, and what is not.
    fn finish_saves(&self, deadline: Option<Instant>) -> (u64, Option<String>) {
        let drained = self.saves.drain(deadline);
        let Some((key, error)) = drained.lost.first() else {
            return (drained.committed, None);
        };
        let lost = drained.lost.len() as u64;
        let text = format!(
            "{lost} of {} saves are not durable; save {key}: {}",
            lost + drained.committed,
            error.chain()
        );
        (drained.committed, Some(text))
    }

    fn say_goodbye(&self, status: RunStatus, reason: Option<String>) {
        let shared = &*self.shared;
        // A bad name in a row that waits was refused when it was logged; nothing else can fail here.
        if let Err(error) = lock(&shared.front).commit_pending() {
            shared.warn(WarningKind::Storage, error.message().to_owned());
        }
        // One rank speaks for all that went well; whoever failed says so itself, and which it is.
        let reason = if status == RunStatus::Failed && shared.world_size > 1 {
            let reason = reason.as_deref().unwrap_or("failed");
            Some(format!("rank {}: {reason}", shared.rank))
        } else {
            reason
        };
        if shared.rank == 0 || status != RunStatus::Completed {
            let lamport = self.next_lamport();
            self.push_event(Event::Status {
                lamport,
                attempt: Some(self.attempt()),
                status,
                reason,
                at: shared.engine.now(),
            });
        }
        self.push_event(Event::Closed {
            at: shared.engine.now(),
        });
        lock(&shared.front).stopping = true;
        shared.wake.notify_all();
    }

    fn warn_about_lost_frames(&self) {
        let durable = lock(&self.shared.durable);
        if durable.lost_frames == 0 {
            return;
        }
        let why = durable.error.clone().unwrap_or_default();
        let lost = durable.lost_frames;
        drop(durable);
        self.warn(
            WarningKind::QueueFull,
            format!("{lost} batches of metrics could not be written: {why}"),
        );
    }

    fn report(&self, status: RunStatus, saves: u64, remote: Option<RemoteReport>) -> FinishReport {
        let (last_step, dropped_points) = {
            let front = lock(&self.shared.front);
            (front.own_last_step(), front.dropped().clone())
        };
        FinishReport {
            display_id: self.display_id().to_string(),
            status,
            last_step,
            dropped_points,
            saves,
            remote,
            warnings: lock(&self.shared.notices).all.clone(),
        }
    }
}

/// What a process of this rank has saved in this launch before: one that died and was started again with the same launch key. What other
/// ranks saved is theirs to count.
fn earlier_saves(
    shared: &Shared,
    attempt: &AttemptRecord,
) -> Result<Vec<(SaveKey, ComponentName, u32)>> {
    if is_random(&attempt.launch_key) {
        return Ok(Vec::new());
    }
    let (store, run) = (&shared.engine.store, attempt.run);
    let mut keys = store.list_commits(run)?;
    keys.extend(store.list_pending(run)?);
    let mut earlier = Vec::new();
    for key in keys
        .into_iter()
        .filter(|key| key.attempt == attempt.attempt)
    {
        let parts = store.list_parts(run, key)?.into_iter();
        let own = parts.filter(|part| part.rank == shared.rank);
        earlier.extend(own.map(|part| (key, part.component, part.rank)));
    }
    Ok(earlier)
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        // Dropped without `finish`: what was logged is written, but nobody says goodbye, so the run will count as lost.
        if !self.is_owner_process() {
            return;
        }
        let Some(flusher) = lock(&self.flusher).take() else {
            return;
        };
        let deadline = Instant::now() + DROP_PATIENCE;
        self.shared.media.finish(Some(deadline));
        lock(&self.shared.front).stopping = true;
        self.shared.wake.notify_all();
        flusher.join(&self.shared, Some(deadline));
    }
}
