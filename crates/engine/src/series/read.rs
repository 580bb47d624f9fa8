//! Gathering the blocks of a series.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use runtree_core::lineage::{AttemptId, Segment, Timeline};
use runtree_core::{Result, RunId, Step};
use runtree_index::{SeriesFilter, SeriesRow, Snapshot, StepSpan};
use runtree_metrics::{BlockSource, Points, Stitched, StoredBlock, Times};

/// Decoded blocks that a reader keeps: neighbouring questions meet the same ones.
const CACHED_BLOCKS: usize = 32;

/// A metric as it is asked for: `loss`, or `loss[rank 3]` for the series of one rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MetricName {
    pub(crate) name: String,
    pub(crate) rank: Option<u32>,
}

/// Whether a series is runtree's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemMetric {
    Yes,
    No,
}

impl MetricName {
    pub(crate) fn parse(text: &str) -> Self {
        let ranked = text
            .strip_suffix(']')
            .and_then(|text| text.rsplit_once("[rank "))
            .and_then(|(name, rank)| Some((name, rank.parse().ok()?)));
        match ranked {
            Some((name, rank)) => Self {
                name: name.to_owned(),
                rank: Some(rank),
            },
            None => Self {
                name: text.to_owned(),
                rank: None,
            },
        }
    }

    pub(crate) fn of(row: &SeriesRow) -> Self {
        Self {
            name: row.metric.clone(),
            rank: row.rank,
        }
    }

    fn is(&self, row: &SeriesRow) -> bool {
        row.metric == self.name && row.rank == self.rank
    }
}

impl std::fmt::Display for MetricName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rank {
            Some(rank) => write!(f, "{}[rank {rank}]", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One series along some segments, over one snapshot.
pub(crate) struct SeriesView<'a> {
    snapshot: &'a dyn Snapshot,
    stitched: Option<Stitched>,
    cache: RefCell<VecDeque<(u64, Points)>>,
}

impl BlockSource for SeriesView<'_> {
    fn load(&self, id: u64) -> Result<Points> {
        if let Some((_, points)) = self.cache.borrow().iter().find(|(at, _)| *at == id) {
            return Ok(points.clone());
        }
        let points = self.snapshot.load(id)?;
        let mut cache = self.cache.borrow_mut();
        if cache.len() == CACHED_BLOCKS {
            cache.pop_front();
        }
        cache.push_back((id, points.clone()));
        Ok(points)
    }

    fn load_times(&self, id: u64) -> Result<Times> {
        match self.cache.borrow().iter().find(|(at, _)| *at == id) {
            Some((_, points)) => Ok(Times::of(points)),
            None => self.snapshot.load_times(id),
        }
    }
}

impl<'a> SeriesView<'a> {
    /// The series of `metric` along a timeline. `rows` are those of all its attempts, as [`rows_of`] gives them.
    pub(crate) fn along(
        snapshot: &'a dyn Snapshot,
        segments: &[Segment],
        metric: &MetricName,
        rows: &BTreeMap<AttemptId, Vec<SeriesRow>>,
    ) -> Result<Self> {
        let mut view = Self {
            snapshot,
            stitched: None,
            cache: RefCell::default(),
        };
        let mut blocks = Vec::with_capacity(segments.len());
        for segment in segments {
            let mut own: Vec<&SeriesRow> = rows
                .get(&segment.id)
                .into_iter()
                .flatten()
                .filter(|row| metric.is(row))
                .collect();
            // A later writer of the same launch wins where steps repeat.
            own.sort_by_key(|row| row.precedence);
            let mut listed = Vec::new();
            for row in own {
                view.list_blocks(row, segment, &mut listed)?;
            }
            blocks.push(listed);
        }
        view.stitched = Some(Stitched::new(segments, blocks, &view)?);
        Ok(view)
    }

    fn list_blocks(
        &self,
        row: &SeriesRow,
        segment: &Segment,
        listed: &mut Vec<StoredBlock>,
    ) -> Result<()> {
        let (first, last) = (row.stats.first.step, row.stats.last.step);
        if last < segment.first || first > segment.last {
            return Ok(());
        }
        let span = StepSpan {
            first: segment.first,
            last: segment.last,
        };
        listed.extend(self.snapshot.blocks(row.id, span)?);
        Ok(())
    }

    pub(crate) fn stitched(&self) -> &Stitched {
        self.stitched
            .as_ref()
            .expect("BUG: a view is stitched where it is made")
    }
}

/// Every series of some segments' attempts, by attempt; of some metrics, or of all.
pub(crate) fn rows_of(
    snapshot: &dyn Snapshot,
    segments: &[Segment],
    metrics: Vec<String>,
) -> Result<BTreeMap<AttemptId, Vec<SeriesRow>>> {
    rows_of_kind(snapshot, segments, metrics, None)
}

/// [`rows_of`], of system metrics or of users' alone.
pub(crate) fn rows_of_kind(
    snapshot: &dyn Snapshot,
    segments: &[Segment],
    metrics: Vec<String>,
    system: Option<bool>,
) -> Result<BTreeMap<AttemptId, Vec<SeriesRow>>> {
    let filter = SeriesFilter {
        attempts: segments.iter().map(|segment| segment.id).collect(),
        metrics,
        system,
    };
    let mut rows: BTreeMap<AttemptId, Vec<SeriesRow>> = BTreeMap::new();
    for row in snapshot.series(&filter)? {
        rows.entry(row.attempt).or_default().push(row);
    }
    Ok(rows)
}

/// The segments that show a system metric: every launch of the run, each beginning after what the ones before logged.
pub(crate) fn system_segments(
    snapshot: &dyn Snapshot,
    run: RunId,
    metric: Option<&MetricName>,
) -> Result<Vec<Segment>> {
    let attempts = snapshot.attempts(run)?;
    let ids: Vec<AttemptId> = attempts
        .iter()
        .map(|row| AttemptId {
            run,
            attempt: row.record.attempt,
        })
        .collect();
    let filter = SeriesFilter {
        attempts: ids.clone(),
        metrics: metric
            .map(|metric| metric.name.clone())
            .into_iter()
            .collect(),
        system: Some(true),
    };
    let mut spans: BTreeMap<AttemptId, (Step, Step)> = BTreeMap::new();
    for row in snapshot.series(&filter)? {
        let (first, last) = (row.stats.first.step, row.stats.last.step);
        let span = spans.entry(row.attempt).or_insert((first, last));
        span.0 = span.0.min(first);
        span.1 = span.1.max(last);
    }
    let mut segments: Vec<Segment> = Vec::new();
    for (id, (first, last)) in spans {
        let after = segments.last().map(|segment| segment.last.next());
        let first = after.map_or(first, |after| after.max(first));
        if first <= last {
            segments.push(Segment { id, first, last });
        }
    }
    Ok(segments)
}

/// Everything one launch logged itself.
pub(crate) fn own_segment(id: AttemptId) -> Vec<Segment> {
    vec![Segment {
        id,
        first: Step::MIN,
        last: Step::MAX,
    }]
}

/// The segments of a timeline that are wanted.
pub(crate) fn user_segments(timeline: &Timeline, run: RunId, inherited: bool) -> Vec<Segment> {
    timeline
        .segments()
        .iter()
        .filter(|segment| inherited || segment.id.run == run)
        .copied()
        .collect()
}
