//! Charts: buckets per pixel column.

use runtree_core::float::JsonFloat;
use runtree_core::lineage::{AttemptId, Segment, Timeline};
use runtree_core::{Error, Result, RunId, wire};
use runtree_index::Snapshot;
use runtree_metrics::{Buckets, Query};

use super::read::{self, MetricName, SeriesView, SystemMetric};
use crate::engine::Engine;
use crate::resolve::Purpose;
use crate::runs::newest_attempt_of;

/// Most series of one request.
const MAX_SERIES: usize = 1000;

impl Engine {
    /// Buckets for charts: first, min, max, mean, last, count per pixel column, exact for the interval each declares.
    ///
    /// # Errors
    /// `NotFound` if a run is not there; `Invalid` if the request is out of bounds. A metric that a run does not have is an empty series.
    pub fn series(&self, request: &wire::SeriesRequest) -> Result<wire::SeriesResponse> {
        if request.series.len() > MAX_SERIES {
            return Err(Error::invalid(format!(
                "a request has at most {MAX_SERIES} series, this one {}",
                request.series.len()
            )));
        }
        self.refresh()?;
        let mut runs = Vec::with_capacity(request.series.len());
        for selector in &request.series {
            runs.push(self.resolve_run(&selector.run, None, Purpose::Read)?);
        }
        let snapshot = self.snapshot()?;
        let series = request
            .series
            .iter()
            .zip(runs)
            .map(|(selector, run)| self.buckets(&*snapshot, request, selector, run))
            .collect::<Result<_>>()?;
        Ok(wire::SeriesResponse { series })
    }

    fn buckets(
        &self,
        snapshot: &dyn Snapshot,
        request: &wire::SeriesRequest,
        selector: &wire::SeriesSelector,
        run: RunId,
    ) -> Result<wire::SeriesBuckets> {
        let metric = MetricName::parse(&selector.metric);
        self.check_lineage(run)?;
        let segments = segments_of(snapshot, run, &metric, selector.attempt, request.inherited)?;
        self.check_damage(segments.iter().map(|segment| segment.id.run))?;
        let rows = read::rows_of(snapshot, &segments, vec![metric.name.clone()])?;
        let view = SeriesView::along(snapshot, &segments, &metric, &rows)?;
        let query = Query {
            axis: request.x,
            from: request.from,
            to: request.to,
            pixels: request.pixels.max(1),
            shifts: Vec::new(),
        };
        let buckets = view.stitched().buckets(&query, &view)?;
        Ok(to_wire(selector, run, &segments, &buckets))
    }
}

/// Which segments show a metric of a run.
pub(super) fn segments_of(
    snapshot: &dyn Snapshot,
    run: RunId,
    metric: &MetricName,
    attempt: Option<runtree_core::AttemptNumber>,
    inherited: bool,
) -> Result<Vec<Segment>> {
    if let Some(attempt) = attempt {
        return Ok(read::own_segment(AttemptId { run, attempt }));
    }
    if kind_of(snapshot, run, metric)? == SystemMetric::Yes {
        return read::system_segments(snapshot, run, Some(metric));
    }
    let timeline = timeline_of(snapshot, run)?;
    Ok(read::user_segments(&timeline, run, inherited))
}

/// Whether a metric is the machine's.
fn kind_of(snapshot: &dyn Snapshot, run: RunId, metric: &MetricName) -> Result<SystemMetric> {
    let attempts = snapshot.attempts(run)?;
    let filter = runtree_index::SeriesFilter {
        attempts: attempts
            .iter()
            .map(|row| AttemptId {
                run,
                attempt: row.record.attempt,
            })
            .collect(),
        metrics: vec![metric.name.clone()],
    };
    let system = snapshot.series(&filter)?.iter().any(|row| row.system);
    Ok(if system {
        SystemMetric::Yes
    } else {
        SystemMetric::No
    })
}

/// The effective history of a run's newest attempt.
pub(crate) fn timeline_of(snapshot: &dyn Snapshot, run: RunId) -> Result<Timeline> {
    let leaf = newest_attempt_of(snapshot, run)?;
    Timeline::of(&Attempts(snapshot), leaf)
}

/// A borrowed snapshot as a source of attempts.
pub(crate) struct Attempts<'a>(pub(crate) &'a dyn Snapshot);

impl runtree_core::lineage::AttemptSource for Attempts<'_> {
    fn attempt(&self, id: AttemptId) -> Result<Option<runtree_core::lineage::AttemptFacts>> {
        self.0.attempt(id)
    }
}

fn to_wire(
    selector: &wire::SeriesSelector,
    run: RunId,
    segments: &[Segment],
    buckets: &Buckets,
) -> wire::SeriesBuckets {
    // Segments without a point draw nothing and are left out.
    let mut index_of = vec![None; segments.len()];
    let mut shown = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let Some(x_start) = buckets.starts.get(index).copied().flatten() else {
            continue;
        };
        index_of[index] = Some(shown.len() as u32);
        shown.push(wire::SeriesSegment {
            run: segment.id.run.to_string(),
            attempt: segment.id.attempt,
            inherited: segment.id.run != run,
            x_start,
        });
    }
    let list = &buckets.buckets;
    let floats = |of: fn(&runtree_metrics::Bucket) -> f64| -> Vec<JsonFloat> {
        list.iter().map(|bucket| JsonFloat(of(bucket))).collect()
    };
    wire::SeriesBuckets {
        run: run.to_string(),
        metric: selector.metric.clone(),
        attempt: selector.attempt,
        points: buckets.points,
        x_first: list.iter().map(|bucket| bucket.x_first).collect(),
        x_last: list.iter().map(|bucket| bucket.x_last).collect(),
        min: floats(|bucket| bucket.min),
        max: floats(|bucket| bucket.max),
        mean: floats(|bucket| bucket.mean),
        first: floats(|bucket| bucket.first),
        last: floats(|bucket| bucket.last),
        count: list.iter().map(|bucket| bucket.count).collect(),
        nonfinite: list.iter().map(|bucket| bucket.nonfinite).collect(),
        segment: list
            .iter()
            .map(|bucket| index_of[bucket.segment as usize].unwrap_or_default())
            .collect(),
        segments: shown,
    }
}
