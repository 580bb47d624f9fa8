//! What there is to ask for: the keys of a project, and what can be drawn of a run. Names alone, no values: a page asks this of runs with ten
//! thousand metrics.

use std::collections::BTreeSet;

use runtree_core::{ProjectName, Result, RunId, wire};

use super::detail::ghost_tails;
use crate::engine::Engine;
use crate::series::{MetricName, rows_of, timeline_of};

impl Engine {
    /// Metrics, config keys and tags of the runs of a project, each sorted; a project without runs has none.
    ///
    /// # Errors
    /// `Invalid` if that is no project name.
    pub fn project_keys(&self, project: &str) -> Result<wire::ProjectKeys> {
        let project: ProjectName = project.parse()?;
        self.refresh()?;
        let keys = self.snapshot()?.known_keys(&project)?;
        Ok(wire::ProjectKeys {
            metrics: keys.metrics,
            config: keys.config,
            tags: keys.tags,
        })
    }

    /// What can be drawn of some runs, in the order asked.
    ///
    /// # Errors
    /// `NotFound` if one is not in this store.
    pub fn outlines(&self, runs: &[RunId]) -> Result<Vec<wire::RunOutline>> {
        self.refresh()?;
        runs.iter().map(|&run| self.outline(run)).collect()
    }

    fn outline(&self, run: RunId) -> Result<wire::RunOutline> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        let segments = timeline.segments();
        let rows = rows_of(&*snapshot, segments, Vec::new())?;
        let mut metrics = BTreeSet::new();
        for segment in segments {
            let logged = rows.get(&segment.id).into_iter().flatten();
            // What an ancestor only logged after the fork is not this run's.
            let shown = logged.filter(|row| {
                !row.system
                    && row.stats.first.step <= segment.last
                    && row.stats.last.step >= segment.first
            });
            metrics.extend(shown.map(|row| MetricName::of(row).to_string()));
        }
        Ok(wire::RunOutline {
            run: run.to_string(),
            metrics: metrics.into_iter().collect(),
            ghosts: ghost_tails(&timeline, run, &snapshot.attempts(run)?),
        })
    }
}
