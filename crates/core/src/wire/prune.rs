//! What a retention policy does to the checkpoints of a run.

use serde::{Deserialize, Serialize};

use super::RunLabel;
use crate::id::{AttemptNumber, Step};

wire! {
    /// A plan, or what became of it.
    pub struct PruneInfo {
        /// The run.
        pub run: RunLabel,
        /// The rules.
        pub policy: serde_json::Value,
        /// Every checkpoint that the run saved itself, ascending by step.
        pub decisions: Vec<PruneDecisionInfo>,
        /// Why nothing goes, if a rule ranks by a metric that no checkpoint has a value of.
        pub unranked: Option<String>,
        /// Bytes that would be free if those that go were gone: what others share, or are encoded against, is not counted.
        pub freed_bytes: Option<u64>,
        /// Checkpoints that were put into the trash; null if nothing was applied.
        pub deleted: Option<u64>,
        /// Bytes that emptying the trash freed; null if nothing was applied.
        pub trash_freed_bytes: Option<u64>,
    }

    /// What becomes of one checkpoint.
    pub struct PruneDecisionInfo {
        /// `ck_…`.
        pub id: String,
        /// The launch.
        pub attempt: AttemptNumber,
        /// The step.
        pub step: Step,
        /// The how-manieth save of that step.
        pub k: u32,
        /// Raw bytes.
        pub bytes: u64,
        /// Whether it stays.
        pub keep: bool,
        /// Why: everything that keeps it, or what there is to say about one that goes.
        pub reasons: Vec<String>,
    }
}
