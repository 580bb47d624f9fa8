//! The one lineage-aware read: history, charts and statistics all see a run through its timeline.

use runtree_core::{AttemptNumber, Error, Result, RunId, Step, wire};

use crate::engine::Engine;

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

impl Engine {
    /// Points of a metric along a run's timeline.
    pub fn history(
        &self,
        run: RunId,
        metric: &str,
        query: HistoryQuery,
    ) -> Result<HistoryColumns> {
        let _ = (run, metric, query);
        Err(Error::internal("not built yet"))
    }

    /// Buckets for charts: first, min, max, mean, last, count per pixel column, exact for the interval each declares.
    pub fn series(&self, request: &wire::SeriesRequest) -> Result<wire::SeriesResponse> {
        let _ = request;
        Err(Error::internal("not built yet"))
    }
}
