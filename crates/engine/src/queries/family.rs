//! The tree that a run belongs to.

use std::collections::BTreeMap;

use runtree_core::filter::{Filter, Relation};
use runtree_core::lineage::{AttemptFacts, AttemptId, Timeline};
use runtree_core::manifest::BasePoint;
use runtree_core::{AttemptNumber, Result, RunId, wire};
use runtree_index::{AttemptRow, Deleted, Order, RunRow, RunSort, Snapshot};
use serde_json::Value;

use super::detail::attempt_infos;
use super::last_good;
use super::list::{Labels, to_summary};
use crate::engine::Engine;
use crate::runs::{config, require_row};
use crate::settings::active_last;

/// Members fetched at once.
const PAGE: u32 = 1000;

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
        let rows = self.family_rows(snapshot, row.root)?;
        let mut labels = Labels::default();
        labels.learn(rows.values());
        let mut runs = Vec::new();
        for member in snapshot.family(row.root)? {
            if let Some(row) = rows.get(&member) {
                let before = row
                    .record
                    .fork
                    .as_ref()
                    .and_then(|fork| rows.get(&fork.owner.run));
                runs.push(self.lineage_run(snapshot, &mut labels, row, before)?);
            }
        }
        let chosen = self.chosen_head(snapshot, row.root)?;
        let head = match chosen.or_else(|| active_last(rows.values())) {
            Some(head) => Some(labels.get(snapshot, head)?),
            None => None,
        };
        Ok(wire::LineageTree {
            root: row.root.to_string(),
            experiment: row.record.experiment,
            head,
            head_is_set: chosen.is_some(),
            runs,
        })
    }

    /// Every member of a family, deleted ones included, in few queries.
    pub(crate) fn family_rows(
        &self,
        snapshot: &dyn Snapshot,
        root: RunId,
    ) -> Result<BTreeMap<RunId, RunRow>> {
        let mut query = runtree_index::RunQuery::new(self.liveness());
        query.filter = Filter::Relative(Relation::Root, root);
        query.deleted = Deleted::Include;
        query.sort = RunSort::Created;
        query.order = Order::Ascending;
        query.limit = PAGE;
        let mut rows = BTreeMap::new();
        loop {
            let slice = snapshot.runs(&query)?;
            rows.extend(slice.runs.into_iter().map(|row| (row.record.run, row)));
            match slice.next_cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(rows),
            }
        }
    }

    fn lineage_run(
        &self,
        snapshot: &dyn Snapshot,
        labels: &mut Labels,
        row: &RunRow,
        owner: Option<&RunRow>,
    ) -> Result<wire::LineageRun> {
        let run = row.record.run;
        let attempts = snapshot.attempts(run)?;
        let timeline = own_timeline(run, &attempts)?;
        let checkpoints = snapshot.checkpoints(run)?;
        let nothing = Value::Object(serde_json::Map::new());
        let before = owner.map_or(&nothing, |owner| &owner.config);
        let mut summary = to_summary(snapshot, labels, row.clone())?;
        last_good::advise(snapshot, run, &mut summary)?;
        Ok(wire::LineageRun {
            config_diff: config::diff(before, &row.config),
            attempts: attempt_infos(snapshot, labels, &timeline, attempts)?,
            checkpoints: self.to_infos(snapshot, labels, run, &timeline, &checkpoints)?,
            summary,
        })
    }
}

/// The part of a run's timeline that is its own. What lies above its first attempt is one stretch of nobody's (attempt 0), so that a
/// tree of a thousand runs is not walked a thousand times to its root.
fn own_timeline(run: RunId, attempts: &[AttemptRow]) -> Result<Timeline> {
    let above = AttemptId {
        run,
        attempt: AttemptNumber(0),
    };
    let mut facts = BTreeMap::from([(
        above,
        AttemptFacts {
            base: None,
            lowered_start: None,
        },
    )]);
    for row in attempts {
        let base = row.record.base.map(|base| {
            if base.run == run {
                base
            } else {
                BasePoint {
                    run,
                    attempt: above.attempt,
                    ..base
                }
            }
        });
        let id = AttemptId {
            run,
            attempt: row.record.attempt,
        };
        facts.insert(
            id,
            AttemptFacts {
                base,
                lowered_start: row.lowered_start,
            },
        );
    }
    let leaf = attempts.last().map_or(above, |row| AttemptId {
        run,
        attempt: row.record.attempt,
    });
    Timeline::of(&facts, leaf)
}
