//! Guarded memory, copied on a thread of its own while its owner computes: `save` does not even wait for the copy.
//!
//! Who guards promises not to change the memory before `wait_staged` has returned, as `run.guard` does in front of an optimizer's step.

use std::sync::{Arc, Mutex, PoisonError};

use runtree_core::Error;

use super::progress::Progress;
use super::stage::Rest;
use super::write::ChunkJobs;

/// Copies `rest` and hands its chunks on, beside the caller if there is a thread to be had.
pub(crate) fn copy_beside(rest: Rest, chunks: ChunkJobs) {
    // Shared, so that it is still here if no thread took it.
    let work = Arc::new(Mutex::new(Some((rest, chunks))));
    let take = |work: &Mutex<Option<(Rest, ChunkJobs)>>| {
        work.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let theirs = Arc::clone(&work);
    let started = std::thread::Builder::new()
        .name("runtree-stage".to_owned())
        .spawn(move || {
            if let Some((rest, chunks)) = take(&theirs) {
                copy(rest, &chunks);
            }
        });
    if started.is_err()
        && let Some((rest, chunks)) = take(&work)
    {
        copy(rest, &chunks);
    }
}

fn copy(rest: Rest, chunks: &ChunkJobs) {
    // Whatever happens, a panic included: nobody waits for ever in front of a step.
    let staged = SetStaged(&chunks.progress);
    let copied = || drop(staged);
    if let Err(error) = rest.copy(copied, chunks) {
        chunks.fail(error);
    }
}

/// Says that the memory is not read any more when it is dropped.
struct SetStaged<'p>(&'p Progress);

impl Drop for SetStaged<'_> {
    fn drop(&mut self) {
        self.0.set_staged();
        if std::thread::panicking() {
            self.0.fail(Error::internal("the staging thread panicked"));
        }
    }
}
