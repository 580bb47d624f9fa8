//! Which leaves share memory, and what is stored for them.
//!
//! Two leaves whose elements lie in overlapping stretches of memory are views of one tensor: the stretch is stored once, as a
//! one-dimensional record, and each leaf as a strided view of it, so that writing to one shows in the other after loading, as
//! before. Overlap is decided by addresses alone: memory belongs to one allocation, so stretches that overlap are in the same one.
//! Leaves that are the same view of it need no view at all. A leaf that repeats elements (`expand`) is stored as a view, too: it
//! must not grow on disk.

use std::collections::HashMap;

use bytes::Bytes;
use pyo3::prelude::*;
use runtree_core::state::{Dtype, Framework, StateNode, TensorView};
use runtree_engine::TensorData;

use super::frameworks::adapter;
use super::transfer::{FromDevice, Transfer};
use crate::guarded::GuardedMemory;

/// A leaf's memory, as its framework describes it.
pub(crate) struct LeafMemory {
    pub(crate) name: String,
    pub(crate) framework: Framework,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    /// In elements; `None` if row-major and dense.
    pub(crate) strides: Option<Vec<u64>>,
    /// Of the first element, on its device.
    pub(crate) address: usize,
    /// What keeps the memory.
    pub(crate) owner: Py<PyAny>,
    /// `None` in host memory.
    pub(crate) device: Option<String>,
    /// Global shape and offset of a shard.
    pub(crate) global: Option<(Vec<u64>, Vec<u64>)>,
}

/// A tensor to store.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) global_shape: Option<Vec<u64>>,
    pub(crate) global_offset: Option<Vec<u64>>,
    pub(crate) memory: Memory,
}

impl Tensor {
    fn dense_bytes(&self) -> usize {
        (self.shape.iter().product::<u64>() * self.dtype.item_bytes()) as usize
    }
}

/// Row-major bytes in host memory, and what keeps them there.
pub(crate) struct Memory {
    address: usize,
    bytes: usize,
    owner: Py<PyAny>,
    /// Nobody writes to it until a save has copied it.
    guarded: bool,
}

impl Memory {
    fn nothing(py: Python<'_>) -> Self {
        Self {
            address: 0,
            bytes: 0,
            owner: py.None(),
            guarded: false,
        }
    }

    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The bytes, as the engine takes them.
    pub(crate) fn data(&self, py: Python<'_>) -> TensorData<'_> {
        if self.guarded && self.bytes > 0 {
            TensorData::Guarded(Bytes::from_owner(Held {
                address: self.address,
                bytes: self.bytes,
                _owner: self.owner.clone_ref(py),
            }))
        } else {
            TensorData::Borrowed(view(self.address, self.bytes))
        }
    }
}

/// Memory that lives as long as a save reads it. Dropped on a thread without the interpreter, its owner is let go by the next one that has it.
struct Held {
    address: usize,
    bytes: usize,
    _owner: Py<PyAny>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        view(self.address, self.bytes)
    }
}

/// The bytes at `address`, for as long as the caller keeps their owner.
#[expect(
    unsafe_code,
    reason = "tensors are read where they are; copying each through a safe buffer would double the time that save blocks"
)]
fn view<'a>(address: usize, bytes: usize) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: both callers keep the owner of what a framework said its elements span beside the address, and hand the slice out for no longer than that.
    // Another Python thread may write to it meanwhile, as it may during any copy of a tensor: bytes are then a mixture of old and new ones, and are only
    // copied, never interpreted.
    unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }
}

/// Where a leaf's elements are stored.
pub(crate) struct Placed {
    tensor: u32,
    view: Option<TensorView>,
}

impl LeafMemory {
    fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    fn strides(&self) -> Vec<u64> {
        self.strides.clone().unwrap_or_else(|| {
            let mut strides = vec![1; self.shape.len()];
            for axis in (1..self.shape.len()).rev() {
                strides[axis - 1] = strides[axis] * self.shape[axis];
            }
            strides
        })
    }

