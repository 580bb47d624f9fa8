//! What is said about runs and checkpoints after the fact: names, notes, tags, pins, deletion. Each call is a journal of its own.

use std::collections::BTreeMap;

use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::{AttemptNumber, Error, Result, RunId, Step};
use serde_json::Value;

use crate::engine::Engine;

/// What to say about a run; what is `None` or empty stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// A new name.
    pub name: Option<String>,
    /// New notes; empty removes them.
    pub notes: Option<String>,
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to remove.
    pub remove_tags: Vec<String>,
    /// Config keys to set, deep-merged.
    pub config_patch: Option<Value>,
    /// A status, and why.
    pub status: Option<(RunStatus, Option<String>)>,
}

impl Engine {
    /// Says something about a run.
    pub fn annotate(&self, run: RunId, annotation: Annotation) -> Result<()> {
        let _ = (run, annotation);
        Err(Error::internal("not built yet"))
    }

    /// Gives metric values and tags to a checkpoint.
    pub fn annotate_checkpoint(
        &self,
        checkpoint: CheckpointName,
        metrics: BTreeMap<String, f64>,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
    ) -> Result<()> {
        let _ = (checkpoint, metrics, add_tags, remove_tags);
        Err(Error::internal("not built yet"))
    }

    /// Keeps a checkpoint whatever retention says.
    pub fn pin(&self, checkpoint: CheckpointName, reason: &str) -> Result<()> {
        let _ = (checkpoint, reason);
        Err(Error::internal("not built yet"))
    }

    /// Takes the pin back.
    pub fn unpin(&self, checkpoint: CheckpointName) -> Result<()> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// Hides a run. Its checkpoints and points stay; children keep what they show.
    pub fn delete_run(&self, run: RunId) -> Result<()> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// Brings a deleted run back.
    pub fn undelete_run(&self, run: RunId) -> Result<()> {
        let _ = run;
        Err(Error::internal("not built yet"))
    }

    /// Puts a checkpoint into the trash.
    pub fn delete_checkpoint(&self, checkpoint: CheckpointName, reason: &str) -> Result<()> {
        let _ = (checkpoint, reason);
        Err(Error::internal("not built yet"))
    }

    /// Takes a checkpoint out of the trash.
    pub fn undelete_checkpoint(&self, checkpoint: CheckpointName) -> Result<()> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// Takes a run back to a step, outside a process: a new attempt whose base is there. The next launch that resumes continues from it.
    pub fn rewind(&self, run: RunId, step: Step) -> Result<AttemptNumber> {
        let _ = (run, step);
        Err(Error::internal("not built yet"))
    }
}
