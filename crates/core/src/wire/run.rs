//! A run as lists and its own page show it, its console, and what asks for a fork of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AlertInfo, AlertSummary, AttemptInfo, ChildInfo, ConfigChange, ProcessInfo, SegmentInfo,
    StepRange,
};
use crate::clock::Timestamp;
use crate::console::ConsoleLevel;
use crate::event::RunStatus;
use crate::float::JsonFloat;
use crate::id::{AttemptNumber, Step};

wire! {
    /// Names a run.
    pub struct RunLabel {
        /// RunId.
        pub id: String,
        /// Display id.
        pub display_id: String,
        /// Name.
        pub name: String,
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
        /// What each metric asked for effectively comes to, system metrics excluded.
        pub metrics: BTreeMap<String, RunMetric>,
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
        /// Alerts of its own, if there are any.
        pub alerts: Option<AlertSummary>,
    }

    /// A value of a metric.
    pub struct MetricValue {
        /// At which step.
        pub step: Step,
        /// The value.
        pub value: JsonFloat,
    }

    /// What a metric of a run comes to, inherited points included: its latest value, and its extremes.
    pub struct RunMetric {
        /// The latest step.
        pub step: Step,
        /// The latest value, finite or not.
        pub value: JsonFloat,
        /// Smallest finite value and its first step.
        pub min: Option<MetricValue>,
        /// Largest finite value and its first step.
        pub max: Option<MetricValue>,
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
        /// The newest alerts, oldest first, at most 200.
        pub alerts: Vec<AlertInfo>,
        /// Its processes, by launch and rank, at most 256 of the newest launches.
        pub processes: Vec<ProcessInfo>,
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
        /// Of the points, those that this run logged itself; 0: it only inherits the metric.
        pub own_points: u64,
        /// Smallest finite value among them.
        pub own_min: Option<MetricValue>,
        /// Largest finite value among them.
        pub own_max: Option<MetricValue>,
        /// Latest of them.
        pub own_last: Option<MetricValue>,
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
        /// Rank of the process that printed it.
        pub rank: u32,
        /// How loud it says it is.
        pub level: Option<ConsoleLevel>,
        /// The text.
        pub text: String,
    }

    /// Asks for a fork.
    pub struct ForkRequest {
        /// REF of the checkpoint, `MMP-42@500`.
        pub reference: String,
        /// The project it is born in; null: its parent's.
        pub project: Option<String>,
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
}
