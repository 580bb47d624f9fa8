//! The thread that encodes while a run trains: at the lowest priority, half of the time, and never while saves are being written.
//!
//! It exists only while there is something to encode, holds neither engine nor run alive, and stops between two chunks when it is asked to. What it leaves is done
//! by the next launch of the run, or by [`Engine::encode_cold`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result, RunId};

use super::{Encoding, Pace, survivors};
use crate::engine::Engine;
use crate::parallel::yield_to_everybody;

/// Longest wait between two looks whether saves are still being written.
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// Longest wait for what is deleted after a commit.
const PRUNE_WAIT: Duration = Duration::from_secs(30);

/// Told of an error, once.
type Report = Box<dyn Fn(Error) + Send>;

/// The encoder of an engine.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Runs that may have cold checkpoints, and whom to tell of errors.
    wanted: HashMap<RunId, Report>,
    /// The run at work.
    current: Option<RunId>,
    /// Whether the work stands still, with nothing on the disk twice.
    at_rest: bool,
    /// Runs that are being finished: nothing is begun for them any more.
    stopped: HashSet<RunId>,
    running: bool,
    /// Checkpoints that were looked at to the end.
    done: HashSet<CheckpointName>,
    /// Checkpoints that are known to be committed.
    known: HashSet<CheckpointName>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("wanted", &self.wanted.keys())
            .field("current", &self.current)
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Encoder {
    /// Says that a run has a new checkpoint, so that older ones may be cold now. `report` is told of an error that ends the work.
    pub(crate) fn notify(
        &self,
        engine: &Arc<Engine>,
        run: RunId,
        report: impl Fn(Error) + Send + 'static,
    ) {
        let mut state = self.shared.lock();
        if state.stopped.contains(&run) {
            return;
        }
        state.wanted.insert(run, Box::new(report));
        if state.running {
            return;
        }
        let (shared, engine) = (Arc::clone(&self.shared), Arc::downgrade(engine));
        // Without a thread checkpoints stay larger than they could be, and that is all.
        state.running = std::thread::Builder::new()
            .name("runtree-encode".to_owned())
            .spawn(move || work(&shared, &engine))
            .is_ok();
    }

    /// Takes a run on that begins, perhaps again.
    pub(crate) fn begin(&self, run: RunId) {
        self.shared.lock().stopped.remove(&run);
    }

    /// Begins nothing more for a run, and waits until what was begun is left in order, at most until `deadline`.
    pub(crate) fn stop(&self, run: RunId, deadline: Option<Instant>) {
        let mut state = self.shared.lock();
        state.stopped.insert(run);
        state.wanted.remove(&run);
        self.shared.changed.notify_all();
        while state.current == Some(run) {
            let wait = deadline.map_or(BUSY_WAIT, |end| {
                end.saturating_duration_since(Instant::now()).min(BUSY_WAIT)
            });
            if wait == Duration::ZERO {
                return;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Encoder {
    /// Waits until nothing of a run is on the disk both raw and encoded, at most until `deadline`: a save is being written, so the encoder rests after the chunk that it is at.
    pub(crate) fn wait_at_rest(&self, run: RunId, deadline: Instant) {
        let mut state = self.shared.lock();
        while state.current == Some(run) && !state.at_rest {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn work(shared: &Shared, engine: &Weak<Engine>) {
    yield_to_everybody();
    loop {
        let (run, report) = {
            let mut state = shared.lock();
            let next = state.wanted.keys().next().copied();
            let Some((run, report)) = next.and_then(|run| state.wanted.remove_entry(&run)) else {
                state.running = false;
                return;
            };
            state.current = Some(run);
            (run, report)
        };
        let encode = || {
            engine
                .upgrade()
                .map_or(Ok(()), |engine| encode_run(shared, &engine, run))
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(encode))
            .unwrap_or_else(|_| Err(Error::internal("the encoding thread panicked")));
        if let Err(error) = outcome {
            report(error);
        }
        shared.lock().current = None;
        shared.changed.notify_all();
    }
}

fn encode_run(shared: &Shared, engine: &Engine, run: RunId) -> Result<()> {
    // What is about to be deleted is not worth encoding.
    engine.retainer().settle(run, Instant::now() + PRUNE_WAIT);
    let mut encoding = Encoding::new(engine);
    let mut began = Instant::now();
    // Whether nothing was encoded since what is redundant went.
    let mut settled = true;
    let mut pace = || {
        let pace = rest(shared, engine, run, began.elapsed(), settled);
        settled = pace != Pace::Continue;
        began = Instant::now();
        pace
    };
    if pace() == Pace::Stop {
        return Ok(());
    }
    let mut known = std::mem::take(&mut shared.lock().known);
    let cold = survivors::cold(engine, run, &mut known);
    shared.lock().known = known;
    for cold in cold? {
        if shared.lock().done.contains(&cold.name) {
            continue;
        }
        if encoding.checkpoint(&cold, &mut pace)? == Pace::Stop {
            break;
        }
        shared.lock().done.insert(cold.name);
    }
    encoding.settle()
}

/// Stands still for as long as the last chunk took, and until no save is being written.
fn rest(shared: &Shared, engine: &Engine, run: RunId, worked: Duration, settled: bool) -> Pace {
    let until = Instant::now() + worked;
    let mut state = shared.lock();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let busy = engine.saver().is_writing() || engine.retainer().is_expected(run);
        let pace = if state.stopped.contains(&run) {
            Some(Pace::Stop)
        } else if busy && !settled {
            // Before it waits for a save to be written, what that save would find on the disk twice goes.
            Some(Pace::Settle)
        } else if left == Duration::ZERO && !busy {
            Some(Pace::Continue)
        } else {
            None
        };
        if let Some(pace) = pace {
            state.at_rest = false;
            return pace;
        }
        state.at_rest = settled;
        shared.changed.notify_all();
        let wait = if busy { BUSY_WAIT } else { left };
        state = shared
            .changed
            .wait_timeout(state, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
