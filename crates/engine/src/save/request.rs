//! What to save, in plain data, and what is wrong with it: everything that can be refused is refused before a byte is copied.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use runtree_core::reference::Selector;
use runtree_core::state::{Dtype, StateNode};
use runtree_core::{ComponentName, Error, Result, Step};

/// What to do if the saves before are still being written and no staging memory is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfBusy {
    /// Wait, at most 30 s; then the save is skipped, and its result and `finish` say so.
    #[default]
    Wait,
    /// Skip this save at once; its result says so.
    Skip,
}

/// Waits until guarded memory holds what is to be saved: a device may still be writing it. Called once, on any thread, before any of it is read.
pub type Ready = Box<dyn FnOnce() -> Result<()> + Send>;

/// What to save.
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
    /// The declared part set; none: `{component: world_size}` if sharded, else this part alone.
    pub parts: Option<BTreeMap<ComponentName, u32>>,
    /// Whether leaves are shards.
    pub sharded: bool,
    /// Whether to pin it.
    pub pin: bool,
    /// What to do without memory.
    pub if_busy: IfBusy,
    /// What to wait for before guarded memory is read.
    pub ready: Option<Ready>,
    /// What is in it.
    pub entries: Vec<EntrySource<'a>>,
}

impl fmt::Debug for SaveRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaveRequest")
            .field("step", &self.step)
            .field("component", &self.component)
            .field("rank", &self.rank)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl SaveRequest<'_> {
    /// A request of one process that saves `entries` and leaves everything else at its default.
    pub fn of(entries: Vec<EntrySource<'_>>) -> SaveRequest<'_> {
        SaveRequest {
            step: None,
            name: None,
            metrics: BTreeMap::new(),
            component: ComponentName::trainer(),
            rank: 0,
            world_size: 1,
            parts: None,
            sharded: false,
            pin: false,
            if_busy: IfBusy::Wait,
            ready: None,
            entries,
        }
    }
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
    pub data: TensorData<'a>,
}

/// Where a tensor's bytes are, and for how long they stay as they are.
#[derive(Clone, Debug)]
pub enum TensorData<'a> {
    /// Memory that may be changed as soon as `save` has returned: it is copied before.
    Borrowed(&'a [u8]),
    /// Memory that is left alone until [`super::PendingSave::wait_staged`] returns: it is copied beside whatever its owner does meanwhile. Who changes it
    /// earlier saves a mixture of old and new bytes.
    Guarded(Bytes),
}

impl TensorData<'_> {
    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Guarded(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for TensorData<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

/// Longest name of a checkpoint, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Who writes what of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) component: ComponentName,
    /// The part's rank: 0 where the component has one part, whoever saves it.
    pub(crate) rank: u32,
    /// The process's own rank.
    pub(crate) process_rank: u32,
    pub(crate) parts: BTreeMap<ComponentName, u32>,
    pub(crate) sharded: bool,
}

impl Role {
    /// How many parts the checkpoint has.
    pub(crate) fn part_count(&self) -> u64 {
        self.parts.values().map(|&ranks| u64::from(ranks)).sum()
    }

    /// Works out the part that a request writes.
    ///
    /// # Errors
    /// `Invalid` if rank, world size and parts contradict each other, or several processes would save a launch that nothing but chance names.
    pub(crate) fn of(request: &SaveRequest<'_>, launch_key_is_random: bool) -> Result<Self> {
        let SaveRequest {
            component,
            rank,
            world_size,
            sharded,
            ..
        } = request;
        if rank >= world_size {
            return Err(Error::invalid(format!(
                "rank {rank} is not below world_size {world_size}"
            )));
        }
        let ranks = if *sharded { *world_size } else { 1 };
        let parts = match &request.parts {
            None => BTreeMap::from([(component.clone(), ranks)]),
            Some(parts) => parts.clone(),
        };
        if let Some((component, _)) = parts.iter().find(|(_, ranks)| **ranks == 0) {
            return Err(Error::invalid(format!("parts= gives {component} no ranks")));
        }
        let declared = *parts.get(component).ok_or_else(|| {
            Error::invalid(format!(
                "parts= does not name {component}, which saves; it names {}",
                parts
                    .keys()
                    .map(ComponentName::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))
        })?;
        let part_rank = if declared == 1 { 0 } else { *rank };
        if part_rank >= declared {
            return Err(Error::invalid(format!(
                "rank {rank} of {component} saves, but parts= gives it {declared} ranks"
            )));
        }
        let role = Self {
            component: component.clone(),
            rank: part_rank,
            process_rank: *rank,
            parts,
            sharded: *sharded,
        };
        if role.part_count() > 1 && launch_key_is_random {
            return Err(Error::invalid(format!(
                "a checkpoint of {} parts needs to know which processes are one launch",
                role.part_count()
            ))
            .with_hint(
                "start with torchrun or under SLURM, or set RUNTREE_ATTEMPT to the same text in all processes of the launch",
            ));
        }
        Ok(role)
    }
}

/// Checks what does not depend on the store.
pub(crate) fn check(request: &SaveRequest<'_>) -> Result<()> {
    if let Some(name) = &request.name {
        let plain = !name.is_empty()
            && name.len() <= MAX_NAME_BYTES
            && !name
                .chars()
                .any(|c| c.is_control() || matches!(c, '/' | '#' | '@'));
        if !plain {
            return Err(Error::invalid(format!(
                "checkpoint name {name:?} is empty, longer than {MAX_NAME_BYTES} bytes, or contains a control character or one of / # @"
            ))
            .with_hint("a REF names it after @, like MMP-42@warm"));
        }
        // One grammar decides what is a name: what `run@name` would read as something else could never be loaded by it.
        if !matches!(name.parse(), Ok(Selector::Name(_))) {
            return Err(Error::invalid(format!(
                "checkpoint name {name:?} means something else after @ in a REF"
            ))
            .with_hint(
                "steps, checkpoint ids, latest, last-good, <=STEP and best:METRIC select checkpoints; call it another name, like \"warm\"",
            ));
        }
    }
    if request.entries.is_empty() {
        return Err(Error::invalid("nothing to save: the request has no entry"));
    }
    let mut states: Vec<&str> = Vec::new();
    for entry in &request.entries {
        if let EntrySource::State { path, tensors, .. } = entry {
            if path.is_empty()
                || path.len() > MAX_NAME_BYTES
                || path.starts_with('.')
                || path.contains(['/', '\\', '\0', ':'])
            {
                return Err(Error::invalid(format!("{path:?} can not name a state")));
            }
            if states.contains(&path.as_str()) {
                return Err(Error::invalid(format!("two states are named {path:?}")));
            }
            states.push(path);
            tensors.iter().try_for_each(check_tensor)?;
        }
    }
    if request.entries.len() > states.len() + 1 || (request.entries.len() > 1 && states.is_empty())
    {
        return Err(Error::invalid(
            "at most one directory can be saved at a time",
        ));
    }
    Ok(())
}

fn check_tensor(tensor: &TensorSource<'_>) -> Result<()> {
    let expected = tensor
        .shape
        .iter()
        .try_fold(tensor.dtype.item_bytes(), |bytes, &size| {
            bytes.checked_mul(size)
        });
    let bytes = tensor.data.as_slice().len();
    if expected != Some(bytes as u64) {
        return Err(Error::invalid(format!(
            "tensor {:?} is {} {:?} but has {bytes} bytes",
            tensor.name, tensor.dtype, tensor.shape,
        )));
    }
    Ok(())
}
