//! The index anew: deletes what is there and folds the whole store, telling how far it is.

use runtree_core::{Error, Result};
use runtree_index::Index as _;

use super::{Look, Scan, lock};
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
    /// Deletes the index and folds the whole store again.
    pub fn reindex(&self) -> Result<ReindexReport> {
        self.reindex_with(&mut |_| {})
    }

    /// [`Engine::reindex`], telling how far it is.
    ///
    /// # Errors
    /// `Corrupt` that names the first damaged run, after all others were folded; `Unavailable`.
    pub fn reindex_with(&self, progress: &mut dyn FnMut(ReindexProgress)) -> Result<ReindexReport> {
        let mut scan = lock(&self.fold.scan);
        self.index.clear()?;
        *scan = Scan::default();
        self.check_generation(&mut scan)?;
        let runs = self.store.list_runs()?;
        let mut report = ReindexReport::default();
        let mut stamps = self.store.run_stamps(&runs)?;
        let mut failed: Option<Error> = None;
        for (done, run) in runs.iter().enumerate() {
            progress(ReindexProgress {
                runs_done: done as u64,
                runs: runs.len() as u64,
            });
            let stamp = stamps.remove(run);
            if let Err(error) = self.fold_run(&mut scan, *run, Look::ForNews, stamp) {
                failed.get_or_insert(error.in_context(format!("run {run}")));
            }
        }
        self.fold_pins(&mut scan)?;
        drop(scan);
        let snapshot = self.snapshot()?;
        for run in runs {
            let attempts = snapshot.attempts(run)?.len() as u64;
            report.runs += u64::from(attempts > 0);
            report.attempts += attempts;
            report.checkpoints += snapshot.checkpoints(run)?.len() as u64;
            report.frames += snapshot
                .writers(run)?
                .iter()
                .map(|writer| writer.cursor.ordinal)
                .sum::<u64>();
        }
        failed.map_or(Ok(report), Err)
    }
}
