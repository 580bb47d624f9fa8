//! How runs descend from each other: launches, what they are built upon, and the tree of a family.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CheckpointInfo, ConfigChange, RunLabel, RunSummary};
use crate::clock::Timestamp;
use crate::event::RunStatus;
use crate::id::{AttemptNumber, Step};
use crate::manifest::AttemptKind;

wire! {
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

    /// A family of runs: everything that shares a root.
    pub struct LineageTree {
        /// RunId of the root.
        pub root: String,
        /// The experiment.
        pub experiment: String,
        /// What the lineage has come to: the run that was made its head, else the one that was active last.
        pub head: Option<RunLabel>,
        /// Whether somebody made it the head.
        pub head_is_set: bool,
        /// Runs, parents before children, then by birth.
        pub runs: Vec<LineageRun>,
    }

    /// What was tried from one checkpoint.
    pub struct SweepTable {
        /// The checkpoint, as a REF.
        pub reference: String,
        /// Dotted config keys in which a fork differs from the parent.
        pub config_keys: Vec<String>,
        /// Metrics of any of them, by name.
        pub metrics: Vec<SweepMetric>,
        /// The run that was forked, as it went on itself.
        pub parent: RunSummary,
        /// The forks, oldest first.
        pub runs: Vec<RunSummary>,
    }

    /// A metric of siblings.
    pub struct SweepMetric {
        /// Its name.
        pub name: String,
        /// Whether a lower value is the better one, by its name: a loss, an error, a perplexity.
        pub lower_is_better: bool,
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
}
