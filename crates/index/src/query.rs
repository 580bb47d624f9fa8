//! What can be asked: filters, orders, cursors.

use runtree_core::console::ConsoleLevel;
use runtree_core::filter::{Filter, Summary};
use runtree_core::lineage::AttemptId;
use runtree_core::{AttemptNumber, DisplayId, ProjectName, RunId, Step, Timestamp};

/// What decides whether a silent run is lost: passed in, so that answers depend on nothing hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// The time now.
    pub now: Timestamp,
    /// A launch not heard of for longer, that never said goodbye, is lost.
    pub lost_after_micros: i64,
}

/// Asks for a page of runs.
#[derive(Clone, Debug)]
pub struct RunQuery {
    /// Only these runs; empty: any.
    pub runs: Vec<RunId>,
    /// Only runs of this project.
    pub project: Option<ProjectName>,
    /// Only runs that this holds for.
    pub filter: Filter<RunId>,
    /// What to do with deleted runs.
    pub deleted: Deleted,
    /// By what to sort; ties go by birth, newest first.
    pub sort: RunSort,
    /// In which direction; runs without a value come last in both.
    pub order: Order,
    /// Which latest metric values the rows carry.
    pub show_metrics: MetricChoice,
    /// `next_cursor` of the page before; or how many runs to leave out at the beginning.
    pub cursor: Option<String>,
    /// Most rows of a page.
    pub limit: u32,
    /// When a run is lost.
    pub liveness: Liveness,
}

impl RunQuery {
    /// Asks for the newest runs of every project, 50 at a time.
    pub fn new(liveness: Liveness) -> Self {
        Self {
            runs: Vec::new(),
            project: None,
            filter: Filter::everything(),
            deleted: Deleted::Hide,
            sort: RunSort::Created,
            order: Order::Descending,
            show_metrics: MetricChoice::All,
            cursor: None,
            limit: 50,
            liveness,
        }
    }
}

/// What to do with deleted runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// Leave them out.
    #[default]
    Hide,
    /// Show nothing else.
    Only,
    /// Show them among the others.
    Include,
}

/// By what runs are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSort {
    /// Time of birth.
    Created,
    /// Newest sign of life.
    LastActivity,
    /// Last effective step.
    LastStep,
    /// Name, whatever its case.
    Name,
    /// Number in the project.
    Number,
    /// Status, alphabetically.
    Status,
    /// An effective value of a metric.
    Metric(String, Summary),
    /// Value of a config key: numbers before texts.
    Config(String),
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Which latest metric values rows carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricChoice {
    /// None.
    None,
    /// These.
    These(Vec<String>),
    /// All but system metrics.
    All,
}

/// A run as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunLookup {
    /// A display id.
    DisplayId(DisplayId),
    /// The caller's own key.
    Key(String),
    /// A name it has now.
    Name(String),
    /// The first characters of a RunId.
    Prefix(String),
}

/// Which series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesFilter {
    /// Of these launches.
    pub attempts: Vec<AttemptId>,
    /// Only of these metrics; empty: all.
    pub metrics: Vec<String>,
    /// Only system metrics, or only users'.
    pub system: Option<bool>,
}

/// Steps, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSpan {
    /// First.
    pub first: Step,
    /// Last.
    pub last: Step,
}

impl StepSpan {
    /// Every step.
    pub const ALL: Self = Self {
        first: Step::MIN,
        last: Step::MAX,
    };
}

/// Asks for lines of a run's console.
#[derive(Clone, Debug)]
pub struct ConsoleQuery {
    /// The run.
    pub run: RunId,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Most lines.
    pub limit: u32,
    /// Which lines.
    pub filter: ConsoleFilter,
}

/// Which lines of a console are wanted; all, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleFilter {
    /// Of this launch.
    pub attempt: Option<AttemptNumber>,
    /// Of this rank.
    pub rank: Option<u32>,
    /// At least this loud; lines that say no level are not.
    pub level: Option<ConsoleLevel>,
    /// With this text somewhere, capitals or not.
    pub search: Option<String>,
}

/// Asks for what one launch logged under one name.
#[derive(Clone, Debug)]
pub struct MediaQuery {
    /// The launch.
    pub attempt: AttemptId,
    /// The name.
    pub name: String,
    /// The rank, where ranks keep series of their own.
    pub rank: Option<u32>,
    /// Within these steps.
    pub span: StepSpan,
    /// From the last step down.
    pub newest_first: bool,
    /// Most entries.
    pub limit: u32,
}
