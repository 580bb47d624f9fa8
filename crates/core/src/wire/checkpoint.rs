//! Checkpoints as the edges list them. What is in one is in `tensors`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RunLabel;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::float::JsonFloat;
use crate::id::{AttemptNumber, SaveKey, Step};
use crate::manifest::CheckpointName;

wire! {
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
}

impl CheckpointInfo {
    /// Which checkpoint it is about, as the store has it.
    ///
    /// # Errors
    /// `Invalid` if the run's id is none.
    pub fn checkpoint_name(&self) -> Result<CheckpointName> {
        Ok(CheckpointName {
            run: self.run.id.parse()?,
            key: SaveKey {
                attempt: self.attempt,
                step: self.step,
                k: self.k,
            },
        })
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
