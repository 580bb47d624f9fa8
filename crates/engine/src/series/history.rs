//! Histories: points by columns.

use runtree_core::lineage::Segment;
use runtree_core::{Error, Result, RunId, Step};
use runtree_index::Snapshot;
use runtree_metrics::{Points, StitchedPoints};

use super::chart::{segments_of, timeline_of};
use super::read::{self, MetricName, SeriesView};
use super::{HistoryColumns, HistoryQuery, HistoryStretch};
use crate::engine::Engine;

/// A column of a thinned history keeps its first, smallest, largest and last point.
const POINTS_PER_COLUMN: usize = 4;

impl Engine {
    /// Points of a metric along a run's timeline.
    ///
    /// # Errors
    /// `NotFound` if the run is not there, or never had the metric: the names it has are listed.
    pub fn history(&self, run: RunId, metric: &str, query: HistoryQuery) -> Result<HistoryColumns> {
        self.refresh()?;
        self.refresh_known(run)?;
        self.check_lineage(run)?;
        let snapshot = self.snapshot()?;
        let name = MetricName::parse(metric);
        let segments = segments_of(&*snapshot, run, &name, query.attempt, query.inherited)?;
        self.check_damage(segments.iter().map(|segment| segment.id.run))?;
        let rows = read::rows_of(&*snapshot, &segments, vec![name.name.clone()])?;
        if rows.is_empty() {
            self.require_metric(&*snapshot, run, metric)?;
        }
        let view = SeriesView::along(&*snapshot, &segments, &name, &rows)?;
        let (first, last) = query.steps.unwrap_or((Step::MIN, Step::MAX));
        let found = view.stitched().points(first, last, &view)?;
        Ok(columns(&segments, &found, query.points))
    }

    /// The effective value of a metric at some ascending steps.
    pub(crate) fn values_at(
        &self,
        run: RunId,
        metric: &str,
        steps: &[Step],
    ) -> Result<Vec<Option<f64>>> {
        let snapshot = self.snapshot()?;
        let segments: Vec<Segment> = timeline_of(&*snapshot, run)?.segments().to_vec();
        let name = MetricName::parse(metric);
        let rows = read::rows_of(&*snapshot, &segments, vec![name.name.clone()])?;
        let view = SeriesView::along(&*snapshot, &segments, &name, &rows)?;
        steps
            .iter()
            .map(|step| {
                let point = view.stitched().point_at(*step, &view)?;
                Ok(point.map(|(point, _)| point.value))
            })
            .collect()
    }

    /// Refuses a metric that no launch of the timeline has ever logged.
    fn require_metric(&self, snapshot: &dyn Snapshot, run: RunId, metric: &str) -> Result<()> {
        let segments = timeline_of(snapshot, run)?.segments().to_vec();
        let rows = read::rows_of(snapshot, &segments, Vec::new())?;
        let mut names: Vec<String> = rows
            .values()
            .flatten()
            .map(|row| MetricName::of(row).to_string())
            .collect();
        names.sort();
        names.dedup();
        if names.iter().any(|name| name == metric) {
            return Ok(());
        }
        let record = self.store.read_run(run)?;
        let error = Error::not_found(format!(
            "run {} has no metric {metric:?}",
            record.display_id
        ));
        Err(if names.is_empty() {
            error.with_hint("it has logged nothing yet")
        } else {
            error.with_hint(format!("it has {}", names.join(", ")))
        })
    }
}

fn columns(segments: &[Segment], found: &StitchedPoints, at_most: Option<usize>) -> HistoryColumns {
    let keep = at_most
        .filter(|at_most| *at_most < found.points.len())
        .map(|at_most| thin(&found.points, at_most));
    let indexes: Box<dyn Iterator<Item = usize>> = match keep {
        Some(keep) => Box::new(keep.into_iter()),
        None => Box::new(0..found.points.len()),
    };
    let mut columns = HistoryColumns::default();
    for index in indexes {
        columns.steps.push(found.points.steps()[index]);
        columns.values.push(found.points.values()[index]);
        columns.timestamps.push(found.points.timestamps()[index]);
        let id = segments[found.segments[index] as usize].id;
        match columns.stretches.last_mut() {
            Some(stretch) if stretch.run == id.run && stretch.attempt == id.attempt => {
                stretch.points += 1;
            }
            _ => columns.stretches.push(HistoryStretch {
                run: id.run,
                attempt: id.attempt,
                points: 1,
            }),
        }
    }
    columns
}

/// Indexes of first, smallest, largest and last point of equal columns of steps, ascending. A point that is not finite is kept in
/// preference to the largest, so that it is never thinned away unseen.
fn thin(points: &Points, at_most: usize) -> Vec<usize> {
    let columns = (at_most / POINTS_PER_COLUMN).max(1) as i128;
    let (steps, values) = (points.steps(), points.values());
    let (Some(&first), Some(&last)) = (steps.first(), steps.last()) else {
        return Vec::new();
    };
    let span = i128::from(last) - i128::from(first) + 1;
    let column_of = |step: i64| (i128::from(step) - i128::from(first)) * columns / span;
    let mut kept = Vec::with_capacity(at_most);
    let mut start = 0;
    while start < steps.len() {
        let column = column_of(steps[start]);
        let width = steps[start..].partition_point(|&step| column_of(step) == column);
        let range = start..start + width;
        let finite = || range.clone().filter(|&index| values[index].is_finite());
        let smallest = finite().reduce(|a, b| if values[b] < values[a] { b } else { a });
        let largest = finite().reduce(|a, b| if values[b] > values[a] { b } else { a });
        let odd = range.clone().find(|&index| !values[index].is_finite());
        let mut column: Vec<usize> = [Some(start), smallest, odd.or(largest), Some(range.end - 1)]
            .into_iter()
            .flatten()
            .collect();
        column.sort_unstable();
        column.dedup();
        kept.extend(column);
        start = range.end;
    }
    kept
}
