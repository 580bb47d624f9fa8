//! The thread that prunes while a run trains: after each of its commits, and when it is asked to empty the trash.
//!
//! It exists only while there is something to do, holds neither engine nor run alive, and does one run at a time. The next save of a run waits for it before it writes: so what a policy
//! keeps, one checkpoint in the trash and the one that is being written are all that is ever on disk.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result, RunId};

use super::UnknownMetric;
use crate::engine::Engine;
use crate::gc::TrashBound;

/// Checkpoints that the trash of a live run holds: one less than elsewhere, because the next save is about to take that place.
pub(crate) const LIVE_TRASH: TrashBound = TrashBound { checkpoints: 1 };

/// How long after a commit of a run that deletes in its loop the next deletion is expected.
const EXPECTED: Duration = Duration::from_secs(2);

/// What there is to say: an error, or why nothing was deleted.
pub(crate) enum Said {
    /// Pruning failed; nothing is lost by that.
    Failed(Error),
    /// Nothing is ranked by a metric that is not known yet.
    Unranked(String),
}

type Report = Box<dyn Fn(Said) + Send>;

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "old checkpoints are not deleted: {}", error.chain()),
            Self::Unranked(why) => f.write_str(why),
        }
    }
}

/// Work for one run. What comes later replaces what waits.
struct Job {
    /// Apply the policy that counts for the run, trusting this checkpoint, which was just committed. None: only the trash is emptied.
    prune: Option<CheckpointName>,
    report: Report,
}

/// The pruner of an engine.
#[derive(Debug, Default)]
pub(crate) struct Retainer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: HashMap<RunId, Job>,
    current: Option<RunId>,
    running: bool,
    /// Runs of which something was deleted here.
    pruned: HashSet<RunId>,
    /// Those that are about to delete again: when they began to write, or committed, what they delete others for.
    expected: HashMap<RunId, Instant>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("wanted", &self.wanted.keys())
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retainer {
    /// Has the policy that counts for a run applied, if there is one: its checkpoint `newest` was just committed by this process.
    pub(crate) fn prune(
        &self,
        engine: &Arc<Engine>,
        newest: CheckpointName,
        report: impl Fn(Said) + Send + 'static,
    ) {
        let prune = Some(newest);
        self.begin(
            engine,
            newest.run,
            Job {
                prune,
                report: Box::new(report),
            },
        );
    }

    /// Has the trash of a live run emptied down to its bound.
    pub(crate) fn collect(
        &self,
        engine: &Arc<Engine>,
        run: RunId,
        report: impl Fn(Said) + Send + 'static,
    ) {
        let mut state = self.shared.lock();
        state.pruned.insert(run);
        state.expected.remove(&run);
        drop(state);
        self.begin(
            engine,
            run,
            Job {
                prune: None,
                report: Box::new(report),
            },
        );
    }

    fn begin(&self, engine: &Arc<Engine>, run: RunId, job: Job) {
        let mut state = self.shared.lock();
        // A prune that waits also empties the trash.
        if job.prune.is_some() || !state.wanted.contains_key(&run) {
            state.wanted.insert(run, job);
        }
        if state.running {
            return;
        }
        let (shared, engine) = (Arc::clone(&self.shared), Arc::downgrade(engine));
        let started = std::thread::Builder::new()
            .name("runtree-prune".to_owned())
            .spawn(move || work(&shared, &engine));
        match started {
            Ok(_) => state.running = true,
            // Without a thread there is nobody to wait for; the next commit tries again.
            Err(error) => {
                let error =
                    Error::unavailable("can not start a thread that prunes").with_source(error);
                if let Some(job) = state.wanted.remove(&run) {
                    drop(state);
                    (job.report)(Said::Failed(error));
                }
            }
        }
    }

    /// Whether this process deletes checkpoints of a run: its disk is meant to hold few.
    pub(crate) fn has_pruned(&self, run: RunId) -> bool {
        self.shared.lock().pruned.contains(&run)
    }

    /// A checkpoint of a run is being written, or was committed: if the run has deleted others before, it is about to do so again.
    pub(crate) fn expect(&self, run: RunId) {
        let mut state = self.shared.lock();
        if state.pruned.contains(&run) {
            state.expected.insert(run, Instant::now());
        }
    }

    /// Whether a run is about to delete checkpoints: a moment later less is worth encoding, and there is room for it.
    pub(crate) fn is_expected(&self, run: RunId) -> bool {
        let state = self.shared.lock();
        let since = state.expected.get(&run);
        since.is_some_and(|since| since.elapsed() < EXPECTED)
    }

    /// Waits until nothing is left to do for a run, at most until `deadline`; says whether that is so.
    pub(crate) fn settle(&self, run: RunId, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        while state.current == Some(run) || state.wanted.contains_key(&run) {
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
        true
    }
}

fn work(shared: &Shared, engine: &Weak<Engine>) {
    loop {
        let (run, job) = {
            let mut state = shared.lock();
            state.current = None;
            shared.changed.notify_all();
            let next = state.wanted.keys().next().copied();
            let Some((run, job)) = next.and_then(|run| state.wanted.remove_entry(&run)) else {
                state.running = false;
                return;
            };
            state.current = Some(run);
            (run, job)
        };
        let step = || {
            engine
                .upgrade()
                .map_or(Ok(None), |engine| prune(shared, &engine, run, job.prune))
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step))
            .unwrap_or_else(|_| Err(Error::internal("the pruning thread panicked")));
        match outcome {
            Ok(None) => {}
            Ok(Some(unranked)) => (job.report)(Said::Unranked(unranked)),
            Err(error) => (job.report)(Said::Failed(error)),
        }
    }
}

/// Does one job; says why nothing is ranked, if that is so.
fn prune(
    shared: &Shared,
    engine: &Engine,
    run: RunId,
    newest: Option<CheckpointName>,
) -> Result<Option<String>> {
    let mut unranked = None;
    if let Some(newest) = newest {
        let Some(origin) = engine.retention(run)? else {
            return Ok(None);
        };
        shared.lock().pruned.insert(run);
        let plan = engine.plan_prune_unsized(run, &origin.policy, UnknownMetric::KeepAll)?;
        engine.bury_pruned(&plan, Some(newest))?;
        shared.lock().expected.remove(&run);
        unranked = plan.unranked;
    }
    engine.collect_trash(run, LIVE_TRASH)?;
    Ok(unranked)
}
