//! What can be asked: filters, orders, cursors.

use runtree_core::event::RunStatus;
use runtree_core::lineage::AttemptId;
use runtree_core::{DisplayId, ProjectName, RunId, Step, Timestamp};

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
    /// Only runs whose name, display id, key, tags, project or config values contain every word, whatever its case.
    pub text: Option<String>,
    /// Only runs with one of these statuses; empty: any.
    pub status: Vec<RunStatus>,
    /// Only runs with all these tags.
    pub tags: Vec<String>,
    /// Only runs with these config values.
    pub config: Vec<ConfigFilter>,
    /// Only runs whose latest effective values compare so.
    pub metrics: Vec<MetricFilter>,
    /// Only relatives of a run.
    pub lineage: Option<Lineage>,
    /// What to do with deleted runs.
    pub deleted: Deleted,
    /// By what to sort; ties go by birth, newest first.
    pub sort: RunSort,
    /// In which direction; runs without a value come last in both.
    pub order: Order,
    /// Which latest metric values the rows carry.
    pub show_metrics: MetricChoice,
    /// `next_cursor` of the page before.
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
            text: None,
            status: Vec::new(),
            tags: Vec::new(),
            config: Vec::new(),
            metrics: Vec::new(),
            lineage: None,
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

/// A config key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFilter {
    /// Dotted path, `optimizer.lr`.
    pub key: String,
    /// The value as a user writes it: compared as a number if both are numbers, else as text.
    pub value: String,
}

/// `loss<0.5`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricFilter {
    /// The metric.
    pub metric: String,
    /// How it compares.
    pub comparison: Comparison,
    /// With what. A latest value that is NaN compares with nothing.
    pub value: f64,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
}

/// Relatives of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// Everything that shares this root, the root included.
    Root(RunId),
    /// Direct forks of this run: it is their owner or their declared parent.
    Parent(RunId),
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
    /// Latest effective value of a metric.
    Metric(String),
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
}
