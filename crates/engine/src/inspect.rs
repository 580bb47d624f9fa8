//! Looking into checkpoints: tensors, differences, verification, what the store holds.

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result, RunId, wire};

use crate::engine::Engine;

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Checkpoints looked at.
    pub checkpoints: u64,
    /// Distinct chunks read.
    pub chunks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged, in words.
    pub problems: Vec<String>,
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StatsReport {
    /// Runs.
    pub runs: u64,
    /// Complete checkpoints.
    pub checkpoints: u64,
    /// Raw bytes of all of them, each counted whole.
    pub logical_bytes: u64,
    /// Bytes of distinct objects.
    pub stored_bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
}

impl Engine {
    /// Reads and verifies a checkpoint, or all of them.
    pub fn verify(&self, checkpoint: Option<CheckpointName>) -> Result<VerifyReport> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// The tensors of a checkpoint.
    pub fn tensors(&self, checkpoint: CheckpointName) -> Result<Vec<wire::TensorInfo>> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// What differs between two checkpoints, tensor by tensor.
    pub fn diff_checkpoints(
        &self,
        a: CheckpointName,
        b: CheckpointName,
    ) -> Result<wire::DiffReport> {
        let _ = (a, b);
        Err(Error::internal("not built yet"))
    }

    /// What the store, or one run, holds.
    pub fn stats(&self, run: Option<RunId>) -> Result<StatsReport> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }
}
