//! Charts: buckets per pixel column.

use runtree_core::lineage::{AttemptId, Segment, Timeline};
use runtree_core::{Error, Result, RunId, Timestamp, wire};
use runtree_index::{Liveness, MetricChoice, Snapshot};
use runtree_metrics::{JoinedQuery, Query, joined};

use super::read::{self, MetricName, SeriesView, SystemMetric};
use super::to_wire;
use crate::engine::Engine;
use crate::resolve::Purpose;

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
        if request.x_metric.is_some() && (request.from.is_some() || request.to.is_some()) {
            let error = Error::invalid("from and to are steps or times; a metric is the x axis");
            return Err(error.with_hint("give the range in x_metric"));
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
        let own = rows.iter().filter(|(id, _)| id.run == run);
        let logged = own
            .flat_map(|(_, rows)| rows)
            .filter(|row| MetricName::of(row) == metric)
            .map(|row| row.stats.points)
            .sum();
        if let Some(axis) = &request.x_metric {
            let whole = axis_segments(snapshot, run, selector.attempt)?;
            // Places come from ancestors, too, whose points may not be drawn at all.
            self.check_damage(whole.iter().map(|segment| segment.id.run))?;
            let over = view_of(snapshot, &whole, &MetricName::parse(&axis.metric))?;
            let query = JoinedQuery {
                mode: axis.mode,
                from: axis.from.map(|edge| edge.0),
                to: axis.to.map(|edge| edge.0),
                pixels: request.pixels.max(1),
            };
            let found = joined(view.stitched(), &view, over.stitched(), &over, &query)?;
            return Ok(to_wire::joined(selector, run, logged, &segments, &found));
        }
        let query = Query {
            axis: request.x,
            from: selector.from.or(request.from),
            to: request.to,
            pixels: request.pixels.max(1),
            shifts: Vec::new(),
        };
        let buckets = view.stitched().buckets(&query, &view)?;
        Ok(to_wire::buckets(selector, run, logged, &segments, &buckets))
    }
}

fn view_of<'a>(
    snapshot: &'a dyn Snapshot,
    segments: &[Segment],
    metric: &MetricName,
) -> Result<SeriesView<'a>> {
    let rows = read::rows_of(snapshot, segments, vec![metric.name.clone()])?;
    SeriesView::along(snapshot, segments, metric, &rows)
}

/// The history that places points on a metric's axis: whole, whatever part of it is drawn, for what was seen before counts.
fn axis_segments(
    snapshot: &dyn Snapshot,
    run: RunId,
    attempt: Option<runtree_core::AttemptNumber>,
) -> Result<Vec<Segment>> {
    let timeline = match attempt {
        None => timeline_of(snapshot, run)?,
        Some(attempt) => Timeline::of(&Attempts(snapshot), AttemptId { run, attempt })?,
    };
    Ok(timeline.segments().to_vec())
}

/// Which segments show a metric of a run.
pub(crate) fn segments_of(
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
        system: Some(true),
    };
    let system = !snapshot.series(&filter)?.is_empty();
    Ok(if system {
        SystemMetric::Yes
    } else {
        SystemMetric::No
    })
}

/// The effective history of a run's newest attempt.
///
/// A run is born before its first launch is written, and lists show it from then on: whoever asks in between, or after a crash in between,
/// is told what the birth record says, which is what it inherits.
pub(crate) fn timeline_of(snapshot: &dyn Snapshot, run: RunId) -> Result<Timeline> {
    if let Some(newest) = snapshot.attempts(run)?.pop() {
        let attempt = newest.record.attempt;
        return Timeline::of(&Attempts(snapshot), AttemptId { run, attempt });
    }
    // Whether it is alive is not asked here.
    let liveness = Liveness {
        now: Timestamp(0),
        lost_after_micros: 0,
    };
    let row = snapshot
        .run(run, &MetricChoice::None, liveness)?
        .ok_or_else(|| Error::not_found(format!("run {run} is not in this store")))?;
    match row.record.fork {
        Some(fork) => {
            let owner = AttemptId {
                run: fork.owner.run,
                attempt: fork.owner.attempt,
            };
            Timeline::up_to(&Attempts(snapshot), owner, fork.owner.step)
        }
        None => Ok(Timeline::default()),
    }
}

/// A borrowed snapshot as a source of attempts.
pub(crate) struct Attempts<'a>(pub(crate) &'a dyn Snapshot);

impl runtree_core::lineage::AttemptSource for Attempts<'_> {
    fn attempt(&self, id: AttemptId) -> Result<Option<runtree_core::lineage::AttemptFacts>> {
        self.0.attempt(id)
    }
}
