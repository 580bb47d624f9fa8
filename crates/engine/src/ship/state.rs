//! What the pushing thread and those who ask it share.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::{Error, Result, SaveKey, Timestamp};

use super::{RemoteReport, steps};

/// How often metrics are pushed while nothing is saved.
const INTERVAL: Duration = Duration::from_secs(30);
/// Waits after a push that failed: the first, doubling up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long `finish` waits while no byte arrives.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same, if the remote could not be reached before either.
const LITTLE_PATIENCE: Duration = Duration::from_secs(5);

/// How a push ended.
pub(super) enum Ended {
    /// All that was there is at the remote, as of this time.
    Complete(Timestamp),
    Failed(Error),
}

/// What to do next.
pub(super) enum Turn {
    /// Push; with these checkpoints in it.
    Push(BTreeSet<SaveKey>),
    /// End.
    Leave,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody wants a push now.
    is_asked: bool,
    /// Checkpoints that are committed here and not known to be there.
    behind: BTreeSet<SaveKey>,
    /// Those that are there.
    shipped: HashSet<SaveKey>,
    /// One push more, then the end.
    is_ending: bool,
    /// Nobody waits for the end any more.
    is_abandoned: bool,
    has_ended: bool,
    /// Whether the last push was complete.
    is_complete: bool,
    pushed_until: Option<Timestamp>,
    error: Option<String>,
    failures: u32,
    failing_since: Option<Instant>,
    /// When something arrived last.
    moved: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint was committed here.
    pub(super) fn add(&self, key: SaveKey) {
        let mut state = self.lock();
        if !state.shipped.contains(&key) {
            state.behind.insert(key);
            state.is_asked = true;
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to do.
    pub(super) fn next(&self) -> Turn {
        let mut state = self.lock();
        let wait = match state.failures {
            0 => INTERVAL,
            failures => (FIRST_PAUSE * 2_u32.pow((failures - 1).min(5))).min(LONGEST_PAUSE),
        };
        let end = Instant::now() + wait;
        loop {
            if state.is_abandoned || state.has_ended {
                return Turn::Leave;
            }
            let left = end.saturating_duration_since(Instant::now());
            // While it can not be reached nobody hurries it, but for the end.
            let is_due = left.is_zero() || state.is_ending || state.is_asked && state.failures == 0;
            if is_due {
                state.is_asked = false;
                state.is_complete = false;
                return Turn::Push(state.behind.clone());
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Something arrived at the remote.
    pub(super) fn moved(&self) {
        self.lock().moved = Some(Instant::now());
    }

    /// A push is over. Says for how long none has succeeded.
    pub(super) fn ended(&self, pushed: &BTreeSet<SaveKey>, ended: Ended) -> Duration {
        let mut state = self.lock();
        let failing = match ended {
            Ended::Complete(until) => {
                state.behind.retain(|key| !pushed.contains(key));
                state.shipped.extend(pushed);
                state.is_complete = true;
                state.pushed_until = Some(until);
                state.error = None;
                state.failures = 0;
                state.failing_since = None;
                Duration::ZERO
            }
            Ended::Failed(error) => {
                state.error = Some(error.chain());
                state.failures += 1;
                state
                    .failing_since
                    .get_or_insert_with(Instant::now)
                    .elapsed()
            }
        };
        // What came after the last look is pushed as well before the end.
        if state.is_ending && (!state.is_complete || state.behind.is_empty()) {
            state.has_ended = true;
        }
        self.changed.notify_all();
        failing
    }

    pub(super) fn leave(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Whether its thread was given up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }

    pub(super) fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.changed.notify_all();
    }

    /// Waits until a checkpoint that is committed here is there.
    pub(super) fn wait_for(&self, key: SaveKey, deadline: Option<Instant>) -> Result<()> {
        self.add(key);
        let mut state = self.lock();
        loop {
            if state.shipped.contains(&key) {
                return Ok(());
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if state.has_ended || left == Some(Duration::ZERO) {
                let why = state
                    .error
                    .clone()
                    .unwrap_or_else(|| "it is on its way".to_owned());
                return Err(Error::unavailable(format!(
                    "checkpoint {key} is durable here, and not at the remote: {why}"
                ))
                .with_hint("wait longer, or send it later: runtree push"));
            }
            state = match left {
                Some(left) => {
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Has everything pushed, and waits for it as long as bytes arrive, at most until `deadline`.
    pub(super) fn finish(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        state.is_ending = true;
        state.is_complete = false;
        self.changed.notify_all();
        let began = Instant::now();
        let patience = if state.failures > 0 {
            LITTLE_PATIENCE
        } else {
            PATIENCE
        };
        while !state.has_ended {
            let quiet_since = state.moved.filter(|&moved| moved > began).unwrap_or(began);
            let mut end = quiet_since + patience;
            if let Some(deadline) = deadline {
                end = end.min(deadline);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.is_abandoned = true;
                self.changed.notify_all();
                return;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(super) fn report(&self, location: &str) -> RemoteReport {
        let state = self.lock();
        RemoteReport {
            location: location.to_owned(),
            behind: steps(state.behind.iter().copied()),
            complete: state.is_complete && state.behind.is_empty(),
            pushed_until: state.pushed_until,
            error: state.error.clone(),
        }
    }
}
