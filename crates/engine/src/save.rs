//! Saving: the blocking part is one copy of memory; hashing, writing and committing run on native threads.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtree_core::state::{Dtype, StateNode};
use runtree_core::{ComponentName, Error, Result, SaveKey, Step, wire};

use crate::live::RunWriter;

/// What to do if the save before is still being written and no memory is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfBusy {
    /// Wait a while.
    #[default]
    Wait,
    /// Skip this save, and say so.
    Skip,
}

/// What to save.
#[derive(Debug)]
pub struct SaveRequest<'a> {
    /// The step; none: the last logged.
    pub step: Option<Step>,
    /// The checkpoint's own name.
    pub name: Option<String>,
    /// Metrics given directly.
    pub metrics: BTreeMap<String, f64>,
    /// Which program of the launch saves.
    pub component: ComponentName,
    /// Its rank.
    pub rank: u32,
    /// How many ranks it has.
    pub world_size: u32,
    /// The declared part set; none: `{component: world_size}`, or one part if not sharded.
    pub parts: Option<BTreeMap<ComponentName, u32>>,
    /// Whether leaves are shards.
    pub sharded: bool,
    /// Whether to pin it.
    pub pin: bool,
    /// What to do without memory.
    pub if_busy: IfBusy,
    /// What is in it.
    pub entries: Vec<EntrySource<'a>>,
}

/// An entry to save.
#[derive(Debug)]
pub enum EntrySource<'a> {
    /// A state tree.
    State {
        /// The entry's name.
        path: String,
        /// The tree.
        tree: StateNode,
        /// Its tensors.
        tensors: Vec<TensorSource<'a>>,
        /// Its long byte strings.
        blobs: Vec<Cow<'a, [u8]>>,
    },
    /// A directory, byte for byte.
    Directory(PathBuf),
}

/// A tensor to save.
#[derive(Debug)]
pub struct TensorSource<'a> {
    /// Dotted name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape here.
    pub shape: Vec<u64>,
    /// Global shape of a shard.
    pub global_shape: Option<Vec<u64>>,
    /// Where the shard begins.
    pub global_offset: Option<Vec<u64>>,
    /// Contiguous, row-major, little endian.
    pub data: &'a [u8],
}

/// A save on its way to disk.
#[derive(Clone, Debug)]
pub struct PendingSave {
    key: SaveKey,
}

impl PendingSave {
    /// Waits until the checkpoint exists on all ranks, and returns it.
    pub fn result(&self, timeout: Option<Duration>) -> Result<wire::CheckpointInfo> {
        let _ = timeout;
        Err(Error::internal("not built yet"))
    }

    /// Whether [`PendingSave::result`] would return at once.
    pub fn done(&self) -> bool {
        false
    }

    /// What went wrong, once it is done.
    pub fn exception(&self) -> Option<Arc<Error>> {
        None
    }

    /// Waits until the state may be changed again.
    pub fn wait_staged(&self) {}

    /// Gives the save up if it is not committed yet.
    pub fn cancel(&self) {}

    /// Its key.
    pub fn key(&self) -> SaveKey {
        self.key
    }
}

impl RunWriter {
    /// Saves. Returns when the state has been copied; [`PendingSave::result`] says when the checkpoint exists.
    pub fn save(self: &Arc<Self>, request: SaveRequest<'_>) -> Result<PendingSave> {
        let _ = request;
        Err(Error::internal("not built yet"))
    }
}
