//! What the index answers, as the edges show it.
//!
//! Every method refreshes first and then reads one snapshot, so that an answer is of one moment. Numbers along a lineage go through
//! [`crate::series`]; nothing here walks a timeline on its own.

use std::borrow::Cow;

use runtree_core::event::RunStatus;
use runtree_core::filter::{Filter, Summary};
use runtree_core::manifest::CheckpointName;
use runtree_core::{RunId, Step};

mod checkpoints;
mod compare;
mod detail;
mod family;
mod files;
mod last_good;
mod list;
mod media;
mod metrics;
mod near;
mod outline;
mod quarantine;
mod silence;
mod sort;
mod sweep;
mod table;

pub use table::{RunColumn, RunTable};

pub(crate) use checkpoints::{effective_checkpoints, is_on};
pub use media::{MediaContentInfo, MediaSelection};
pub use metrics::MetricFilter;
pub(crate) use near::near_names;
pub(crate) use quarantine::Quarantine;

/// A name in a text for people: as it is, or escaped where it would move their cursor or pose as another line. Metrics and files are called
/// what training data is called; refusing a name would end a training for a label.
pub(crate) fn legible(name: &str) -> Cow<'_, str> {
    if name.chars().any(char::is_control) {
        format!("{name:?}").into()
    } else {
        name.into()
    }
}

/// Which runs are wanted, in which order. The default is: all that are not deleted, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct RunQuery {
    /// These alone; empty: any.
    pub runs: Vec<RunId>,
    /// Of this project alone.
    pub project: Option<String>,
    /// Of this lineage alone, by its root.
    pub root: Option<RunId>,
    /// What else must hold for them.
    pub filter: Filter,
    /// Words that must all occur in display id, key, name, tags, notes or config.
    pub search: Option<String>,
    /// In one of these states; empty: any.
    pub statuses: Vec<RunStatus>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// The order.
    pub sort: RunSort,
    /// Whether it is turned round.
    pub descending: bool,
    /// At most this many.
    pub limit: usize,
    /// What the page before gave.
    pub cursor: Option<String>,
    /// Whether deleted runs are shown too.
    pub deleted: bool,
    /// Metrics whose latest values are wanted; `None`: all.
    pub metrics: Option<Vec<String>>,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            project: None,
            filter: Filter::everything(),
            root: None,
            search: None,
            statuses: Vec::new(),
            tags: Vec::new(),
            sort: RunSort::Created,
            descending: true,
            limit: 100,
            cursor: None,
            deleted: false,
            metrics: None,
        }
    }
}

/// What runs are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSort {
    /// Birth.
    Created,
    /// Newest sign of life.
    LastActivity,
    /// Name.
    Name,
    /// Display id: project, then number.
    DisplayId,
    /// Status.
    Status,
    /// Last effective step.
    LastStep,
    /// An effective value of a metric; runs without it last.
    Metric(String, Summary),
    /// A config key, by its dotted path; runs without it last.
    Config(String),
}

/// Which checkpoints are wanted besides a run's own complete ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointScope {
    /// Those of ancestors on the timeline.
    pub inherited: bool,
    /// Those with parts missing, and abandoned ones.
    pub pending: bool,
    /// Those in the trash.
    pub deleted: bool,
}

/// Where a run was last healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct LastGood {
    /// The newest checkpoint before the first bad value; the newest at all if nothing is bad.
    pub checkpoint: Option<CheckpointName>,
    /// The first bad value: metric and step.
    pub bad: Option<(String, Step)>,
}
