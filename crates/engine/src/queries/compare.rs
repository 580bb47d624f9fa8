//! Two runs, or a run and its own past, side by side.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::lineage::{AttemptId, Segment};
use runtree_core::manifest::AttemptKind;
use runtree_core::{AttemptNumber, Result, RunId, Step, wire};
use runtree_index::{AttemptRow, MetricChoice, Snapshot};
use runtree_metrics::Points;

use super::list::run_metric;
use crate::engine::Engine;
use crate::runs::{config, require_row};
use crate::series::{MetricName, SeriesView, rows_of};

impl Engine {
    /// What differs between two runs: config and metrics.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn diff_runs(&self, a: RunId, b: RunId) -> Result<wire::DiffReport> {
        self.refresh_for(a)?;
        self.refresh_for(b)?;
        let snapshot = self.snapshot()?;
        let row = |run: RunId| {
            let row = snapshot.run(run, &MetricChoice::All, self.liveness())?;
            row.map_or_else(|| require_row(self, &*snapshot, run), Ok)
        };
        let (left, right) = (row(a)?, row(b)?);
        let names: BTreeSet<&String> = left.metrics.keys().chain(right.metrics.keys()).collect();
        let metrics = names
            .into_iter()
            .map(|name| {
                let pair = wire::MetricPair {
                    a: left.metrics.get(name).map(run_metric),
                    b: right.metrics.get(name).map(run_metric),
                };
                (name.clone(), pair)
            })
            .collect();
        Ok(wire::DiffReport {
            a: left.record.display_id.to_string(),
            b: right.record.display_id.to_string(),
            config: config::diff(&left.config, &right.config),
            tensors: Vec::new(),
            equal_tensors: 0,
            metrics,
        })
    }

    /// How the newest resumed attempt repeats the ghost tail it replaced: steps that both logged, compared bit for bit.
    ///
    /// `None` if the run was never resumed, or repeats nothing.
    ///
    /// # Errors
    /// `NotFound` if the run is not there.
    pub fn resume_report(&self, run: RunId) -> Result<Option<wire::ResumeReport>> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        resume_report_in(&*snapshot, run)
    }
}

pub(super) fn resume_report_in(
    snapshot: &dyn Snapshot,
    run: RunId,
) -> Result<Option<wire::ResumeReport>> {
    let attempts = snapshot.attempts(run)?;
    let resumed = |row: &&AttemptRow| row.record.kind == AttemptKind::Resume;
    let Some(resumed) = attempts.iter().rfind(resumed) else {
        return Ok(None);
    };
    let Some(base) = resumed.record.base else {
        return Ok(None);
    };
    let after = resumed
        .lowered_start
        .map_or(base.step, |lowered| lowered.previous().min(base.step));
    // The newest earlier launch that went beyond the base: what it did there is what was lost, and is repeated now.
    let ghost = attempts.iter().rfind(|row| {
        row.record.attempt < resumed.record.attempt
            && row.steps.is_some_and(|(_, last)| last > after)
    });
    let Some(ghost) = ghost else {
        return Ok(None);
    };
    let (mine, theirs) = (resumed.record.attempt, ghost.record.attempt);
    let repeated = own_points(snapshot, run, mine, after)?;
    let lost = own_points(snapshot, run, theirs, after)?;
    let common: BTreeSet<&MetricName> = repeated
        .keys()
        .filter(|name| lost.contains_key(*name))
        .collect();
    let mut steps: BTreeMap<Step, Option<String>> = BTreeMap::new();
    for name in common {
        let (now, before) = (&repeated[name], &lost[name]);
        for point in now.iter() {
            let Some(was) = before.at(point.step) else {
                continue;
            };
            let differs = steps.entry(point.step).or_default();
            if differs.is_none() && was.value.to_bits() != point.value.to_bits() {
                *differs = Some(name.to_string());
            }
        }
    }
    if steps.is_empty() {
        return Ok(None);
    }
    let equal = steps
        .values()
        .take_while(|differs| differs.is_none())
        .count() as u64;
    let diverged = steps
        .iter()
        .find_map(|(step, differs)| differs.clone().map(|metric| (*step, metric)));
    let text = match &diverged {
        None => format!("bit-equal for {equal} steps"),
        Some((step, metric)) => {
            format!("diverged at {step} ({metric}), bit-equal for {equal} steps before")
        }
    };
    Ok(Some(wire::ResumeReport {
        attempt: mine,
        ghost_attempt: theirs,
        overlapping_steps: steps.len() as u64,
        bit_equal_steps: equal,
        diverged_at: diverged.as_ref().map(|(step, _)| *step),
        metric: diverged.map(|(_, metric)| metric),
        text,
    }))
}

/// What one launch logged itself after a step, users' metrics alone.
fn own_points(
    snapshot: &dyn Snapshot,
    run: RunId,
    attempt: AttemptNumber,
    after: Step,
) -> Result<BTreeMap<MetricName, Points>> {
    let segments = [Segment {
        id: AttemptId { run, attempt },
        first: after.next(),
        last: Step::MAX,
    }];
    let rows = rows_of(snapshot, &segments, Vec::new())?;
    let names: BTreeSet<MetricName> = rows
        .values()
        .flatten()
        .filter(|row| !row.system)
        .map(MetricName::of)
        .collect();
    let mut points = BTreeMap::new();
    for name in names {
        let view = SeriesView::along(snapshot, &segments, &name, &rows)?;
        let found = view.stitched().points(after.next(), Step::MAX, &view)?;
        points.insert(name, found.points);
    }
    Ok(points)
}
