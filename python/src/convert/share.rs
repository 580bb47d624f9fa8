//! Which leaves share memory, and what is stored for them.
//!
//! Two leaves whose elements lie in overlapping stretches of memory are views of one tensor: the stretch is stored once, as a
//! one-dimensional record, and each leaf as a strided view of it, so that writing to one shows in the other after loading, as
//! before. Overlap is decided by addresses alone: memory belongs to one allocation, so stretches that overlap are in the same one.
//! Leaves that are the same view of it need no view at all. A leaf that repeats elements (`expand`) is stored as a view, too: it
//! must not grow on disk.
//!
//! A tree's leaves come as [`LeafMemory`] (`leaf`), those that belong together are found (`clusters`), and each cluster becomes one [`Tensor`]
//! (`memory`): [`place`] says which.

use pyo3::prelude::*;
use runtree_core::state::{StateNode, TensorView};

use super::frameworks::adapter;
use super::transfer::{FromDevice, Transfer};
use crate::guarded::GuardedMemory;

mod clusters;
mod leaf;
mod memory;

pub(crate) use leaf::LeafMemory;
pub(crate) use memory::Tensor;

use clusters::Clusters;
use memory::Memory;

/// Where a leaf's elements are stored.
pub(crate) struct Placed {
    tensor: u32,
    view: Option<TensorView>,
}

/// What is stored, where each leaf went, and what is still on its way from a device.
pub(crate) struct Placement {
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) placed: Vec<Placed>,
    pub(crate) transfer: Option<Transfer>,
    /// Whether host memory of the caller is read after the save has returned.
    pub(crate) reads_on: bool,
}

/// What becomes of tensors of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// They are copied.
    Copy,
    /// They are only counted: nothing is saved.
    Count,
}

/// Decides what to store. Memory in `guarded` may be copied after the save has returned.
///
/// # Errors
/// What frameworks raise when a leaf has to be made dense.
pub(crate) fn place(
    py: Python<'_>,
    mut leaves: Vec<LeafMemory>,
    guarded: Option<&GuardedMemory>,
    devices: Devices,
) -> PyResult<Placement> {
    let clusters = Clusters::of(&leaves);
    let mut stored = Stored {
        py,
        guarded,
        devices,
        tensors: Vec::new(),
        from_device: FromDevice::default(),
        reads_on: false,
    };
    let mut placed: Vec<Option<Placed>> = leaves.iter().map(|_| None).collect();
    for first in 0..leaves.len() {
        if placed[first].is_some() {
            // With the first of its cluster.
            continue;
        }
        let alone = [first];
        let members = clusters.members(first).unwrap_or(&alone);
        let tensor = stored.tensors.len() as u32;
        if is_one_tensor(&leaves, members) {
            stored.add_leaf(&mut leaves[first])?;
            for &member in members {
                placed[member] = Some(Placed { tensor, view: None });
            }
        } else {
            let stretch = Stretch::around(&leaves, members);
            stored.add_stretch(&leaves[first], &stretch);
            for &member in members {
                let view = Some(stretch.view_of(&leaves[member]));
                placed[member] = Some(Placed { tensor, view });
            }
        }
    }
    let transfer = stored.start_transfer()?;
    Ok(Placement {
        tensors: stored.tensors,
        placed: placed.into_iter().flatten().collect(),
        transfer,
        reads_on: stored.reads_on,
    })
}

/// Whether the members of a cluster are one tensor under several names, to be stored as it is. If not, all of them are views of the stretch that
/// they lie in.
fn is_one_tensor(leaves: &[LeafMemory], members: &[usize]) -> bool {
    let first = &leaves[members[0]];
    let alike = members[1..]
        .iter()
        .all(|&member| first.same_view(&leaves[member]));
    // One that repeats elements would grow on disk.
    alike && !(first.may_be_viewed() && first.repeats())
}

/// Host memory from the first byte of a cluster to its last.
struct Stretch {
    start: usize,
    end: usize,
    item_bytes: u64,
}

impl Stretch {
    fn around(leaves: &[LeafMemory], members: &[usize]) -> Self {
        let first = &leaves[members[0]];
        let others = members[1..].iter().map(|&member| &leaves[member]);
        let whole = Self {
            start: first.address,
            end: first.end(),
            item_bytes: first.dtype.item_bytes(),
        };
        others.fold(whole, |whole, leaf| Self {
            start: whole.start.min(leaf.address),
            end: whole.end.max(leaf.end()),
            ..whole
        })
    }

    fn bytes(&self) -> usize {
        self.end - self.start
    }

