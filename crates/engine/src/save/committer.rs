//! One thread per live run that publishes parts and commits checkpoints, in the order of the saves, and polls for other ranks' parts.
//!
//! It exists only while saves are under way, so nothing has to be shut down; it holds the run alive meanwhile, so that a handle that is dropped too
//! early loses nothing. Counters of saves and what became of them live here too: `finish` and health ask for them.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::{AttemptNumber, ComponentName, Error, SaveKey, Step};

use super::commit::{self, Active, Owner};
use super::pending::share;
use super::progress::{Ended, Progress};

/// How long parts of other ranks are waited for, unless a caller of `result` waits longer.
pub(crate) const PARTS_TIMEOUT: Duration = Duration::from_secs(600);
/// Saves on their way at once; more wait like saves without memory.
pub(crate) const MAX_ACTIVE: usize = 64;
const FIRST_POLL: Duration = Duration::from_millis(2);
const LAST_POLL: Duration = Duration::from_millis(200);

/// Whose saves are counted: one part of one step of one launch.
type CounterKey = (AttemptNumber, Step, ComponentName, u32);

/// The saves of one live run in this process.
#[derive(Debug, Default)]
pub(crate) struct RunSaves {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    active: Vec<Arc<Active>>,
    running: bool,
    counters: HashMap<CounterKey, u32>,
    /// What counting starts at.
    first_k: u32,
    committed: u64,
    failed: Vec<(SaveKey, Arc<Error>)>,
    /// Set when the run is being finished.
    closed: bool,
}

/// What `finish` is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drained {
    /// Saves that are durable.
    pub(crate) committed: u64,
    /// Saves that are not, and why: those that failed, and those still under way at the deadline.
    pub(crate) lost: Vec<(SaveKey, Arc<Error>)>,
}

impl RunSaves {
    /// Saves whose numbers start at `first_k`: for a tool, which may come after others that saved the same step in the same attempt.
    pub(crate) fn starting_at(first_k: u32) -> Self {
        let saves = Self::default();
        saves.shared.lock().first_k = first_k;
        saves
    }

    /// Saves of a process that joined a launch in which one of its rank saved before: `earlier` are the keys of those, and numbers go on after them.
    pub(crate) fn resuming(
        earlier: impl IntoIterator<Item = (SaveKey, ComponentName, u32)>,
    ) -> Self {
        let saves = Self::default();
        let mut state = saves.shared.lock();
        for (key, component, rank) in earlier {
            let next = state
                .counters
                .entry((key.attempt, key.step, component, rank))
                .or_default();
            *next = key.k.saturating_add(1).max(*next);
        }
        drop(state);
        saves
    }

    /// The number of this save among those of its step: 0 for the first.
    pub(crate) fn count(
        &self,
        attempt: AttemptNumber,
        step: Step,
        component: &ComponentName,
        rank: u32,
    ) -> u32 {
        let mut state = self.shared.lock();
        let first = state.first_k;
        let counter = state
            .counters
            .entry((attempt, step, component.clone(), rank))
            .or_insert(first);
        let k = *counter;
        *counter += 1;
        k
    }

