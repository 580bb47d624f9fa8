//! Processes, signals and waiting: what a native module has to get right in somebody else's interpreter.
//!
//! After `os.fork` the child has this process's memory but none of its threads. Everything made before the fork is then inert
//! there: it must not be used, and not be dropped either, because dropping joins threads that do not exist. [`Owned`] holds both
//! rules. A counter of forks, not the process id, decides: it costs one load on the path of `log`.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How often this process came out of a fork.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How long a wait goes without looking for Ctrl-C.
const POLL: Duration = Duration::from_millis(100);

/// Called in the child right after `os.fork`.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// A value that belongs to the process that made it.
#[derive(Debug)]
pub(crate) struct Owned<T> {
    value: ManuallyDrop<T>,
    forks: u32,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// The value, unless this is a forked child's copy of it.
    pub(crate) fn get(&self) -> Option<&T> {
        (self.forks == FORKS.load(Ordering::Relaxed)).then(|| &*self.value)
    }
}

impl<T> Drop for Owned<T> {
    #[expect(
        unsafe_code,
        reason = "ManuallyDrop is how a forked child leaks what it must not drop"
    )]
    fn drop(&mut self) {
        if self.get().is_some() {
            // SAFETY: this is the only place that drops `value`, and `self` is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) }
        }
    }
}

/// Waits in slices with the interpreter free, so that Ctrl-C works: `slice` waits that long at most and says whether it is over.
///
/// Returns `false` if `timeout` passed first.
pub(crate) fn wait(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut slice: impl FnMut(Duration) -> bool + Send,
) -> PyResult<bool> {
    let started = Instant::now();
    loop {
        let left = timeout.map_or(POLL, |timeout| {
            timeout.saturating_sub(started.elapsed()).min(POLL)
        });
        if py.detach(|| slice(left)) {
            return Ok(true);
        }
        py.check_signals()?;
        if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            return Ok(false);
        }
    }
}
