//! The memory of a leaf, before it is decided what is stored for it: arithmetic on addresses, shapes and strides.

use pyo3::prelude::*;
use runtree_core::state::{Dtype, Framework};

use super::memory::{Memory, Tensor};

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

impl LeafMemory {
    /// How many.
    pub(super) fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// In elements, also of a dense leaf.
    pub(super) fn strides(&self) -> Vec<u64> {
        self.strides.clone().unwrap_or_else(|| {
            let mut strides = vec![1; self.shape.len()];
            for axis in (1..self.shape.len()).rev() {
                strides[axis - 1] = strides[axis] * self.shape[axis];
            }
            strides
        })
    }

    /// Elements from the first to the last in memory, gaps included; 0 if there are none.
    pub(super) fn span(&self) -> u64 {
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

    /// Behind its last element.
    pub(super) fn end(&self) -> usize {
        self.address + (self.span() * self.dtype.item_bytes()) as usize
    }

    /// Bytes of its elements without gaps, repeated ones as often as they are.
    pub(super) fn dense_bytes(&self) -> usize {
        (self.elements() * self.dtype.item_bytes()) as usize
    }

    /// Whether it is copied through pinned memory, together with others like it.
    pub(super) fn is_on_torch_device(&self) -> bool {
        self.framework == Framework::Torch && self.device.is_some()
    }

    /// The tensor that is stored for it, and for every leaf that is the same: what describes it is not looked at again.
    pub(super) fn take_tensor(&mut self, memory: Memory) -> Tensor {
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

    /// Whether it is the same elements in the same places.
    pub(super) fn same_view(&self, other: &Self) -> bool {
        self.address == other.address
            && self.shape == other.shape
            && self.strides() == other.strides()
            && self.dtype == other.dtype
            && self.device == other.device
            && self.global == other.global
    }

    /// Whether it may be stored as a view of a stretch of memory: its addresses can be compared and read, and a shard is always stored as it is.
    pub(super) fn may_be_viewed(&self) -> bool {
        self.device.is_none() && self.global.is_none()
    }

    /// Whether elements of it are in one place (`expand`), so that it is larger than its memory.
    pub(super) fn repeats(&self) -> bool {
        self.span() < self.elements()
    }

    /// Whether its memory is what is stored for it: row-major, dense and in host memory.
    pub(super) fn is_plain(&self) -> bool {
        self.strides.is_none() && self.device.is_none()
    }
}