    /// Where in it a member's elements are.
    fn view_of(&self, leaf: &LeafMemory) -> TensorView {
        TensorView {
            offset: (leaf.address - self.start) as u64 / self.item_bytes,
            shape: leaf.shape.clone(),
            strides: leaf.strides(),
        }
    }
}

/// What is stored so far.
struct Stored<'a, 'py> {
    py: Python<'py>,
    guarded: Option<&'a GuardedMemory>,
    devices: Devices,
    tensors: Vec<Tensor>,
    /// Those of `tensors` that a device has, and that have no memory yet.
    from_device: FromDevice,
    /// As [`Placement::reads_on`]; also where a copy is made of guarded memory: waiting for it once too often does no harm.
    reads_on: bool,
}

impl Stored<'_, '_> {
    /// Adds a leaf as it is, for itself and for those that are the same.
    fn add_leaf(&mut self, leaf: &mut LeafMemory) -> PyResult<()> {
        let memory = if leaf.dense_bytes() == 0 {
            Memory::nothing(self.py)
        } else if leaf.is_on_torch_device() {
            self.device_memory(leaf)
        } else {
            self.host_memory(leaf)?
        };
        self.tensors.push(leaf.take_tensor(memory));
        Ok(())
    }

    /// Adds a stretch of memory as one line of elements, named and kept like the first leaf in it.
    fn add_stretch(&mut self, first: &LeafMemory, stretch: &Stretch) {
        let bytes = stretch.bytes();
        let guarded = self.is_guarded(stretch.start, bytes);
        self.reads_on |= guarded && bytes > 0;
        self.tensors.push(Tensor {
            name: first.name.clone(),
            dtype: first.dtype.clone(),
            shape: vec![bytes as u64 / stretch.item_bytes],
            global_shape: None,
            global_offset: None,
            memory: Memory {
                address: stretch.start,
                bytes,
                owner: first.owner.clone_ref(self.py),
                guarded,
            },
        });
    }

    /// Notes the next tensor as one to be copied from its device, together with the others: see [`Stored::start_transfer`].
    fn device_memory(&mut self, leaf: &LeafMemory) -> Memory {
        let bytes = leaf.dense_bytes();
        let owner = leaf.owner.clone_ref(self.py);
        match self.devices {
            Devices::Count => Memory::counted(bytes, owner),
            Devices::Copy => {
                let guarded = self.is_guarded(leaf.address, bytes);
                self.from_device.add(self.tensors.len(), owner, guarded);
                Memory::nothing(self.py)
            }
        }
    }

    /// The leaf's own memory if that is dense, else a copy, which its framework makes.
    fn host_memory(&mut self, leaf: &LeafMemory) -> PyResult<Memory> {
        let bytes = leaf.dense_bytes();
        let guarded = self.is_guarded(leaf.address, bytes);
        self.reads_on |= guarded;
        if leaf.is_plain() {
            return Ok(Memory {
                address: leaf.address,
                bytes,
                owner: leaf.owner.clone_ref(self.py),
                guarded,
            });
        }
        let (owner, address) = adapter(self.py, leaf.framework)?
            .call_method1("dense", (&leaf.owner,))?
            .extract()?;
        Ok(Memory {
            address,
            bytes,
            owner,
            // Nobody else knows it.
            guarded: true,
        })
    }

    /// Starts to copy what devices have, and gives those tensors the memory that it arrives in.
    fn start_transfer(&mut self) -> PyResult<Option<Transfer>> {
        let tensors = &mut self.tensors;
        std::mem::take(&mut self.from_device).start(self.py, |tensor, owner, address| {
            let tensor = &mut tensors[tensor];
            tensor.memory = Memory {
                address,
                bytes: tensor.dense_bytes(),
                owner,
                // Pinned memory of its own.
                guarded: true,
            };
        })
    }

    fn is_guarded(&self, address: usize, bytes: usize) -> bool {
        self.guarded
            .is_some_and(|guarded| guarded.covers(address, bytes))
    }
}

/// Puts the final numbers and views into the leaves, which carried the index of their [`LeafMemory`] until now.
pub(crate) fn number_leaves(node: &mut StateNode, placed: &[Placed]) {
    match node {
        StateNode::Tensor(leaf) => {
            let place = &placed[leaf.tensor as usize];
            leaf.tensor = place.tensor;
            leaf.view.clone_from(&place.view);
        }
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. }
        | StateNode::Dict { v, .. } => v.iter_mut().for_each(|node| number_leaves(node, placed)),
        StateNode::Stateful { state, .. } => number_leaves(state, placed),
        _ => {}
    }
}
