//! What is answered: plain data in the types of `core`, which the engine turns into what edges show.

use std::collections::BTreeMap;

use runtree_core::console::ConsoleLevel;
use runtree_core::event::RunStatus;
use runtree_core::lineage::AttemptId;
use runtree_core::manifest::{AttemptRecord, CheckpointName, ChunkRecord, Outcome, RunRecord};
use runtree_core::media::{AlertLevel, MediaItem, MediaKind};
use runtree_core::{AttemptNumber, CheckpointId, ComponentName, RunId, Step, Timestamp, WriterId};
use serde_json::Value;

use crate::item::JournalCursor;

/// A run as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Its birth record.
    pub record: RunRecord,
    /// Its name now.
    pub name: String,
    /// Its notes now.
    pub notes: Option<String>,
    /// Its tags now, in the order they were given at birth, later ones sorted after them.
    pub tags: Vec<String>,
    /// Its config now: an object.
    pub config: Value,
    /// Its status, at the time that was passed in.
    pub status: RunStatus,
    /// Why, in words.
    pub status_reason: Option<String>,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Newest sign of life.
    pub last_activity: Timestamp,
    /// Newest launch; 1 for a run whose first launch is not folded yet.
    pub attempt: AttemptNumber,
    /// The root of its lineage, as far as it is known here.
    pub root: RunId,
    /// Runs that were forked from it: it is their owner or their declared parent.
    pub children: u64,
    /// Last effective step of a user's metric.
    pub last_step: Option<Step>,
    /// Latest effective values, as chosen in the query.
    pub metrics: BTreeMap<String, MetricRow>,
    /// Complete checkpoints on the effective timeline, inherited ones included.
    pub checkpoints: u64,
    /// Where a user's metric first was not finite on the effective timeline.
    pub first_nonfinite: Option<NonFiniteRow>,
    /// Largest Lamport count seen in its journals; what its next writer adds one to.
    pub lamport: u64,
}

/// What people call a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRow {
    /// The run.
    pub run: RunId,
    /// Its display id.
    pub display_id: String,
    /// Its name now.
    pub name: String,
}

/// Names that runs are described by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownKeys {
    /// Users' metrics.
    pub metrics: Vec<String>,
    /// Config keys, dotted.
    pub config: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
}

/// What a metric comes to, inherited points included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricRow {
    /// At the last step.
    pub last: MetricPoint,
    /// Among the finite values.
    pub extremes: Extremes,
}

/// A value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricPoint {
    /// At which step.
    pub step: Step,
    /// The value.
    pub value: f64,
}

/// Where a metric stopped to be a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFiniteRow {
    /// The metric; of several at one step the first by name.
    pub metric: String,
    /// The first effective step.
    pub step: Step,
    /// Step of the newest complete checkpoint before it on the effective timeline.
    pub last_good: Option<Step>,
}

/// A page of runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSlice {
    /// The runs.
    pub runs: Vec<RunRow>,
    /// How many match in all.
    pub total: u64,
    /// What to pass for the next page.
    pub next_cursor: Option<String>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptRow {
    /// Its record.
    pub record: AttemptRecord,
    /// First step of its own history, if its journals lowered it.
    pub lowered_start: Option<Step>,
    /// Newest sign of life of any of its writers.
    pub last_activity: Timestamp,
    /// First and last step it logged itself, system metrics excluded.
    pub steps: Option<(Step, Step)>,
}

/// A journal's writer: a process, or a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct WriterRow {
    /// The writer.
    pub writer: WriterId,
    /// Its launch; none for a tool.
    pub attempt: Option<AttemptNumber>,
    /// Its rank.
    pub rank: u32,
    /// Ranks of its component.
    pub world_size: u32,
    /// When it opened its journal; none if that frame is not folded.
    pub opened: Option<Timestamp>,
    /// Newest sign of life.
    pub last_alive: Option<Timestamp>,
    /// When it said goodbye.
    pub closed: Option<Timestamp>,
    /// Host, pid, command line, commit.
    pub process: BTreeMap<String, String>,
    /// How far its journal was folded.
    pub cursor: JournalCursor,
}

/// A checkpoint, pending and decided ones alike.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRow {
    /// Run and key.
    pub name: CheckpointName,
    /// Its id.
    pub id: CheckpointId,
    /// What was decided; none while it is pending.
    pub outcome: Option<Outcome>,
    /// Whether its highest tombstone deletes it.
    pub deleted: bool,
    /// Its highest tombstone's number and reason.
    pub tombstone: Option<(u32, String)>,
    /// Its own name.
    pub label: Option<String>,
    /// When `save` was called, by the first part's clock.
    pub created: Option<Timestamp>,
    /// Raw bytes of the parts that are there.
    pub bytes: u64,
    /// Tensors of the parts that are there.
    pub tensors: u64,
    /// Metrics given to it, later ones winning per name.
    pub metrics: BTreeMap<String, f64>,
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// Names of the pins and leases that name it, sorted.
    pub pins: Vec<String>,
    /// Its parts, declared ones that are missing included, sorted by component and rank.
    pub parts: Vec<PartRow>,
}

