//! A run's remote: what a live run writes is pushed to another store while it trains.
//!
//! The run writes to its own store at its own speed, and one thread of low priority copies what is there and not at the remote ([`crate::sync`]): as soon as a checkpoint is
//! committed, and each half minute for the metrics. A remote that can not be reached is asked again, ever more seldom; nothing of that is ever felt by `log` or `save`. What
//! `finish` can not push is said, stays where it is, and is sent by the next launch of the run, or by `runtree push`.
//!
//! With `keep_local`, checkpoints that the remote has are deleted here, but for the newest ones ([`evict`]).

use std::path::PathBuf;

use runtree_core::{SaveKey, Step, Timestamp};
use runtree_index::CheckpointRow;
use runtree_store::remote::Settings;

mod evict;
mod prune;
mod state;
mod worker;

pub(crate) use worker::Shipper;

/// Where a live run is pushed to.
#[derive(Clone, Debug)]
pub struct RemoteSpec {
    /// A directory, or the address of a bucket.
    pub location: PathBuf,
    /// How buckets are accessed.
    pub settings: Settings,
    /// How many of the run's newest checkpoints stay here once the remote has them; none: all.
    pub keep_local: Option<u32>,
}

/// How far the remote of a run is behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RemoteReport {
    /// Where it is.
    pub location: String,
    /// Steps of checkpoints that this launch committed and that are not there, ascending.
    pub behind: Vec<Step>,
    /// Whether everything that the run had written when this was asked is there: records, metrics, checkpoints.
    pub complete: bool,
    /// Everything that was written until then is there.
    pub pushed_until: Option<Timestamp>,
    /// What it said last, if it can not be pushed to.
    pub error: Option<String>,
}

/// How the reason of a tombstone begins that was set by eviction; where the checkpoint is follows.
const EVICTED_TO: &str = "evicted to ";

/// Where a checkpoint is that was deleted here because another store keeps it.
pub(crate) fn evicted_to(row: &CheckpointRow) -> Option<&str> {
    let (_, reason) = row.tombstone.as_ref().filter(|_| row.deleted)?;
    reason.strip_prefix(EVICTED_TO)
}

/// Steps of saves, each once.
fn steps(keys: impl IntoIterator<Item = SaveKey>) -> Vec<Step> {
    let mut steps: Vec<Step> = keys.into_iter().map(|key| key.step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}
