//! Siblings: what was tried from one checkpoint, side by side.

use std::collections::BTreeSet;

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::{Reference, is_loss_like};
use runtree_core::{Error, Result, wire};
use runtree_index::{MetricChoice, RunRow, Snapshot};

use super::list::{Labels, to_summary};
use crate::engine::Engine;
use crate::resolve::Purpose;
use crate::runs::{config, require_row};

/// Checkpoints that an error names.
const LISTED: usize = 8;

impl Engine {
    /// The runs that were forked from one checkpoint: their summaries, the config keys in which they or their parent differ, their
    /// metrics. A bare run means its newest checkpoint.
    ///
    /// # Errors
    /// `NotFound` if the checkpoint is not there or nothing was forked from it: those of the run that were forked are listed.
    pub fn sweep(&self, reference: &Reference, project: Option<&str>) -> Result<wire::SweepTable> {
        let name = self.resolve_checkpoint(reference, project, Purpose::Read)?;
        self.refresh_for(name.run)?;
        let snapshot = self.snapshot()?;
        let snapshot = &*snapshot;
        let forks = self.forks_of(snapshot, name)?;
        let siblings: Vec<&RunRow> = forks
            .iter()
            .filter(|row| forked_at(row) == Some(name))
            .collect();
        let parent = snapshot
            .run(name.run, &MetricChoice::All, self.liveness())?
            .map_or_else(|| require_row(self, snapshot, name.run), Ok)?;
        let reference = format!("{}@{}", parent.record.display_id, name.key.step);
        if siblings.is_empty() {
            let error = Error::not_found(format!("nothing was forked from {reference}"));
            return Err(error.with_hint(others(&parent, &forks)));
        }
        let mut keys = BTreeSet::new();
        for row in &siblings {
            let changes = config::diff(&parent.config, &row.config);
            keys.extend(changes.into_iter().map(|change| change.key));
        }
        let rows = || std::iter::once(&parent).chain(siblings.iter().copied());
        let names: BTreeSet<&String> = rows().flat_map(|row| row.metrics.keys()).collect();
        let metrics = names.into_iter().map(|name| wire::SweepMetric {
            name: name.clone(),
            lower_is_better: is_loss_like(name),
        });
        let metrics = metrics.collect();
        let mut labels = Labels::default();
        Ok(wire::SweepTable {
            reference,
            config_keys: keys.into_iter().collect(),
            metrics,
            runs: siblings
                .into_iter()
                .map(|row| to_summary(snapshot, &mut labels, row.clone()))
                .collect::<Result<_>>()?,
            parent: to_summary(snapshot, &mut labels, parent)?,
        })
    }

    /// Runs that were forked from checkpoints of a run, deleted ones left out.
    fn forks_of(&self, snapshot: &dyn Snapshot, name: CheckpointName) -> Result<Vec<RunRow>> {
        let mut rows = Vec::new();
        for child in snapshot.children(name.run)? {
            let row = snapshot.run(child, &MetricChoice::All, self.liveness())?;
            rows.extend(row.filter(|row| !row.deleted && forked_at(row).is_some()));
        }
        Ok(rows)
    }
}

/// The checkpoint a run was forked at: not one that lies before its fork step.
fn forked_at(row: &RunRow) -> Option<CheckpointName> {
    let fork = row.record.fork.as_ref()?;
    fork.checkpoint
        .filter(|name| name.key.step == fork.owner.step)
}

fn others(parent: &RunRow, forks: &[RunRow]) -> String {
    let own = forks.iter().filter_map(forked_at);
    let steps: BTreeSet<_> = own
        .filter(|name| name.run == parent.record.run)
        .map(|name| name.key.step)
        .collect();
    if steps.is_empty() {
        return format!("fork it: runtree fork {}@STEP", parent.record.display_id);
    }
    let listed: Vec<String> = steps
        .iter()
        .take(LISTED)
        .map(|step| format!("{}@{step}", parent.record.display_id))
        .collect();
    format!("there are forks of {}", listed.join(", "))
}