    /// Elements from the first to the last in memory, gaps included; 0 if there are none.
    fn span(&self) -> u64 {
        if self.elements() == 0 || self.strides.is_none() {
            return self.elements();
        }
        1 + self
            .shape
            .iter()
            .zip(self.strides())
            .map(|(size, stride)| (size - 1) * stride)
            .sum::<u64>()
    }

    fn end(&self) -> usize {
        self.address + (self.span() * self.dtype.item_bytes()) as usize
    }

    fn dense_bytes(&self) -> usize {
        (self.elements() * self.dtype.item_bytes()) as usize
    }

    /// Whether it is copied through pinned memory, together with others like it.
    fn is_on_torch_device(&self) -> bool {
        self.framework == Framework::Torch && self.device.is_some()
    }

    /// The tensor that is stored for it, and for every leaf that is the same: what describes it is not looked at again.
    fn take_tensor(&mut self, memory: Memory) -> Tensor {
        let (global_shape, global_offset) = self.global.take().unzip();
        Tensor {
            name: std::mem::take(&mut self.name),
            dtype: self.dtype.clone(),
            shape: std::mem::take(&mut self.shape),
            global_shape,
            global_offset,
            memory,
        }
    }

    fn same_view(&self, other: &Self) -> bool {
        self.address == other.address
            && self.shape == other.shape
            && self.strides() == other.strides()
            && self.dtype == other.dtype
            && self.device == other.device
            && self.global == other.global
    }

    /// Whether the addresses can be compared and read.
    fn in_host_memory(&self) -> bool {
        self.device.is_none()
    }
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
    let is_guarded = |address, bytes| guarded.is_some_and(|guarded| guarded.covers(address, bytes));
    let clusters = clusters(&leaves);
    let mut from_device = FromDevice::default();
    let mut reads_on = false;
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut placed: Vec<Option<Placed>> = leaves.iter().map(|_| None).collect();
    for first in 0..leaves.len() {
        if placed[first].is_some() {
            continue;
        }
        let alone = [first];
        let members = clusters.get(&first).map_or(&alone[..], Vec::as_slice);
        let leaf = &leaves[first];
        let tensor = tensors.len() as u32;
        let alike = members
            .iter()
            .all(|&member| member == first || leaf.same_view(&leaves[member]));
        let repeats =
            leaf.in_host_memory() && leaf.global.is_none() && leaf.span() < leaf.elements();
        if alike && !repeats {
            for member in members {
                placed[*member] = Some(Placed { tensor, view: None });
            }
            let bytes = leaf.dense_bytes();
            let on_device = bytes > 0 && leaf.is_on_torch_device();
            let memory = if on_device && devices == Devices::Count {
                // Nobody reads it.
                Memory {
                    address: 0,
                    bytes,
                    owner: leaf.owner.clone_ref(py),
                    guarded: false,
                }
            } else if on_device {
                let owner = leaf.owner.clone_ref(py);
                from_device.add(tensors.len(), owner, is_guarded(leaf.address, bytes));
                // Set below, when all of them are on their way.
                Memory::nothing(py)
            } else {
                let guarded = is_guarded(leaf.address, bytes);
                reads_on |= guarded && bytes > 0;
                dense(py, leaf, guarded)?
            };
            tensors.push(leaves[first].take_tensor(memory));
            continue;
        }
        let start = members
            .iter()
            .map(|member| leaves[*member].address)
            .min()
            .unwrap_or(leaf.address);
        let end = members
            .iter()
            .map(|member| leaves[*member].end())
            .max()
            .unwrap_or(start);
        let item = leaf.dtype.item_bytes();
        for member in members {
            let member_leaf = &leaves[*member];
            let view = TensorView {
                offset: (member_leaf.address - start) as u64 / item,
                shape: member_leaf.shape.clone(),
                strides: member_leaf.strides(),
            };
            placed[*member] = Some(Placed {
                tensor,
                view: Some(view),
            });
        }
        let guarded = is_guarded(start, end - start);
        reads_on |= guarded && end > start;
        tensors.push(Tensor {
            name: leaf.name.clone(),
            dtype: leaf.dtype.clone(),
            shape: vec![(end - start) as u64 / item],
            global_shape: None,
            global_offset: None,
            memory: Memory {
                address: start,
                bytes: end - start,
                owner: leaf.owner.clone_ref(py),
                guarded,
            },
        });
    }
    let transfer = from_device.start(py, |tensor, owner, address| {
        let bytes = tensors[tensor].dense_bytes();
        tensors[tensor].memory = Memory {
            address,
            bytes,
            owner,
            // Pinned memory of its own.
            guarded: true,
        };
    })?;
    Ok(Placement {
        tensors,
        placed: placed.into_iter().flatten().collect(),
        transfer,
        reads_on,
    })
}