    /// Waits until one more save may be under way, at most until `deadline`; says whether it may.
    pub(crate) fn has_room(&self, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        loop {
            if state.active.len() < MAX_ACTIVE {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Takes a save that is being written, and sees it through.
    pub(crate) fn add(&self, owner: &Arc<dyn Owner>, save: Arc<Active>) {
        let mut state = self.shared.lock();
        state.active.push(Arc::clone(&save));
        if state.running {
            drop(state);
            self.shared.changed.notify_all();
            return;
        }
        let (shared, owner) = (Arc::clone(&self.shared), Arc::clone(owner));
        let started = std::thread::Builder::new()
            .name("runtree-commit".to_owned())
            .spawn(move || shared.run(owner.as_ref()));
        match started {
            Ok(_) => state.running = true,
            Err(error) => {
                state.active.pop();
                let error = Arc::new(
                    Error::unavailable("can not start a thread that commits").with_source(error),
                );
                state.failed.push((save.progress.key(), Arc::clone(&error)));
                drop(state);
                save.progress.end(Ended::Failed(error));
            }
        }
    }

    /// Notes a save that ended before it was added.
    pub(crate) fn note_failed(&self, key: SaveKey, error: Arc<Error>) {
        self.shared.lock().failed.push((key, error));
    }

    /// Tells the committer that something it waits for may have happened.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Saves under way, and saves that failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.shared.lock();
        (state.active.len() as u64, state.failed.len() as u64)
    }

    /// Whether the run is finished, so that a save could not be waited for any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Takes no save any more, waits for all there are, at most until `deadline`, and says what became of every one.
    pub(crate) fn drain(&self, deadline: Option<Instant>) -> Drained {
        self.shared.lock().closed = true;
        let active: Vec<Arc<Progress>> = {
            let state = self.shared.lock();
            state
                .active
                .iter()
                .map(|save| Arc::clone(&save.progress))
                .collect()
        };
        let mut lost = Vec::new();
        for progress in &active {
            if progress.wait(deadline).is_none() {
                let error = Error::lost_data(format!("save {} is not durable yet", progress.key()))
                    .with_hint("give finish() more time, or wait for save.result() before");
                lost.push((progress.key(), Arc::new(error)));
            }
        }
        let state = self.shared.lock();
        lost.extend(state.failed.iter().cloned());
        Drained {
            committed: state.committed,
            lost,
        }
    }
}

/// Wakes the committer of a run.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<Shared>);

impl Waker {
    pub(crate) fn wake(&self) {
        // Under the lock, so that a committer between looking and waiting does not miss it.
        drop(self.0.lock());
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, owner: &dyn Owner) {
        // When a published save is looked at next, and how long the wait after that will be.
        let mut polls: HashMap<SaveKeyOfPart, (Instant, Duration)> = HashMap::new();
        loop {
            let active = self.lock().active.clone();
            let mut next: Option<Instant> = None;
            let mut worked = false;
            for save in active {
                let poll = polls.get(&save.id()).copied();
                let ended = match poll {
                    None if save.progress.chunks_are_done() => {
                        worked = true;
                        guarded(|| commit::publish(owner, &save))
                    }
                    None if save.wants_note() => {
                        worked = true;
                        save.leave_note(owner);
                        continue;
                    }
                    Some((due, _)) if due <= Instant::now() => {
                        worked = true;
                        guarded(|| commit::try_commit(owner, &save))
                    }
                    Some((due, _)) => {
                        next = Some(next.map_or(due, |next| next.min(due)));
                        continue;
                    }
                    None => continue,
                };
                if let Some(ended) = ended {
                    polls.remove(&save.id());
                    self.end(owner, &save, ended);
                } else {
                    let wait = poll.map_or(FIRST_POLL, |(_, wait)| (wait * 2).min(LAST_POLL));
                    polls.insert(save.id(), (Instant::now() + wait, wait));
                }
            }
            if worked {
                continue;
            }
            let mut state = self.lock();
            if state.active.is_empty() {
                state.running = false;
                return;
            }
            // Looked at again under the lock: what became ready since would not wake anybody.
            let ready = state.active.iter().any(|save| {
                !polls.contains_key(&save.id())
                    && (save.progress.chunks_are_done() || save.wants_note())
            });
            if ready {
                continue;
            }
            let wait = next.map_or(LAST_POLL * 50, |next| {
                next.saturating_duration_since(Instant::now())
            });
            state = self
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            drop(state);
        }
    }

    fn end(&self, owner: &dyn Owner, save: &Arc<Active>, ended: Ended) {
        let mut state = self.lock();
        state.active.retain(|other| !Arc::ptr_eq(other, save));
        match &ended {
            Ended::Committed => state.committed += 1,
            Ended::Failed(error) => state.failed.push((save.progress.key(), Arc::clone(error))),
            Ended::Declined(_) => {}
        }
        drop(state);
        save.let_go();
        if let Ended::Failed(error) = &ended {
            owner.save_failed(save.progress.key(), share(error));
        }
        save.progress.end(ended);
        self.changed.notify_all();
    }
}

type SaveKeyOfPart = (SaveKey, ComponentName, u32);

impl Active {
    fn id(&self) -> SaveKeyOfPart {
        (
            self.progress.key(),
            self.role.component.clone(),
            self.role.rank,
        )
    }
}

/// Turns errors, and a panic, into an end: no waiter may hang because of a bug here.
fn guarded(step: impl FnOnce() -> runtree_core::Result<Option<Ended>>) -> Option<Ended> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)) {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => Some(Ended::Failed(Arc::new(error))),
        Err(_) => Some(Ended::Failed(Arc::new(Error::internal(
            "the committing thread panicked",
        )))),
    }
}
