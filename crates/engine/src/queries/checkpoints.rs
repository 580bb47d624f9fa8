//! Checkpoints, as lists and `latest` see them.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::float::JsonFloat;
use runtree_core::lineage::{AttemptId, Timeline};
use runtree_core::manifest::{CheckpointName, Outcome};
use runtree_core::wire::CheckpointState;
use runtree_core::{CheckpointId, Error, Result, RunId, Step, wire};
use runtree_index::{CheckpointRow, Snapshot};

use super::CheckpointScope;
use super::list::Labels;
use super::quarantine::{Quarantine, add_unlisted};
use crate::engine::Engine;
use crate::series::{MetricName, SeriesView, rows_of, timeline_of};

impl Engine {
    /// Checkpoints of a run, ascending by step; at one step the one that counts is last.
    ///
    /// # Errors
    /// `NotFound` if the run is not there.
    pub fn checkpoints(
        &self,
        run: RunId,
        scope: CheckpointScope,
    ) -> Result<Vec<wire::CheckpointInfo>> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        let quarantine = self.quarantine(&*snapshot, run, &timeline)?;
        let mut rows = snapshot.checkpoints(run)?;
        add_unlisted(&mut rows, run, &quarantine);
        if scope.inherited {
            let inherited = quarantine.effective_or_damaged(&*snapshot, &timeline)?;
            rows.extend(inherited.into_iter().filter(|row| row.name.run != run));
        }
        rows.retain(|row| match state_of(row, &quarantine) {
            CheckpointState::Complete | CheckpointState::Quarantined => true,
            CheckpointState::Pending | CheckpointState::Abandoned => scope.pending,
            CheckpointState::Deleted => scope.deleted,
        });
        sort(&mut rows, &timeline);
        let mut labels = Labels::default();
        let mut infos = self.to_infos(&*snapshot, &mut labels, run, &timeline, &rows)?;
        add_effective_metrics(&*snapshot, &timeline, &rows, &mut infos)?;
        Ok(infos)
    }

    /// One checkpoint, as the run that saved it sees it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn checkpoint_info(&self, checkpoint: CheckpointName) -> Result<wire::CheckpointInfo> {
        self.refresh_for(checkpoint.run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, checkpoint.run)?;
        let rows: Vec<CheckpointRow> = snapshot
            .checkpoints(checkpoint.run)?
            .into_iter()
            .filter(|row| row.name.key.step == checkpoint.key.step)
            .collect();
        let mut labels = Labels::default();
        let mut infos = self.to_infos(&*snapshot, &mut labels, checkpoint.run, &timeline, &rows)?;
        add_effective_metrics(&*snapshot, &timeline, &rows, &mut infos)?;
        rows.iter()
            .position(|row| row.name == checkpoint)
            .map(|index| infos.swap_remove(index))
            .ok_or_else(|| {
                Error::not_found(format!(
                    "checkpoint {} of run {} is not in this store",
                    checkpoint.key, checkpoint.run
                ))
            })
    }

    /// The checkpoint with an id, whichever run saved it; deleted ones too.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find_checkpoint(&self, id: CheckpointId) -> Result<CheckpointName> {
        self.refresh()?;
        self.snapshot()?.find_checkpoint(id)?.ok_or_else(|| {
            Error::not_found(format!("checkpoint {id} is not in {}", self.location()))
        })
    }

    /// Rows as edges show them, seen by `run` along its `timeline`.
    pub(super) fn to_infos(
        &self,
        snapshot: &dyn Snapshot,
        labels: &mut Labels,
        run: RunId,
        timeline: &Timeline,
        rows: &[CheckpointRow],
    ) -> Result<Vec<wire::CheckpointInfo>> {
        let mut started: BTreeMap<RunId, Vec<(AttemptId, CheckpointName)>> = BTreeMap::new();
        let quarantine = self.quarantine(snapshot, run, timeline)?;
        let mut infos = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let saver = row.name.run;
            if let std::collections::btree_map::Entry::Vacant(entry) = started.entry(saver) {
                entry.insert(snapshot.started_from(saver)?);
            }
            let mut forks = Vec::new();
            for (attempt, checkpoint) in &started[&saver] {
                if *checkpoint == row.name && attempt.run != saver && attempt.attempt.0 == 1 {
                    forks.push(labels.get(snapshot, attempt.run)?);
                }
            }
            let label = labels.get(snapshot, saver)?;
            let effective = is_on(timeline, row.name) && row.is_complete();
            let superseded = rows[index + 1..].iter().any(|later| {
                later.name.key.step == row.name.key.step
                    && later.is_complete()
                    && is_on(timeline, later.name)
            });
            let id = row.id.to_string();
            // `run@500` names the one that counts; any other is named by its id.
            let reference = if effective && !superseded {
                format!("{}@{}", label.display_id, row.name.key.step)
            } else {
                format!("{}@{id}", label.display_id)
            };
            infos.push(wire::CheckpointInfo {
                id,
                reference,
                attempt: row.name.key.attempt,
                step: row.name.key.step,
                k: row.name.key.k,
                name: row.label.clone(),
                created: row.created.unwrap_or_default(),
                state: state_of(row, &quarantine),
                inherited: saver != run,
                effective,
                superseded,
                bytes: row.bytes,
                stored_bytes: None,
                tensors: row.tensors,
                metrics: row
                    .metrics
                    .iter()
                    .map(|(name, value)| (name.clone(), JsonFloat(*value)))
                    .collect(),
                tags: row.tags.clone(),
                pinned: !row.pins.is_empty(),
                parts: row
                    .parts
                    .iter()
                    .map(|part| wire::PartInfo {
                        component: part.component.to_string(),
                        rank: part.rank,
                        present: part.present,
                        bytes: part.bytes,
                    })
                    .collect(),
                forks,
                run: label,
            });
        }
        Ok(infos)
    }
}

