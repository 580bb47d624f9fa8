//! Native threads that hash and write chunks, shared by all saves of a process: one queue, first in, first out.
//!
//! The queue needs no bound of its own: every job holds staging memory, which is bounded. Threads start with the first job and leave when the
//! pool is dropped and the queue is empty; nobody waits for them then, because a job belongs to a save that reports for itself.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::copy::threads;

/// Threads for each that the machine hashes with: about half of a job is waiting for the disk.
const THREADS_PER_CORE: usize = 2;

/// A unit of background work. It reports its own errors to whoever it belongs to.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads and their queue.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("queued", &state.queue.len())
            .field("threads", &state.threads)
            .finish()
    }
}

impl Pool {
    /// Queues a job.
    pub(crate) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.queue.push_back(job);
        if state.idle < state.queue.len() && state.threads < threads() * THREADS_PER_CORE {
            let shared = Arc::clone(&self.shared);
            let started = std::thread::Builder::new()
                .name("runtree-write".to_owned())
                .spawn(move || shared.work());
            // Without a thread the queue would wait for ever: the caller does the job instead.
            if started.is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                let job = state.queue.pop_back();
                drop(state);
                if let Some(job) = job {
                    job();
                }
                return;
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Pool {
    /// Whether a job runs or waits.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        !state.queue.is_empty() || state.idle < state.threads
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // A panicking job must not take its thread along: the save it belongs to notices by itself (its part is never reported).
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                state = self.lock();
            } else if state.closed {
                state.threads -= 1;
                return;
            } else {
                state.idle += 1;
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_even_after_one_panicked_and_the_pool_is_gone() {
        let pool = Pool::default();
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = mpsc::channel();
        for index in 0..50 {
            let (count, sender) = (Arc::clone(&count), sender.clone());
            pool.submit(Box::new(move || {
                assert!(index != 7, "job 7 panics on purpose");
                count.fetch_add(1, Ordering::SeqCst);
                sender.send(()).unwrap();
            }));
        }
        drop((pool, sender));
        while receiver.recv().is_ok() {}
        assert_eq!(count.load(Ordering::SeqCst), 49);
    }
}
