//! What earlier launches left unfinished: saves whose parts are there and whose commit is not.
//!
//! Two different things, done by whoever starts the next launch of the run, and by nobody else:
//!
//! 1. *Before* the launch decides where it continues: a save whose parts are all confirmed becomes a checkpoint. Its ranks died between
//!    confirming and committing; nothing of it is missing, and the launch may resume from it.
//! 2. *After* the launch exists: a save of an earlier launch whose newest part is more than [`PATIENCE`] older than the launch is given up.
//!    Until then a rank of the old launch, fenced or not, may still say so in its own `result()`; after it nobody waits any more. Ages are the
//!    difference of two times that the store stamped, never a clock here, so that a wrong clock on one host gives nothing up.
//!
//! Neither is needed for correctness: a commit has one winner, whatever it says, and a pending save is invisible. It is about bytes: a pending
//! save is a root of gc for ever, an abandoned one is not.

use runtree_core::{AttemptNumber, ErrorKind, Result, RunId, SaveKey};
use runtree_store::layout;

use crate::engine::Engine;

/// How much older than a launch the parts of an abandoned save are: what `PendingSave::result` waits for other ranks.
pub(crate) const PATIENCE_SECONDS: i64 = 600;

impl Engine {
    /// Commits what is complete.
    pub(super) fn finish_pending(&self, run: RunId) -> Result<()> {
        for key in self.store.list_pending(run)? {
            match self.store.help_commit(run, key) {
                Ok(_) => {}
                // Parts that are damaged, or declare different parts, are no checkpoint and never were; nor is a save that was killed before its first part.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Corrupt | ErrorKind::Conflict | ErrorKind::NotFound
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives up what earlier launches than `attempt` left unfinished long before it.
    pub(super) fn reclaim_pending(&self, run: RunId, attempt: AttemptNumber) {
        let pending = self.store.list_pending(run).unwrap_or_default();
        for key in pending.into_iter().filter(|key| key.attempt < attempt) {
            if self.is_out_of_patience(run, key, attempt).unwrap_or(false) {
                // Whoever was faster decided; a store that can not be written is met by the next launch.
                let _ = self.store.abandon(run, key);
            }
        }
    }

    fn is_out_of_patience(&self, run: RunId, key: SaveKey, attempt: AttemptNumber) -> Result<bool> {
        let Some(launch) = self.store.head(&layout::attempt(run, attempt))? else {
            return Ok(false);
        };
        let mut newest = None;
        for part in self.store.list_parts(run, key)? {
            let path = layout::part(run, key, &part.component, part.rank);
            newest = newest.max(self.store.head(&path)?.map(|part| part.last_modified));
        }
        Ok(newest.is_some_and(|newest| {
            (launch.last_modified - newest).num_seconds() >= PATIENCE_SECONDS
        }))
    }
}
