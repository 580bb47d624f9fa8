//! Metrics of a run's effective history.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use runtree_core::float::JsonFloat;
use runtree_core::lineage::{AttemptId, Segment, Timeline};
use runtree_core::wire::XAxis;
use runtree_core::{Error, Result, RunId, Step, wire};
use runtree_index::{MetricPoint, SeriesRow, SeriesStats, Snapshot};
use runtree_metrics::{Bucket, Query};

use crate::engine::Engine;
use crate::series::{
    MetricName, SeriesView, SystemMetric, rows_of_kind, system_segments, timeline_of,
};

/// Longest pattern: what a person types is far below, and a pattern costs memory before it has met a name.
const MAX_PATTERN_BYTES: usize = 1000;

/// Which metrics of a run are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricFilter {
    /// Every one.
    #[default]
    All,
    /// Those whose name a regular expression is found in, `^train/.*loss$`. The expression is worked off in time linear in the name: nobody
    /// can write one that hangs the server.
    Matching(String),
    /// Those of some names.
    Named(Vec<String>),
}

enum Wanted {
    All,
    Matching(Regex),
    Named(BTreeSet<MetricName>),
}

impl Wanted {
    fn of(filter: &MetricFilter) -> Result<Self> {
        Ok(match filter {
            MetricFilter::All => Self::All,
            MetricFilter::Matching(pattern) => Self::Matching(read_pattern(pattern)?),
            MetricFilter::Named(names) => {
                Self::Named(names.iter().map(|name| MetricName::parse(name)).collect())
            }
        })
    }

    /// What the index is asked for; empty: everything.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Named(names) => names.iter().map(|name| name.name.clone()).collect(),
            Self::All | Self::Matching(_) => Vec::new(),
        }
    }

    fn has(&self, metric: &MetricName) -> bool {
        match self {
            Self::All => true,
            Self::Matching(pattern) if metric.rank.is_none() => pattern.is_match(&metric.name),
            Self::Matching(pattern) => pattern.is_match(&metric.to_string()),
            Self::Named(names) => names.contains(metric),
        }
    }
}

impl Engine {
    /// Metrics of a run, by name. Those that are asked for and that it does not have are left out.
    ///
    /// # Errors
    /// `NotFound` if the run is not there; `Invalid` if the pattern can not be read.
    pub fn metrics(&self, run: RunId, choice: &MetricFilter) -> Result<Vec<wire::MetricInfo>> {
        let wanted = Wanted::of(choice)?;
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        let timeline = timeline_of(&*snapshot, run)?;
        infos_along(&*snapshot, run, &timeline, &wanted)
    }
}

fn read_pattern(text: &str) -> Result<Regex> {
    if text.len() > MAX_PATTERN_BYTES {
        return Err(Error::invalid(format!(
            "a pattern has at most {MAX_PATTERN_BYTES} bytes, this one {}",
            text.len()
        )));
    }
    Regex::new(text).map_err(|error| {
        Error::invalid(format!("{text:?} is not a regular expression: {error}"))
            .with_hint(r"to find a name as it is written, put a \ before each of .+*?()[]{}|^$")
    })
}

/// Every metric of a run: users' along the timeline, the machine's of the run itself.
pub(super) fn metric_infos(
    snapshot: &dyn Snapshot,
    run: RunId,
    timeline: &Timeline,
) -> Result<Vec<wire::MetricInfo>> {
    infos_along(snapshot, run, timeline, &Wanted::All)
}

fn infos_along(
    snapshot: &dyn Snapshot,
    run: RunId,
    timeline: &Timeline,
    wanted: &Wanted,
) -> Result<Vec<wire::MetricInfo>> {
    if matches!(wanted, Wanted::Named(names) if names.is_empty()) {
        return Ok(Vec::new());
    }
    let of = |segments: &[Segment], kind| infos_of(snapshot, run, segments, kind, wanted);
    let mut infos = of(timeline.segments(), SystemMetric::No)?;
    let system = system_segments(snapshot, run, None)?;
    infos.extend(of(&system, SystemMetric::Yes)?);
    infos.sort_by(|a, b| (a.system, &a.name).cmp(&(b.system, &b.name)));
    Ok(infos)
}

/// Rows of one metric.
type Rows = BTreeMap<AttemptId, Vec<SeriesRow>>;

fn infos_of(
    snapshot: &dyn Snapshot,
    run: RunId,
    segments: &[Segment],
    kind: SystemMetric,
    wanted: &Wanted,
) -> Result<Vec<wire::MetricInfo>> {
    // By metric at once: a run may have ten thousand, and each would look through the rows of all.
    let mut metrics: BTreeMap<MetricName, Rows> = BTreeMap::new();
    let is_system = Some(kind == SystemMetric::Yes);
    for row in rows_of_kind(snapshot, segments, wanted.names(), is_system)?
        .into_values()
        .flatten()
    {
        let metric = MetricName::of(&row);
        if wanted.has(&metric) {
            let rows = metrics.entry(metric).or_default();
            rows.entry(row.attempt).or_default().push(row);
        }
    }
    let mut infos = Vec::new();
    for (metric, rows) in metrics {
        let parts = match whole_parts(segments, &rows) {
            Some(parts) => parts,
            None => stitched_parts(snapshot, segments, &metric, &rows)?,
        };
        infos.extend(info(metric.to_string(), kind, &parts, |part| {
            segments[part.segment].id.run == run
        }));
    }
    Ok(infos)
}

