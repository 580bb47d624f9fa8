//! What the engine answers and the edges show: one set of types for the JSON API, `--json` and Python.
//!
//! Field names are the contract of API v1 (snapshot-tested in `server`). Times are microseconds since the epoch, UTC; floats
//! that are not finite are the strings of [`JsonFloat`]; ids are text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::error::ErrorKind;
use crate::event::RunStatus;
use crate::float::JsonFloat;
use crate::id::{AttemptNumber, Step};
use crate::manifest::AttemptKind;

macro_rules! wire {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
        )*
    };
}

// Behind the macro, which it uses.
mod tensors;

pub use tensors::{EncodingKind, FiniteStatistics, TensorEncoding, TensorInfo, TensorStatistics};

wire! {
    /// The one error envelope of the API.
    pub struct ErrorBody {
        /// The error.
        pub error: ErrorDetail,
    }

    /// What went wrong and what to do next.
    pub struct ErrorDetail {
        /// What the caller must do.
        pub kind: ErrorKind,
        /// What went wrong.
        pub message: String,
        /// The exact next step.
        pub hint: Option<String>,
    }

    /// The store a server serves.
    pub struct StoreInfo {
        /// Store id.
        pub id: String,
        /// Where it is, as a user writes it.
        pub location: String,
        /// Version of the runtree that serves it.
        pub version: String,
        /// Whether this server may write (fork, pin, delete).
        pub writable: bool,
    }

    /// A project in a list.
    pub struct ProjectInfo {
        /// Name.
        pub name: String,
        /// Number of runs that are not deleted.
        pub runs: u64,
        /// Of them running now.
        pub running: u64,
        /// Newest activity of any run.
        pub last_activity: Option<Timestamp>,
    }

    /// Names a run.
    pub struct RunLabel {
        /// RunId.
        pub id: String,
        /// Display id.
        pub display_id: String,
        /// Name.
        pub name: String,
    }

    /// The latest effective value of a metric.
    pub struct MetricValue {
        /// At which step.
        pub step: Step,
        /// The value.
        pub value: JsonFloat,
    }

    /// A run in a list.
    pub struct RunSummary {
        /// RunId.
        pub id: String,
        /// Display id, `MMP-42`.
        pub display_id: String,
        /// Number in the project.
        pub number: u64,
        /// Caller's own key.
        pub key: Option<String>,
        /// Name.
        pub name: String,
        /// Project.
        pub project: String,
        /// The lineage's name.
        pub experiment: String,
        /// RunId of the lineage's root.
        pub root: String,
        /// Status now.
        pub status: RunStatus,
        /// Why, in words: an exception, a signal.
        pub status_reason: Option<String>,
        /// Birth.
        pub created: Timestamp,
        /// Newest sign of life.
        pub last_activity: Timestamp,
        /// Newest attempt.
        pub attempt: AttemptNumber,
        /// Declared parent.
        pub parent: Option<RunLabel>,
        /// Owner of the fork step.
        pub owner: Option<RunLabel>,
        /// Fork step, inclusive.
        pub fork_step: Option<Step>,
        /// The checkpoint of another run it started from, as a REF.
        pub base: Option<String>,
        /// Number of direct forks.
        pub children: u64,
        /// Last effective step.
        pub last_step: Option<Step>,
        /// Latest effective value of each metric asked for, system metrics excluded.
        pub metrics: BTreeMap<String, MetricValue>,
        /// Effective config: an object.
        pub config: Value,
        /// Tags.
        pub tags: Vec<String>,
        /// Checkpoints on the effective timeline.
        pub checkpoints: u64,
        /// First step at which a metric was not finite, with the metric.
        pub first_nonfinite: Option<NonFinite>,
        /// Whether the run is deleted.
        pub deleted: bool,
    }

    /// Where a metric stopped to be a number.
    pub struct NonFinite {
        /// The metric.
        pub metric: String,
        /// First effective step with NaN or an infinity.
        pub step: Step,
        /// The newest checkpoint before it.
        pub last_good: Option<Step>,
    }

    /// A page of runs.
    pub struct RunPage {
        /// The runs.
        pub runs: Vec<RunSummary>,
        /// How many match in all.
        pub total: u64,
        /// Pass it to get the next page.
        pub next_cursor: Option<String>,
    }

    /// A run, whole.
    pub struct RunDetail {
        /// What lists show.
        pub summary: RunSummary,
        /// Notes.
        pub notes: Option<String>,
        /// Launches, oldest first.
        pub attempts: Vec<AttemptInfo>,
        /// Ancestors, root first, this run last, with the steps each contributes.
        pub segments: Vec<SegmentInfo>,
        /// Direct forks.
        pub children: Vec<ChildInfo>,
        /// What differs from the owner's config at the fork; all keys if there is no parent.
        pub config_diff: Vec<ConfigChange>,
        /// Metrics of the effective history, by name.
        pub metrics: Vec<MetricInfo>,
        /// How a resumed curve compares with the ghost it repeats.
        pub resume_report: Option<ResumeReport>,
        /// Attached files.
        pub files: Vec<FileInfo>,
        /// Points that were dropped, with the reason.
        pub lost: Vec<LostPoints>,
    }

    /// A launch.
    pub struct AttemptInfo {
        /// Number, from 1.
        pub attempt: AttemptNumber,
        /// What made it.
        pub kind: AttemptKind,
        /// What it is built upon, `MMP-42 attempt 1 @500` as fields.
        pub base: Option<BaseInfo>,
        /// Step of the checkpoint that was resolved for it.
        pub checkpoint_step: Option<Step>,
        /// When it was made.
        pub created: Timestamp,
        /// Newest sign of life of any of its writers.
        pub last_activity: Timestamp,
        /// First and last step it logged itself.
        pub steps: Option<StepRange>,
        /// First step of its own that is not on the run's timeline, if any: its ghost tail starts here.
        pub ghost_from: Option<Step>,
        /// Host, command line, commit.
        pub launch: BTreeMap<String, String>,
    }

    /// What an attempt is built upon.
    pub struct BaseInfo {
        /// The run.
        pub run: RunLabel,
        /// Its launch.
        pub attempt: AttemptNumber,
        /// Inclusive.
        pub step: Step,
    }

    /// Steps, both inclusive.
    pub struct StepRange {
        /// First.
        pub first: Step,
        /// Last.
        pub last: Step,
    }

    /// A stretch of an effective history.
    pub struct SegmentInfo {
        /// Whose.
        pub run: RunLabel,
        /// Which launch.
        pub attempt: AttemptNumber,
        /// First step, inclusive; null: from the beginning.
        pub first: Option<Step>,
        /// Last step, inclusive; null: still growing.
        pub last: Option<Step>,
    }

    /// A fork of a run.
    pub struct ChildInfo {
        /// The fork.
        pub run: RunLabel,
        /// Where.
        pub fork_step: Step,
        /// Status.
        pub status: RunStatus,
    }

    /// One config key that differs.
    pub struct ConfigChange {
        /// Dotted path.
        pub key: String,
        /// Before; null and `had_before == false` if it was not there.
        pub before: Value,
        /// After; null and `has_after == false` if it is gone.
        pub after: Value,
        /// Whether the key was there before.
        pub had_before: bool,
        /// Whether the key is there now.
        pub has_after: bool,
    }

    /// A metric of a run.
    pub struct MetricInfo {
        /// Name; a series of one rank is `name[rank 3]`.
        pub name: String,
        /// Whether it is a system metric.
        pub system: bool,
        /// Points of the effective history.
        pub points: u64,
        /// Of them not finite.
        pub nonfinite: u64,
        /// First and last effective step.
        pub steps: StepRange,
        /// Smallest finite value and its first step.
        pub min: Option<MetricValue>,
        /// Largest finite value and its first step.
        pub max: Option<MetricValue>,
        /// Latest.
        pub last: MetricValue,
        /// Whether this run logged it itself.
        pub own: bool,
    }

    /// How a resumed run repeats what it lost.
    pub struct ResumeReport {
        /// The launch that resumed.
        pub attempt: AttemptNumber,
        /// The launch whose ghost tail it repeats.
        pub ghost_attempt: AttemptNumber,
        /// Steps that both logged.
        pub overlapping_steps: u64,
        /// Steps in a row, from the first repeated one, at which every metric is bit-equal.
        pub bit_equal_steps: u64,
        /// First step at which a metric differs.
        pub diverged_at: Option<Step>,
        /// A metric that differs there.
        pub metric: Option<String>,
        /// In words: `bit-equal for 40 steps`, `diverged at 1203`.
        pub text: String,
    }

    /// A file attached to a run.
    pub struct FileInfo {
        /// Name.
        pub name: String,
        /// Bytes.
        pub bytes: u64,
        /// When.
        pub at: Timestamp,
    }

    /// Points that were dropped.
    pub struct LostPoints {
        /// Why.
        pub reason: String,
        /// How many, per metric.
        pub points: BTreeMap<String, u64>,
        /// When.
        pub at: Timestamp,
    }

    /// A checkpoint.
    pub struct CheckpointInfo {
        /// `ck_…`.
        pub id: String,
        /// REF that loads it: `MMP-42@500`.
        pub reference: String,
        /// The run that saved it.
        pub run: RunLabel,
        /// The launch.
        pub attempt: AttemptNumber,
        /// The step.
        pub step: Step,
        /// The how-manieth save of that step.
        pub k: u32,
        /// Its own name.
        pub name: Option<String>,
        /// When `save` was called.
        pub created: Timestamp,
        /// What became of it.
        pub state: CheckpointState,
        /// Whether the run inherits it rather than saved it.
        pub inherited: bool,
        /// Whether it lies on the run's effective timeline.
        pub effective: bool,
        /// Whether a later save of the same step supersedes it.
        pub superseded: bool,
        /// Raw bytes.
        pub bytes: u64,
        /// Bytes of distinct objects it needs in this store; null until counted.
        pub stored_bytes: Option<u64>,
        /// Tensors.
        pub tensors: u64,
        /// Metrics given to it, else the effective points at its step.
        pub metrics: BTreeMap<String, JsonFloat>,
        /// Tags.
        pub tags: Vec<String>,
        /// Whether a pin keeps it.
        pub pinned: bool,
        /// Parts, those that are there first.
        pub parts: Vec<PartInfo>,
        /// Runs that start from it.
        pub forks: Vec<RunLabel>,
    }

    /// A part of a checkpoint.
    pub struct PartInfo {
        /// Component.
        pub component: String,
        /// Rank.
        pub rank: u32,
        /// Whether it is here.
        pub present: bool,
        /// Raw bytes; 0 if absent.
        pub bytes: u64,
    }

    /// A family of runs: everything that shares a root.
    pub struct LineageTree {
        /// RunId of the root.
        pub root: String,
        /// The experiment.
        pub experiment: String,
        /// Runs, parents before children, then by birth.
        pub runs: Vec<LineageRun>,
    }

    /// A run in its tree.
    pub struct LineageRun {
        /// The run.
        pub summary: RunSummary,
        /// Its launches.
        pub attempts: Vec<AttemptInfo>,
        /// Its own checkpoints, pending and deleted ones included.
        pub checkpoints: Vec<CheckpointInfo>,
        /// What its config changes against its parent's.
        pub config_diff: Vec<ConfigChange>,
    }

    /// What to draw.
    pub struct SeriesRequest {
        /// The series.
        pub series: Vec<SeriesSelector>,
        /// The x axis.
        pub x: XAxis,
        /// Left edge in units of the axis (steps, or microseconds); null: the beginning.
        pub from: Option<i64>,
        /// Right edge, inclusive; null: the end.
        pub to: Option<i64>,
        /// Pixel columns: the answer has at most this many buckets per series (the nearest sub-block edges decide).
        pub pixels: u32,
        /// Whether ancestors' points are drawn.
        pub inherited: bool,
    }

    /// One series.
    pub struct SeriesSelector {
        /// RunId or display id.
        pub run: String,
        /// Metric name.
        pub metric: String,
        /// A launch whose own points alone are wanted (a ghost tail); null: the effective history.
        pub attempt: Option<AttemptNumber>,
    }

    /// Answers, in the order asked.
    pub struct SeriesResponse {
        /// One per selector.
        pub series: Vec<SeriesBuckets>,
    }

    /// A series as buckets, by columns. Every bucket is exact for the interval it declares: no point is sampled away.
    pub struct SeriesBuckets {
        /// RunId.
        pub run: String,
        /// Metric.
        pub metric: String,
        /// Launch, if one was asked for.
        pub attempt: Option<AttemptNumber>,
        /// Points the buckets stand for.
        pub points: u64,
        /// x of the first point of each bucket.
        pub x_first: Vec<i64>,
        /// x of the last point of each bucket.
        pub x_last: Vec<i64>,
        /// Finite minimum; NaN if the bucket has no finite point.
        pub min: Vec<JsonFloat>,
        /// Finite maximum.
        pub max: Vec<JsonFloat>,
        /// Mean of finite points.
        pub mean: Vec<JsonFloat>,
        /// First value, finite or not.
        pub first: Vec<JsonFloat>,
        /// Last value, finite or not.
        pub last: Vec<JsonFloat>,
        /// Points.
        pub count: Vec<u64>,
        /// Of them not finite.
        pub nonfinite: Vec<u64>,
        /// Which segment each bucket belongs to (index into `segments`).
        pub segment: Vec<u32>,
        /// The run and launch of each segment, root first.
        pub segments: Vec<SeriesSegment>,
    }

    /// A stretch of a drawn series.
    pub struct SeriesSegment {
        /// RunId.
        pub run: String,
        /// Launch.
        pub attempt: AttemptNumber,
        /// Whether it is another run's.
        pub inherited: bool,
        /// x where the stretch begins in this series, in units of the axis.
        pub x_start: i64,
    }

    /// Lines of a run's console.
    pub struct ConsolePage {
        /// The lines.
        pub lines: Vec<ConsoleLine>,
        /// Pass it to get what comes next.
        pub next_cursor: Option<String>,
    }

    /// A line of a run's console.
    pub struct ConsoleLine {
        /// Launch.
        pub attempt: AttemptNumber,
        /// `stdout` or `stderr`.
        pub stream: String,
        /// When.
        pub at: Timestamp,
        /// The text.
        pub text: String,
    }

    /// Asks for a fork.
    pub struct ForkRequest {
        /// REF of the checkpoint, `MMP-42@500`.
        pub reference: String,
        /// Name of the new run; null: `<parent>-f<k>`.
        pub name: Option<String>,
        /// Caller's own key, unique in the project.
        pub run_id: Option<String>,
        /// Config keys to change, deep-merged.
        pub config: Option<Value>,
        /// Tags.
        pub tags: Vec<String>,
        /// Notes.
        pub notes: Option<String>,
        /// Whether the owner's config is the base; default true.
        pub inherit_config: Option<bool>,
        /// Whether the owner's tags are taken; default false.
        pub inherit_tags: Option<bool>,
    }

    /// What differs between two runs or two checkpoints.
    pub struct DiffReport {
        /// Left side, as a REF.
        pub a: String,
        /// Right side, as a REF.
        pub b: String,
        /// Config keys that differ.
        pub config: Vec<ConfigChange>,
        /// Tensors that differ; empty when runs are compared without checkpoints.
        pub tensors: Vec<TensorChange>,
        /// Tensors that are bit-equal.
        pub equal_tensors: u64,
        /// Latest effective metrics of both sides.
        pub metrics: BTreeMap<String, MetricPair>,
    }

    /// A metric on both sides.
    pub struct MetricPair {
        /// Left.
        pub a: Option<MetricValue>,
        /// Right.
        pub b: Option<MetricValue>,
    }

    /// A tensor that differs.
    pub struct TensorChange {
        /// Dotted name.
        pub name: String,
        /// What happened to it.
        pub change: TensorChangeKind,
        /// Element type and shape on the left, `f32[10,3]`.
        pub a: Option<String>,
        /// On the right.
        pub b: Option<String>,
        /// ‖b−a‖₂ / ‖a‖₂ in f64, for numbers of one dtype and shape; null elsewhere.
        pub relative_norm: Option<JsonFloat>,
        /// Elements that differ; null where not comparable.
        pub changed_elements: Option<u64>,
    }
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CheckpointState {
    /// It exists.
    Complete,
    /// Parts are missing and nobody gave it up.
    Pending,
    /// It never came to be.
    Abandoned,
    /// It is in the trash.
    Deleted,
    /// It can not be read.
    Quarantined,
}

/// What happened to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TensorChangeKind {
    /// Only on the right.
    Added,
    /// Only on the left.
    Removed,
    /// Same dtype and shape, other values.
    Changed,
    /// Other dtype or shape.
    Reshaped,
}

/// The x axis of a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum XAxis {
    /// Steps.
    Step,
    /// Microseconds of training: the gap between a base and what continues it is taken out.
    Relative,
    /// Microseconds since the epoch.
    Wall,
}