/// Complete checkpoints on a timeline, inherited ones included: ascending by step, at one step the one that counts last, so that
/// the last of all is `latest`.
pub(crate) fn effective_checkpoints(
    snapshot: &dyn Snapshot,
    timeline: &Timeline,
) -> Result<Vec<CheckpointRow>> {
    let runs: BTreeSet<RunId> = timeline
        .segments()
        .iter()
        .map(|segment| segment.id.run)
        .collect();
    let runs: Vec<RunId> = runs.into_iter().collect();
    let mut rows = snapshot.checkpoints_of(&runs)?;
    rows.retain(|row| row.is_complete() && is_on(timeline, row.name));
    sort(&mut rows, timeline);
    Ok(rows)
}

/// Where a checkpoint on the timeline was not given a metric, the effective point at its step stands for it.
fn add_effective_metrics(
    snapshot: &dyn Snapshot,
    timeline: &Timeline,
    rows: &[CheckpointRow],
    infos: &mut [wire::CheckpointInfo],
) -> Result<()> {
    let shown = |row: &CheckpointRow| is_on(timeline, row.name);
    if !rows.iter().any(shown) {
        return Ok(());
    }
    let segments = timeline.segments();
    let series = rows_of(snapshot, segments, Vec::new())?;
    let names: BTreeSet<MetricName> = series
        .values()
        .flatten()
        .filter(|row| !row.system)
        .map(MetricName::of)
        .collect();
    for name in names {
        let view = SeriesView::along(snapshot, segments, &name, &series)?;
        let text = name.to_string();
        let mut known: Option<(Step, Option<f64>)> = None;
        for (row, info) in rows.iter().zip(infos.iter_mut()) {
            if !shown(row) || info.metrics.contains_key(&text) {
                continue;
            }
            let step = row.name.key.step;
            let value = match known {
                Some((at, value)) if at == step => value,
                _ => {
                    let point = view.stitched().point_at(step, &view)?;
                    point.map(|(point, _)| point.value)
                }
            };
            known = Some((step, value));
            if let Some(value) = value {
                info.metrics.insert(text.clone(), JsonFloat(value));
            }
        }
    }
    Ok(())
}

pub(crate) fn is_on(timeline: &Timeline, name: CheckpointName) -> bool {
    timeline.holds(
        AttemptId {
            run: name.run,
            attempt: name.key.attempt,
        },
        name.key.step,
    )
}

fn state_of(row: &CheckpointRow, quarantine: &Quarantine) -> CheckpointState {
    match row.outcome {
        _ if row.deleted => CheckpointState::Deleted,
        _ if quarantine.of(row.name).is_some() => CheckpointState::Quarantined,
        None => CheckpointState::Pending,
        Some(Outcome::Abandoned) => CheckpointState::Abandoned,
        Some(Outcome::Committed) => CheckpointState::Complete,
    }
}

/// By step; at one step those off the timeline first, then by how late on the timeline they were saved, then by k.
pub(super) fn sort(rows: &mut [CheckpointRow], timeline: &Timeline) {
    let place = |name: CheckpointName| {
        timeline.segments().iter().rposition(|segment| {
            segment.id.run == name.run
                && segment.id.attempt == name.key.attempt
                && segment.first <= name.key.step
                && name.key.step <= segment.last
        })
    };
    rows.sort_by_cached_key(|row| {
        let key = row.name.key;
        (key.step, place(row.name), key.attempt, key.k, row.name.run)
    });
}
