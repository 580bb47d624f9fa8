//! What is answered: plain data in the types of `core`, which the engine turns into what edges show.

use std::collections::BTreeMap;

use runtree_core::event::RunStatus;
use runtree_core::lineage::AttemptId;
use runtree_core::manifest::{AttemptRecord, CheckpointName, ChunkRecord, Outcome, RunRecord};
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
    pub metrics: BTreeMap<String, MetricPoint>,
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
