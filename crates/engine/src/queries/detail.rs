//! A run, whole.

use runtree_core::lineage::{AttemptId, Segment, Timeline};
use runtree_core::{AttemptNumber, Result, RunId, Step, wire};
use runtree_index::{AlertRow, AttemptRow, MetricChoice, Snapshot, WriterRow};
use serde_json::Value;

use super::compare::resume_report_in;
use super::last_good;
use super::list::Labels;
use super::media::MAX_ALERTS;
use super::metrics::metric_infos;
use crate::engine::Engine;
use crate::runs::{config, require_row};
use crate::series::timeline_of;

/// Most processes that a run's page lists: a launch of thousands of ranks needs no more to be recognised.
const MAX_PROCESSES: usize = 256;

impl Engine {
    /// A run, whole.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn run(&self, run: RunId) -> Result<wire::RunDetail> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let snapshot = &*snapshot;
        let mut labels = Labels::default();
        let row = require_row(self, snapshot, run)?;
        let timeline = timeline_of(snapshot, run)?;
        let mut children = Vec::new();
        for child in snapshot.children(run)? {
            let Some(row) = snapshot.run(child, &MetricChoice::None, self.liveness())? else {
                continue;
            };
            if let Some(fork) = row.record.fork.as_ref().filter(|_| !row.deleted) {
                children.push(wire::ChildInfo {
                    fork_step: fork.owner.step,
                    status: row.status,
                    run: labels.get(snapshot, child)?,
                });
            }
        }
        let mut summary = self.summary_in(snapshot, &mut labels, run)?;
        last_good::advise(snapshot, run, &mut summary)?;
        Ok(wire::RunDetail {
            summary,
            notes: row.notes.clone(),
            attempts: attempt_infos(snapshot, &mut labels, &timeline, snapshot.attempts(run)?)?,
            segments: segment_infos(snapshot, &mut labels, &timeline)?,
            children,
            config_diff: self.config_diff_in(snapshot, run)?,
            metrics: metric_infos(snapshot, run, &timeline)?,
            resume_report: resume_report_in(snapshot, run)?,
            files: snapshot
                .files(run)?
                .into_iter()
                .map(|file| wire::FileInfo {
                    name: file.name,
                    bytes: file.bytes,
                    at: file.at,
                })
                .collect(),
            alerts: alert_infos(snapshot, run)?,
            processes: process_infos(snapshot.writers(run)?),
            lost: snapshot
                .lost(run)?
                .into_iter()
                .map(|lost| wire::LostPoints {
                    reason: lost.reason,
                    points: lost.points,
                    at: lost.at,
                })
                .collect(),
        })
    }

    /// The stretches of a run's effective history, root first.
    ///
    /// # Errors
    /// As [`Engine::timeline`].
    pub fn segments(&self, run: RunId) -> Result<Vec<wire::SegmentInfo>> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        segment_infos(&*snapshot, &mut Labels::default(), &timeline)
    }

    /// What a run's config changes against its owner's; without a parent, every key.
    fn config_diff_in(
        &self,
        snapshot: &dyn Snapshot,
        run: RunId,
    ) -> Result<Vec<wire::ConfigChange>> {
        let row = require_row(self, snapshot, run)?;
        let nothing = Value::Object(serde_json::Map::new());
        let owner = match &row.record.fork {
            Some(fork) => snapshot.run(fork.owner.run, &MetricChoice::None, self.liveness())?,
            None => None,
        };
        let before = owner.map_or(nothing, |owner| owner.config);
        Ok(config::diff(&before, &row.config))
    }
}

fn alert_infos(snapshot: &dyn Snapshot, run: RunId) -> Result<Vec<wire::AlertInfo>> {
    let alerts = snapshot.alerts(run, MAX_ALERTS)?.into_iter();
    let info = |alert: AlertRow| wire::AlertInfo {
        title: alert.title,
        text: alert.text,
        level: alert.level,
        step: alert.step,
        at: alert.at,
        attempt: alert.attempt.unwrap_or(AttemptNumber::FIRST),
        rank: alert.rank,
    };
    Ok(alerts.map(info).collect())
}

/// The processes of the newest launches, by launch and rank.
fn process_infos(writers: Vec<WriterRow>) -> Vec<wire::ProcessInfo> {
    let mut processes: Vec<wire::ProcessInfo> = writers
        .into_iter()
        .filter_map(|writer| {
            Some(wire::ProcessInfo {
                attempt: writer.attempt?,
                rank: writer.rank,
                world_size: writer.world_size,
                opened: writer.opened,
                last_alive: writer.last_alive,
                closed: writer.closed,
                facts: writer.process,
            })
        })
        .collect();
    processes.sort_by_key(|process| (process.attempt, process.rank, process.opened));
    let extra = processes.len().saturating_sub(MAX_PROCESSES);
    processes.drain(..extra);
    processes
}

fn segment_infos(
    snapshot: &dyn Snapshot,
    labels: &mut Labels,
    timeline: &Timeline,
) -> Result<Vec<wire::SegmentInfo>> {
    let segments = timeline.segments();
    labels.look_up(snapshot, segments.iter().map(|segment| segment.id.run))?;
    let info = |segment: &Segment| {
        Ok(wire::SegmentInfo {
            run: labels.get(snapshot, segment.id.run)?,
            attempt: segment.id.attempt,
            first: (segment.first != Step::MIN).then_some(segment.first),
            last: (segment.last != Step::MAX).then_some(segment.last),
        })
    };
    segments.iter().map(info).collect()
}

pub(super) fn attempt_infos(
    snapshot: &dyn Snapshot,
    labels: &mut Labels,
    timeline: &Timeline,
    attempts: Vec<AttemptRow>,
) -> Result<Vec<wire::AttemptInfo>> {
    let info = |row: AttemptRow| {
        let base = match row.record.base {
            Some(base) => Some(wire::BaseInfo {
                run: labels.get(snapshot, base.run)?,
                attempt: base.attempt,
                step: base.step,
            }),
            None => None,
        };
        let id = AttemptId {
            run: row.record.run,
            attempt: row.record.attempt,
        };
        Ok(wire::AttemptInfo {
            attempt: row.record.attempt,
            kind: row.record.kind,
            base,
            checkpoint_step: row.record.checkpoint.map(|name| name.key.step),
            created: row.record.created,
            last_activity: row.last_activity,
            steps: row
                .steps
                .map(|(first, last)| wire::StepRange { first, last }),
            ghost_from: ghost_from(timeline, id, row.steps),
            launch: row.record.launch,
        })
    };
    attempts.into_iter().map(info).collect()
}

/// The abandoned tails of a run's launches.
pub(super) fn ghost_tails(
    timeline: &Timeline,
    run: RunId,
    attempts: &[AttemptRow],
) -> Vec<wire::GhostTail> {
    let tail = |row: &AttemptRow| {
        let attempt = row.record.attempt;
        let from = ghost_from(timeline, AttemptId { run, attempt }, row.steps)?;
        Some(wire::GhostTail { attempt, from })
    };
    attempts.iter().filter_map(tail).collect()
}

/// First step of an attempt's own that is beyond its stretch of the timeline.
fn ghost_from(timeline: &Timeline, id: AttemptId, steps: Option<(Step, Step)>) -> Option<Step> {
    let (first, last) = steps?;
    let stretch = timeline.segments().iter().find(|segment| segment.id == id);
    match stretch {
        None => Some(first),
        Some(segment) if last > segment.last => Some(segment.last.next().max(first)),
        Some(_) => None,
    }
}
