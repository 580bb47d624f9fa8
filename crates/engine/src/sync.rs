//! Stores talk to each other: what one has and another has not is copied, and nothing else changes.
//!
//! Everything in a store is immutable or append-only with one writer, so copying what is missing merges them. A deletion is a statement about one store: what the destination has deleted
//! is not copied into it, and tombstones are never copied. What is copied is verified on its way ([`runtree_store::Copying`]), and becomes visible as it does where it is
//! saved: chunks, then parts, then the commit. So a copy may be broken off anywhere, and the next one goes on.
//!
//! Order, for each run after its ancestors: number, key, birth, launches; journals and segments; files that journals name; checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, CommitRecord};
use runtree_core::{ProjectName, Result, RunId, Timestamp};
use runtree_store::Store;

mod bring;
mod copy;
mod keep;
mod plan;

pub use bring::{Brought, bring};
pub use copy::copy;
pub use keep::keep;
pub(crate) use keep::release;
pub use plan::{plan, runs_with_keys};

/// A store that holds nothing and is nowhere: to find out what a copy would take where there is none yet.
///
/// # Errors
/// None that are expected.
pub fn empty_store() -> Result<Store> {
    Store::create_over(
        Arc::new(runtree_store::object_store::memory::InMemory::new()),
        Timestamp(0),
    )
}

/// Requests that are under way at once, unless somebody says otherwise. A disk has enough of a few, a server far away wants more.
pub const CONCURRENCY: usize = 16;

/// Which runs and checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncSelection {
    /// These runs; none: all. Their ancestors come with them, with their history.
    pub runs: Option<BTreeSet<RunId>>,
    /// Which checkpoints of these runs.
    pub checkpoints: SyncCheckpoints,
    /// Copies also what the destination has deleted.
    pub restore: bool,
    /// Only these runs: their ancestors, and what they start from, were copied before.
    pub alone: bool,
    /// Requests that are under way at once; none: [`CONCURRENCY`].
    pub concurrency: Option<usize>,
}

impl SyncSelection {
    /// Adds a run; with a checkpoint, then of every run that is selected only the checkpoints that were added.
    pub fn add(&mut self, run: RunId, checkpoint: Option<CheckpointName>) {
        let runs = self.runs.get_or_insert_default();
        runs.insert(run);
        let Some(name) = checkpoint else {
            return;
        };
        // A fork inherits checkpoints that other runs own.
        runs.insert(name.run);
        if let SyncCheckpoints::Only(names) = &mut self.checkpoints {
            names.insert(name);
        } else {
            self.checkpoints = SyncCheckpoints::Only([name].into());
        }
    }
}

/// Which checkpoints are copied. What a fork or a base starts from comes with the run that starts from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SyncCheckpoints {
    /// All.
    #[default]
    All,
    /// These.
    Only(BTreeSet<CheckpointName>),
    /// None.
    None,
}

/// What is missing at the destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncPlan {
    /// Runs, ancestors first.
    pub runs: Vec<RunId>,
    pub(crate) projects: BTreeMap<RunId, ProjectName>,
    pub(crate) concurrency: Option<usize>,
    /// Checkpoints that are not there, oldest first in each run.
    pub checkpoints: Vec<CommitRecord>,
    /// Checkpoints that the destination has deleted, and that are left out.
    pub deleted_there: u64,
    /// Objects of chunks that are not there.
    pub chunks: u64,
    /// Their bytes, as they would be sent.
    pub bytes: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SyncReport {
    /// Runs that were looked at.
    pub runs: u64,
    /// Checkpoints that are at the destination now and were not before.
    pub checkpoints: u64,
    /// Chunks that were sent.
    pub chunks: u64,
    /// Bytes that were sent, records and journals included.
    pub bytes: u64,
    /// Names that somebody else has at the destination: numbers or keys of projects. Such a run is found by its RunId.
    pub clashes: u64,
}

/// Told of what was done so far; from several threads.
pub type Progress<'p> = &'p (dyn Fn(&SyncReport) + Sync);

/// Finds out what is missing and copies it.
///
/// # Errors
/// As [`plan()`] and [`copy()`].
pub fn sync(
    from: &Store,
    to: &Store,
    selection: &SyncSelection,
    progress: Progress<'_>,
) -> Result<SyncReport> {
    let plan = plan::missing(from, to, selection)?;
    copy(from, to, &plan, progress)
}
