//! From what people type to what is meant: runs by display id, key, name or prefix; checkpoints by selector.

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{Error, Result, RunId, Step};

use crate::engine::Engine;

/// What a resolved REF is for. Reading takes the newest run of a name; writing refuses two candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Look.
    Read,
    /// Fork, delete, pin, annotate.
    Write,
}

/// What a REF names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The run.
    pub run: RunId,
    /// The step its selector names, if any.
    pub step: Option<Step>,
    /// The checkpoint its selector names, if any.
    pub checkpoint: Option<CheckpointName>,
}

impl Engine {
    /// Resolves a run by display id, key, name (`name~2`), RunId prefix, or number in `project`.
    pub fn resolve_run(
        &self,
        text: &str,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<RunId> {
        let _ = (text, project, purpose);
        Err(Error::internal("not built yet"))
    }

    /// Resolves a REF. A bare step need not have a checkpoint; every other selector must.
    pub fn resolve(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<Resolved> {
        let _ = (reference, project, purpose);
        Err(Error::internal("not built yet"))
    }

    /// Resolves a REF where a checkpoint is meant; without a selector that is the newest.
    pub fn resolve_checkpoint(
        &self,
        reference: &Reference,
        project: Option<&str>,
        purpose: Purpose,
    ) -> Result<CheckpointName> {
        let _ = (reference, project, purpose);
        Err(Error::internal("not built yet"))
    }
}
