//! Which leaves share memory, and what is stored for them.
//!
//! Two leaves whose elements lie in overlapping stretches of memory are views of one tensor: the stretch is stored once, as a
//! one-dimensional record, and each leaf as a strided view of it, so that writing to one shows in the other after loading, as
//! before. Overlap is decided by addresses alone: memory belongs to one allocation, so stretches that overlap are in the same one.
//! Leaves that are the same view of it need no view at all. A leaf that repeats elements (`expand`) is stored as a view, too: it
//! must not grow on disk.

use std::collections::HashMap;

use pyo3::prelude::*;
use runtree_core::state::{Dtype, Framework, StateNode, TensorView};

use super::frameworks::adapter;

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

/// Row-major bytes in host memory, and what keeps them there.
pub(crate) struct Memory {
    address: usize,
    bytes: usize,
    _owner: Py<PyAny>,
}

impl Memory {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The bytes.
    #[expect(
        unsafe_code,
        reason = "tensors are read where they are; copying each through a safe buffer would double the time that save blocks"
    )]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: `address..address + bytes` is what the framework said the elements of `_owner` span, and `_owner` is alive. Another Python
        // thread may write to it meanwhile, as it may during any copy of a tensor: bytes are then a mixture of old and new ones, and are only
        // copied, never interpreted.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.bytes) }
    }
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
        if self.elements() == 0 {
            return 0;
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

/// Decides what to store; the second list says where each leaf went.
///
/// # Errors
/// What frameworks raise when a leaf has to be made dense.
pub(crate) fn place(
    py: Python<'_>,
    leaves: Vec<LeafMemory>,
) -> PyResult<(Vec<Tensor>, Vec<Placed>)> {
    let clusters = clusters(&leaves);
    let mut tensors = Vec::new();
    let mut placed: Vec<Option<Placed>> = leaves.iter().map(|_| None).collect();
    for first in 0..leaves.len() {
        if placed[first].is_some() {
            continue;
        }
        let members = &clusters[first];
        let leaf = &leaves[first];
        let tensor = tensors.len() as u32;
        let alike = members
            .iter()
            .all(|member| leaf.same_view(&leaves[*member]));
        let repeats =
            leaf.in_host_memory() && leaf.global.is_none() && leaf.span() < leaf.elements();
        if alike && !repeats {
            for member in members {
                placed[*member] = Some(Placed { tensor, view: None });
            }
            tensors.push(dense(py, leaf)?);
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
        tensors.push(Tensor {
            name: leaf.name.clone(),
            dtype: leaf.dtype.clone(),
            shape: vec![(end - start) as u64 / item],
            global_shape: None,
            global_offset: None,
            memory: Memory {
                address: start,
                bytes: end - start,
                _owner: leaf.owner.clone_ref(py),
            },
        });
    }
    Ok((tensors, placed.into_iter().flatten().collect()))
}

/// For every leaf, the leaves that share its memory, itself among them, in the order of the tree.
fn clusters(leaves: &[LeafMemory]) -> Vec<Vec<usize>> {
    let mut clusters: Vec<Vec<usize>> = (0..leaves.len()).map(|leaf| vec![leaf]).collect();
    let mut join = |members: Vec<usize>| {
        if members.len() < 2 {
            return;
        }
        let mut members = members;
        members.sort_unstable();
        for member in members.clone() {
            clusters[member].clone_from(&members);
        }
    };
    // Host memory that may be viewed: by overlap. Views are in elements, so a dtype is on its own.
    let mut by_address: Vec<usize> = (0..leaves.len())
        .filter(|leaf| {
            let leaf = &leaves[*leaf];
            leaf.in_host_memory() && leaf.global.is_none() && leaf.span() > 0
        })
        .collect();
    by_address.sort_by_cached_key(|leaf| {
        let leaf = &leaves[*leaf];
        (leaf.dtype.to_string(), leaf.address)
    });
    let mut open: Vec<usize> = Vec::new();
    let mut end = 0;
    for leaf in by_address {
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
            join(std::mem::take(&mut open));
            end = memory.end();
        }
        open.push(leaf);
    }
    join(open);
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
    same.into_values().for_each(join);
    clusters
}

fn dense(py: Python<'_>, leaf: &LeafMemory) -> PyResult<Tensor> {
    let bytes = (leaf.elements() * leaf.dtype.item_bytes()) as usize;
    let (owner, address) = if bytes == 0 || (leaf.strides.is_none() && leaf.in_host_memory()) {
        (leaf.owner.clone_ref(py), leaf.address)
    } else {
        adapter(py, leaf.framework)?
            .call_method1("dense", (&leaf.owner,))?
            .extract()?
    };
    let (global_shape, global_offset) = leaf.global.clone().unzip();
    Ok(Tensor {
        name: leaf.name.clone(),
        dtype: leaf.dtype.clone(),
        shape: leaf.shape.clone(),
        global_shape,
        global_offset,
        memory: Memory {
            address,
            bytes,
            _owner: owner,
        },
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
