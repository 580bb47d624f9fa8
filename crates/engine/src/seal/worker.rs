//! Sealing beside what a process does: one thread per task, none of which anything waits for longer than it wants to.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::{Error, Result, RunId, WriterId};
use runtree_store::Cursor;

use super::Journals;
use crate::engine::Engine;
use crate::parallel::yield_to_everybody;

/// Most journals whose last place is remembered.
const MAX_PLACES: usize = 4096;

/// Whether somebody waits for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A run that is being finished.
    Now,
    /// A run goes on meanwhile: at the lowest priority.
    Beside,
}

/// The sealer of an engine.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    shared: Arc<Shared>,
    /// Where in its files a journal goes on behind what this process sealed of it. A hint: the journal says whether it is right.
    places: Mutex<HashMap<(RunId, WriterId), Cursor>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Tasks at work, by run.
    tasks: Mutex<HashMap<RunId, usize>>,
    ended: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sealer {
    /// Seals journals of a run in the background. `report` is told of an error; nothing is lost by one.
    pub(crate) fn begin(
        &self,
        engine: &Arc<Engine>,
        run: RunId,
        which: Journals,
        urgency: Urgency,
        report: impl FnOnce(Error) + Send + 'static,
    ) {
        *lock(&self.shared.tasks).entry(run).or_default() += 1;
        let (shared, engine) = (Arc::clone(&self.shared), Arc::downgrade(engine));
        let task = move || {
            if urgency == Urgency::Beside {
                yield_to_everybody();
            }
            let seal = || {
                engine.upgrade().map_or(Ok(()), |engine| {
                    engine.seal_journals(run, which, &|| false, &mut |_| {})
                })
            };
            let outcome: Result<()> = std::panic::catch_unwind(std::panic::AssertUnwindSafe(seal))
                .unwrap_or_else(|_| Err(Error::internal("the sealing thread panicked")));
            if let Err(error) = outcome {
                report(error);
            }
            shared.end(run);
        };
        let thread = std::thread::Builder::new().name("runtree-seal".to_owned());
        // Without a thread it stays unsealed, and that is all.
        if thread.spawn(task).is_err() {
            self.shared.end(run);
        }
    }

    /// Waits until nothing of a run is being sealed, at most until `deadline`.
    pub(crate) fn wait(&self, run: RunId, deadline: Instant) {
        let mut tasks = lock(&self.shared.tasks);
        while tasks.contains_key(&run) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return;
            }
            tasks = self
                .shared
                .ended
                .wait_timeout(tasks, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Keeps where a journal goes on.
    pub(super) fn remember(&self, run: RunId, writer: WriterId, cursor: Cursor) {
        let mut places = lock(&self.places);
        if places.len() >= MAX_PLACES {
            places.clear();
        }
        places.insert((run, writer), cursor);
    }

    pub(super) fn place(&self, run: RunId, writer: WriterId) -> Option<Cursor> {
        lock(&self.places).get(&(run, writer)).copied()
    }
}

impl Shared {
    fn end(&self, run: RunId) {
        let mut tasks = lock(&self.tasks);
        if let Some(count) = tasks.get_mut(&run) {
            *count -= 1;
            if *count == 0 {
                tasks.remove(&run);
            }
        }
        drop(tasks);
        self.ended.notify_all();
    }
}
