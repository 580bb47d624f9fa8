//! What is stored: tensors, the host memory that has their bytes, and for how long it may be read.

use bytes::Bytes;
use pyo3::prelude::*;
use runtree_core::state::Dtype;
use runtree_engine::TensorData;

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
    /// Bytes of its elements.
    pub(super) fn dense_bytes(&self) -> usize {
        (self.shape.iter().product::<u64>() * self.dtype.item_bytes()) as usize
    }
}

/// Row-major bytes in host memory, and what keeps them there.
pub(crate) struct Memory {
    pub(super) address: usize,
    pub(super) bytes: usize,
    pub(super) owner: Py<PyAny>,
    /// Nobody writes to it until a save has copied it.
    pub(super) guarded: bool,
}

impl Memory {
    /// No bytes.
    pub(super) fn nothing(py: Python<'_>) -> Self {
        Self {
            address: 0,
            bytes: 0,
            owner: py.None(),
            guarded: false,
        }
    }

    /// Bytes that are counted and never read.
    pub(super) fn counted(bytes: usize, owner: Py<PyAny>) -> Self {
        Self {
            address: 0,
            bytes,
            owner,
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
    // copied, never interpreted. Of memory that is only counted nobody asks for the bytes: nothing is saved with it.
    unsafe { std::slice::from_raw_parts(address as *const u8, bytes) }
}
