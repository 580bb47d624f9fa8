//! Out of the store and into it: directories byte for byte, state trees as safetensors + JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result, RunId, Step, wire};

use crate::engine::Engine;

/// How a checkpoint is laid out on export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExportLayout {
    /// As it was saved.
    #[default]
    AsSaved,
    /// What `from_pretrained` loads.
    Hf,
}

/// What to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// Only tensors whose dotted name matches this glob.
    pub keys: Option<String>,
    /// The layout.
    pub layout: ExportLayout,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ExportReport {
    /// Where.
    pub directory: PathBuf,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl Engine {
    /// Writes a checkpoint into a directory. Never overwrites a file it did not write.
    pub fn export(
        &self,
        checkpoint: CheckpointName,
        directory: &Path,
        options: &ExportOptions,
    ) -> Result<ExportReport> {
        let _ = (checkpoint, directory, options);
        Err(Error::internal("not built yet"))
    }

    /// Saves a directory as a checkpoint of a run, without a live process.
    pub fn import_dir(
        self: &Arc<Self>,
        run: RunId,
        directory: &Path,
        step: Step,
        name: Option<String>,
    ) -> Result<wire::CheckpointInfo> {
        let _ = (run, directory, step, name);
        Err(Error::internal("not built yet"))
    }

    /// A read-only copy of a checkpoint in the cache, made once.
    pub fn materialize(&self, checkpoint: CheckpointName) -> Result<PathBuf> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }
}
