//! Store → index: what is new in the store becomes rows. The index is a cache; nothing reads it to decide what to write.

use runtree_core::{Error, Result, RunId};

use crate::engine::Engine;

/// How far a reindex has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReindexProgress {
    /// Runs folded.
    pub runs_done: u64,
    /// Runs in the store.
    pub runs: u64,
}

/// What a reindex found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReindexReport {
    /// Runs.
    pub runs: u64,
    /// Launches.
    pub attempts: u64,
    /// Checkpoints, whatever became of them.
    pub checkpoints: u64,
    /// Journal frames.
    pub frames: u64,
}

impl Engine {
    /// Folds what is new in the store into the index. Cheap when nothing changed; every query calls it first.
    pub fn refresh(&self) -> Result<()> {
        Err(Error::internal("not built yet"))
    }

    /// Deletes the index and folds the whole store again.
    pub fn reindex(&self) -> Result<ReindexReport> {
        self.reindex_with(&mut |_| {})
    }

    /// [`Engine::reindex`], telling how far it is.
    pub fn reindex_with(
        &self,
        progress: &mut dyn FnMut(ReindexProgress),
    ) -> Result<ReindexReport> {
        let _ = progress;
        Err(Error::internal("not built yet"))
    }

    /// Grows whenever a refresh found something new.
    pub fn change_counter(&self) -> u64 {
        0
    }

    /// The counter now, and the runs that changed since it was `counter` (all runs if that is too long ago).
    pub fn changes_since(&self, counter: u64) -> (u64, Vec<RunId>) {
        (counter, Vec::new())
    }
}
