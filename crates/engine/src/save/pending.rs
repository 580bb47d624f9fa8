//! What `save` returns: a save on its way to disk, and the error it shares with everyone who asks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result, RunId, SaveKey, wire};

use super::commit::missing_parts;
use super::outlive::Outlive;
use super::progress::{Ended, Progress};
use super::request::Role;
use crate::engine::Engine;

/// Longer than any program waits.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A save on its way to disk. Clones speak of the same save.
#[derive(Clone, Debug)]
pub struct PendingSave {
    pub(super) engine: Arc<Engine>,
    pub(super) run: RunId,
    pub(super) role: Arc<Role>,
    pub(super) progress: Arc<Progress>,
    /// Of a save that was refused, nothing.
    pub(super) outlive: Arc<Outlive>,
}

impl PendingSave {
    /// Waits until the checkpoint exists on all ranks, and returns it.
    ///
    /// Without a timeout it waits for as long as this process writes and then ten minutes for the parts of other ranks.
    ///
    /// # Errors
    /// Whatever went wrong, of any thread; `Conflict` if the run continues elsewhere or another rank saved the same;
    /// `Unavailable` if parts of other ranks are missing, or the save was skipped.
    pub fn result(&self, timeout: Option<Duration>) -> Result<wire::CheckpointInfo> {
        self.wait(timeout)?;
        self.engine.checkpoint_info(self.name())
    }

    /// [`PendingSave::result`] without asking what the checkpoint looks like now: only that it exists.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(deadline) = deadline {
            self.progress.keep_waiting_until(deadline);
        }
        match self.progress.wait(deadline) {
            Some(Ended::Committed) => Ok(()),
            Some(Ended::Declined(error) | Ended::Failed(error)) => Err(share(&error)),
            None if self.progress.published().is_some() => Err(missing_parts(
                self.key(),
                &self.role,
                &self.progress.parts_here(),
            )),
            None => Err(Error::unavailable(format!(
                "save {} is still being written after {:.1} s",
                self.key(),
                timeout.unwrap_or_default().as_secs_f64()
            ))
            .with_hint("call result() again with a longer timeout")),
        }
    }

    /// Waits until this process's own part is durable and confirmed, whatever other ranks do; says whether it is before `timeout` has passed. For
    /// callers that agree with the other ranks by their own means.
    ///
    /// # Errors
    /// What went wrong with the part, if that is known.
    pub fn wait_part(&self, timeout: Duration) -> Result<bool> {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or(now + FOREVER);
        let there = self.progress.wait_published(deadline);
        match self.progress.outcome() {
            Some(Ended::Declined(error) | Ended::Failed(error)) => Err(share(&error)),
            _ => Ok(there),
        }
    }

    /// Whether [`PendingSave::result`] would return at once.
    pub fn done(&self) -> bool {
        self.progress.outcome().is_some()
    }

    /// What went wrong, once it is done.
    pub fn exception(&self) -> Option<Arc<Error>> {
        match self.progress.outcome()? {
            Ended::Committed => None,
            Ended::Declined(error) | Ended::Failed(error) => Some(error),
        }
    }

    /// Whether the save was skipped because of memory, or cancelled, at its caller's wish.
    pub fn was_declined(&self) -> bool {
        matches!(self.progress.outcome(), Some(Ended::Declined(_)))
    }

    /// Waits until the state may be changed again; says whether it may before `timeout` has passed. What `save` copied itself may be changed at
    /// once; [`super::TensorData::Guarded`] memory is copied after `save` has returned.
    pub fn wait_staged(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.progress.wait_staged(deadline)
    }

    /// Gives the save up if this process has not published its part yet. What was published stays: other ranks may rely on it.
    pub fn cancel(&self) {
        self.progress.cancel();
        self.outlive.cancel();
    }

    /// Its key.
    pub fn key(&self) -> SaveKey {
        self.progress.key()
    }

    /// The name of the checkpoint that it becomes.
    pub fn name(&self) -> CheckpointName {
        CheckpointName {
            run: self.run,
            key: self.key(),
        }
    }
}

/// An error of its own that says what `error` says, causes included.
pub(crate) fn share(error: &Arc<Error>) -> Error {
    let shared = Error::new(error.kind(), error.message());
    let shared = match error.hint() {
        Some(hint) => shared.with_hint(hint),
        None => shared,
    };
    match std::error::Error::source(error.as_ref()) {
        Some(_) => shared.with_source(Cause(Arc::clone(error))),
        None => shared,
    }
}

/// The source of a shared error.
#[derive(Debug)]
struct Cause(Arc<Error>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::error::Error::source(self.0.as_ref()) {
            Some(source) => write!(f, "{source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self.0.as_ref())?.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_error_says_what_the_first_one_said() {
        let cause = std::io::Error::other("disk on fire");
        let error = Arc::new(
            Error::unavailable("can not write chunk")
                .with_hint("call 112")
                .with_source(cause),
        );
        let shared = share(&error);
        assert_eq!(shared.chain(), "can not write chunk: disk on fire");
        assert_eq!(shared.hint(), Some("call 112"));
        assert_eq!(shared.kind(), error.kind());
    }
}
