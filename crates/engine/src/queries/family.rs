//! The tree that a run belongs to.

use runtree_core::{Result, RunId, wire};
use runtree_index::Snapshot;

use super::list::Labels;
use crate::engine::Engine;
use crate::runs::require_row;
use crate::series::timeline_of;

impl Engine {
    /// The family of a run: everything that shares its root. Checkpoints carry the metrics that were given to them, not those of their step.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn lineage(&self, run: RunId) -> Result<wire::LineageTree> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let snapshot = &*snapshot;
        let row = require_row(self, snapshot, run)?;
        let mut labels = Labels::default();
        let mut runs = Vec::new();
        for member in snapshot.family(row.root)? {
            runs.push(self.lineage_run(snapshot, &mut labels, member)?);
        }
        Ok(wire::LineageTree {
            root: row.root.to_string(),
            experiment: row.record.experiment,
            runs,
        })
    }

    fn lineage_run(
        &self,
        snapshot: &dyn Snapshot,
        labels: &mut Labels,
        run: RunId,
    ) -> Result<wire::LineageRun> {
        let timeline = timeline_of(snapshot, run)?;
        let rows = snapshot.checkpoints(run)?;
        Ok(wire::LineageRun {
            summary: self.summary_in(snapshot, labels, run)?,
            attempts: self.attempt_infos(snapshot, labels, run, &timeline)?,
            checkpoints: self.to_infos(snapshot, labels, run, &timeline, &rows)?,
            config_diff: self.config_diff_in(snapshot, run)?,
        })
    }
}