/// For every leaf that shares its memory, those that do, itself among them, in the order of the tree.
fn clusters(leaves: &[LeafMemory]) -> HashMap<usize, Vec<usize>> {
    let mut clusters: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut join = |members: &[usize]| {
        if members.len() < 2 {
            return;
        }
        let mut members = members.to_vec();
        members.sort_unstable();
        for &member in &members {
            clusters.insert(member, members.clone());
        }
    };
    // Host memory that may be viewed: by overlap. Views are in elements, so a dtype is on its own.
    let mut dtypes: Vec<&Dtype> = Vec::new();
    let mut by_address: Vec<(usize, usize, usize)> = Vec::with_capacity(leaves.len());
    for (index, leaf) in leaves.iter().enumerate() {
        if leaf.in_host_memory() && leaf.global.is_none() && leaf.span() > 0 {
            let dtype = dtypes.iter().position(|dtype| **dtype == leaf.dtype);
            let dtype = dtype.unwrap_or_else(|| {
                dtypes.push(&leaf.dtype);
                dtypes.len() - 1
            });
            by_address.push((dtype, leaf.address, index));
        }
    }
    by_address.sort_unstable();
    let mut open: Vec<usize> = Vec::new();
    let mut end = 0;
    for (_, _, leaf) in by_address {
        let memory = &leaves[leaf];
        let overlaps = open.first().is_some_and(|first: &usize| {
            let base = &leaves[*first];
            memory.address < end
                && memory.dtype == base.dtype
                && ((memory.address - base.address) as u64)
                    .is_multiple_of(memory.dtype.item_bytes().max(1))
        });
        if overlaps {
            end = end.max(memory.end());
        } else {
            join(&open);
            open.clear();
            end = memory.end();
        }
        open.push(leaf);
    }
    join(&open);
    // Elsewhere (devices, shards): the very same view.
    let mut same: HashMap<(usize, String), Vec<usize>> = HashMap::new();
    for (index, leaf) in leaves.iter().enumerate() {
        if (leaf.in_host_memory() && leaf.global.is_none()) || leaf.elements() == 0 {
            continue;
        }
        let found = same
            .entry((leaf.address, leaf.device.clone().unwrap_or_default()))
            .or_default();
        if found
            .first()
            .is_none_or(|first| leaves[*first].same_view(leaf))
        {
            found.push(index);
        }
    }
    for members in same.values() {
        join(members);
    }
    clusters
}

fn dense(py: Python<'_>, leaf: &LeafMemory, guarded: bool) -> PyResult<Memory> {
    let bytes = leaf.dense_bytes();
    if bytes == 0 || (leaf.strides.is_none() && leaf.in_host_memory()) {
        return Ok(Memory {
            address: leaf.address,
            bytes,
            owner: leaf.owner.clone_ref(py),
            guarded,
        });
    }
    let (owner, address) = adapter(py, leaf.framework)?
        .call_method1("dense", (&leaf.owner,))?
        .extract()?;
    Ok(Memory {
        address,
        bytes,
        owner,
        // A copy that nobody else knows.
        guarded: true,
    })
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
