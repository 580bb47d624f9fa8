//! The one lineage-aware read: history, charts and statistics all see a run through its timeline.
//!
//! [`SeriesView`] gathers the blocks of one metric along the segments that are asked for; `metrics` stitches them; [`chart`] and
//! [`history`] ask that for buckets or points. What decides which segments:
//!
//! - a user's metric: the run's timeline, or the segments of the run itself where inherited points are not wanted;
//! - one launch: everything that launch logged itself, ghost tail included;
//! - a system metric belongs to its run: every launch of it, one after another, never an ancestor's.

use runtree_core::{AttemptNumber, RunId, Step};

mod chart;
mod history;
mod read;
mod to_wire;

pub(crate) use chart::{segments_of, timeline_of};
pub(crate) use read::{
    MetricName, SeriesView, SystemMetric, rows_of, rows_of_kind, system_segments,
};

/// What of a metric's history is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Whether ancestors' points are wanted.
    pub inherited: bool,
    /// First and last step, inclusive.
    pub steps: Option<(Step, Step)>,
    /// At most about this many points, chosen so that a chart looks the same (first, min, max, last of each column).
    pub points: Option<usize>,
    /// One launch's own points alone.
    pub attempt: Option<AttemptNumber>,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        Self {
            inherited: true,
            steps: None,
            points: None,
            attempt: None,
        }
    }
}

/// Points in a row that one launch of one run logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryStretch {
    /// The run.
    pub run: RunId,
    /// The launch.
    pub attempt: AttemptNumber,
    /// How many points.
    pub points: usize,
}

/// Points by columns, ascending by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryColumns {
    /// Steps, strictly ascending.
    pub steps: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
    /// Microseconds since the epoch.
    pub timestamps: Vec<i64>,
    /// Whose points they are, in order, run-length encoded.
    pub stretches: Vec<HistoryStretch>,
}