/// What a stretch of a metric's history comes to. Those of a metric ascend by step and share none.
struct Part {
    segment: usize,
    points: u64,
    nonfinite: u64,
    first: Step,
    last: MetricPoint,
    min: Option<MetricPoint>,
    max: Option<MetricPoint>,
}

impl Part {
    fn of_series(segment: usize, stats: &SeriesStats) -> Self {
        Self {
            segment,
            points: stats.points,
            nonfinite: stats.nonfinite,
            first: stats.first.step,
            last: stats.last,
            min: stats.min,
            max: stats.max,
        }
    }

    fn of_bucket(bucket: &Bucket) -> Self {
        let finite = |step: Step, value: f64| {
            Some(MetricPoint { step, value }).filter(|point| point.value.is_finite())
        };
        Self {
            segment: bucket.segment as usize,
            points: bucket.count,
            nonfinite: bucket.nonfinite,
            first: Step(bucket.x_first),
            last: MetricPoint {
                step: Step(bucket.x_last),
                value: bucket.last,
            },
            min: finite(bucket.min_step, bucket.min),
            max: finite(bucket.max_step, bucket.max),
        }
    }
}

/// The parts of a metric without a look at its points: what is kept of each series says it all where nothing of it is cut off or meets
/// another. That is so of most metrics of most runs; none if it is not.
fn whole_parts(segments: &[Segment], rows: &Rows) -> Option<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let row = match rows.get(&segment.id).map(Vec::as_slice) {
            None | Some([]) => continue,
            Some([row]) => row,
            Some(_) => return None,
        };
        let stats = &row.stats;
        let is_whole = segment.first <= stats.first.step && stats.last.step <= segment.last;
        let is_apart = parts
            .last()
            .is_none_or(|part| part.last.step < stats.first.step);
        if !is_whole || !is_apart {
            return None;
        }
        parts.push(Part::of_series(index, stats));
    }
    Some(parts)
}

/// The parts of a metric, by its points.
fn stitched_parts(
    snapshot: &dyn Snapshot,
    segments: &[Segment],
    metric: &MetricName,
    rows: &Rows,
) -> Result<Vec<Part>> {
    let view = SeriesView::along(snapshot, segments, metric, rows)?;
    let query = Query {
        axis: XAxis::Step,
        from: None,
        to: None,
        pixels: 1,
        shifts: Vec::new(),
    };
    let buckets = view.stitched().buckets(&query, &view)?.buckets;
    Ok(buckets.iter().map(Part::of_bucket).collect())
}

fn info(
    name: String,
    kind: SystemMetric,
    parts: &[Part],
    is_own: impl Fn(&Part) -> bool,
) -> Option<wire::MetricInfo> {
    let (first, last) = (parts.first()?, parts.last()?);
    let own: Vec<&Part> = parts.iter().filter(|part| is_own(part)).collect();
    Some(wire::MetricInfo {
        name,
        system: kind == SystemMetric::Yes,
        points: parts.iter().map(|part| part.points).sum(),
        nonfinite: parts.iter().map(|part| part.nonfinite).sum(),
        steps: wire::StepRange {
            first: first.first,
            last: last.last.step,
        },
        min: smallest(parts.iter()),
        max: largest(parts.iter()),
        last: value(last.last),
        own_points: own.iter().map(|part| part.points).sum(),
        own_min: smallest(own.iter().copied()),
        own_max: largest(own.iter().copied()),
        own_last: own.last().map(|part| value(part.last)),
    })
}

/// The smallest finite value, at its first step: of equals, which come by step, the first stays.
fn smallest<'a>(parts: impl Iterator<Item = &'a Part>) -> Option<wire::MetricValue> {
    let points = parts.filter_map(|part| part.min);
    points
        .reduce(|least, next| {
            if next.value < least.value {
                next
            } else {
                least
            }
        })
        .map(value)
}

/// The largest finite value, at its first step.
fn largest<'a>(parts: impl Iterator<Item = &'a Part>) -> Option<wire::MetricValue> {
    let points = parts.filter_map(|part| part.max);
    points
        .reduce(|most, next| if next.value > most.value { next } else { most })
        .map(value)
}

fn value(point: MetricPoint) -> wire::MetricValue {
    wire::MetricValue {
        step: point.step,
        value: JsonFloat(point.value),
    }
}
