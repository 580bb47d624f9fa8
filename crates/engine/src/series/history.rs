//! Histories: points by columns.

use runtree_core::lineage::Segment;
use runtree_core::{Error, Result, RunId, Step};
use runtree_index::Snapshot;
use runtree_metrics::StitchedPoints;

use super::chart::{segments_of, timeline_of};
use super::read::{self, MetricName, SeriesView};
use super::{HistoryColumns, HistoryQuery, HistoryStretch};
use crate::engine::Engine;
use crate::queries::legible;

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
        let found = match query.points {
            Some(at_most) => view.stitched().thinned(first, last, at_most, &view)?,
            None => view.stitched().points(first, last, &view)?,
        };
        Ok(columns(&segments, found))
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
            let names: Vec<_> = names.iter().map(|name| legible(name)).collect();
            error.with_hint(format!("it has {}", names.join(", ")))
        })
    }
}

fn columns(segments: &[Segment], found: StitchedPoints) -> HistoryColumns {
    let mut stretches: Vec<HistoryStretch> = Vec::new();
    for segment in &found.segments {
        let id = segments[*segment as usize].id;
        match stretches.last_mut() {
            Some(stretch) if stretch.run == id.run && stretch.attempt == id.attempt => {
                stretch.points += 1;
            }
            _ => stretches.push(HistoryStretch {
                run: id.run,
                attempt: id.attempt,
                points: 1,
            }),
        }
    }
    let (steps, timestamps, values) = found.points.into_columns();
    HistoryColumns {
        steps,
        values,
        timestamps,
        stretches,
    }
}