impl CheckpointRow {
    /// Whether it exists: it was committed, and is not in the trash.
    pub fn is_complete(&self) -> bool {
        self.outcome == Some(Outcome::Committed) && !self.deleted
    }
}

/// A part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    /// Who writes it.
    pub component: ComponentName,
    /// Which of them.
    pub rank: u32,
    /// Whether it is there.
    pub present: bool,
    /// Whether its writer looked again.
    pub confirmed: bool,
    /// Raw bytes; 0 if absent.
    pub bytes: u64,
}

/// Names a series inside one snapshot; means nothing outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub(crate) i64);

/// What one writer logged of one metric in one launch (of one rank, where ranks keep their own).
///
/// Two writers of one launch may log the same metric, when a process was restarted into its launch: at equal steps the larger
/// [`SeriesRow::precedence`] wins.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesRow {
    /// Its handle.
    pub id: SeriesId,
    /// The launch.
    pub attempt: AttemptId,
    /// The metric.
    pub metric: String,
    /// Whether runtree measured it.
    pub system: bool,
    /// The rank, if ranks keep series of their own.
    pub rank: Option<u32>,
    /// Time its writer opened its journal, then the writer: of two points at one step the larger wins.
    pub precedence: (Timestamp, WriterId),
    /// What its points are like as a whole.
    pub stats: SeriesStats,
}

/// What the points of a series are like as a whole. Holds no sum: a sum of floats depends on the order of adding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesStats {
    /// Distinct steps.
    pub points: u64,
    /// Of them not finite.
    pub nonfinite: u64,
    /// The point at the lowest step.
    pub first: MetricPoint,
    /// The point at the highest step.
    pub last: MetricPoint,
    /// Smallest finite value, at its first step.
    pub min: Option<MetricPoint>,
    /// Largest finite value, at its first step.
    pub max: Option<MetricPoint>,
    /// First step that is not finite.
    pub first_nonfinite: Option<Step>,
    /// Smallest timestamp.
    pub first_time: Timestamp,
    /// Largest timestamp.
    pub last_time: Timestamp,
}

/// The smallest and the largest finite value of some points, each at its first step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extremes {
    /// The smallest.
    pub min: Option<MetricPoint>,
    /// The largest.
    pub max: Option<MetricPoint>,
}

impl Extremes {
    /// With one more point; what is not finite is none.
    #[must_use]
    pub fn and(self, point: MetricPoint) -> Self {
        let point = Some(point).filter(|point| point.value.is_finite());
        self.with(Self {
            min: point,
            max: point,
        })
    }

    /// Of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let better =
            |a: Option<MetricPoint>, b: Option<MetricPoint>, wins: fn(f64, f64) -> bool| {
                let (Some(x), Some(y)) = (a, b) else {
                    return a.or(b);
                };
                let first = wins(x.value, y.value) || (!wins(y.value, x.value) && x.step <= y.step);
                Some(if first { x } else { y })
            };
        Self {
            min: better(self.min, other.min, |a, b| a < b),
            max: better(self.max, other.max, |a, b| a > b),
        }
    }
}

/// Lines of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSlice {
    /// The lines.
    pub lines: Vec<ConsoleRow>,
    /// What to pass for what comes next; the end, if there is no more yet.
    pub next_cursor: Option<String>,
}

/// A line of a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleRow {
    /// The launch; none for a tool.
    pub attempt: Option<AttemptNumber>,
    /// Who printed it.
    pub writer: WriterId,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When the first line of its frame was printed.
    pub at: Timestamp,
    /// The rank of who printed it.
    pub rank: u32,
    /// How loud it says it is.
    pub level: Option<ConsoleLevel>,
    /// The text.
    pub text: String,
}

/// A file attached to a run; of several with one name, the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Name.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkRecord>,
    /// When.
    pub at: Timestamp,
}

/// A name that a launch logged media under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaKeyRow {
    /// The name.
    pub name: String,
    /// The rank, where ranks keep series of their own.
    pub rank: Option<u32>,
    /// At how many steps.
    pub entries: u64,
    /// The first of them.
    pub first: Step,
    /// The last of them.
    pub last: Step,
    /// What was logged there.
    pub kind: MediaKind,
}

/// What a launch logged under a name at a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRow {
    /// The launch.
    pub attempt: AttemptId,
    /// The step.
    pub step: Step,
    /// When.
    pub at: Timestamp,
    /// What all items are.
    pub kind: MediaKind,
    /// The items, in order.
    pub items: Vec<MediaItem>,
}

/// Something a program wanted to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRow {
    /// The launch; none for a tool.
    pub attempt: Option<AttemptNumber>,
    /// The rank.
    pub rank: u32,
    /// The last step that was logged before.
    pub step: Option<Step>,
    /// How much it matters.
    pub level: AlertLevel,
    /// In a few words.
    pub title: String,
    /// In more.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// Alerts of a run, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertCount {
    /// How many.
    pub alerts: u64,
    /// The level of the worst.
    pub worst: Option<AlertLevel>,
}

/// Points that were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRow {
    /// The launch; none for a tool.
    pub attempt: Option<AttemptNumber>,
    /// Why.
    pub reason: String,
    /// How many, per metric.
    pub points: BTreeMap<String, u64>,
    /// When.
    pub at: Timestamp,
}
