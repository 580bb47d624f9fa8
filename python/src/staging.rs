//! Staging memory that Python may hold: one mapping per staged state, kept between saves, filled on several threads.
//!
//! A framework's tensors lie at a [`Lease`]'s address and hold it; when the last of them is gone the mapping goes back to its arena. So memory is never written to while a save that is still being written reads it, however
//! many saves overlap.

use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use runtree_core::Error;

use crate::errors::to_py_err;

/// Bytes that one thread copies at a time.
const COPY_BYTES: usize = 8 << 20;
/// Most threads that copy: memory has no more bandwidth than they take.
const MAX_THREADS: usize = 8;
/// Mappings are made in these steps, so that a state that grows a little finds its old one.
const GRAIN_BYTES: usize = 2 << 20;

type Free = Arc<Mutex<Vec<MmapMut>>>;

/// Mappings that are kept between saves.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct StagingArena {
    free: Free,
}

/// Memory of one staged state.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct Lease {
    address: usize,
    bytes: usize,
    /// There until it is dropped.
    mapping: Mutex<Option<MmapMut>>,
    free: Free,
}

#[pymethods]
impl StagingArena {
    #[new]
    fn new() -> Self {
        Self {
            free: Arc::default(),
        }
    }

    /// Lends at least `bytes` bytes; what an earlier state left may still be in them.
    fn lend(&self, bytes: usize) -> PyResult<Lease> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = (0..free.len())
            .filter(|&at| free[at].len() >= bytes)
            .min_by_key(|&at| free[at].len());
        let mapping = fits.map(|at| free.swap_remove(at));
        if mapping.is_none() {
            // All that are free are too small: the state has grown, and nobody would take them again.
            free.clear();
        }
        drop(free);
        let mut mapping = match mapping {
            Some(mapping) => mapping,
            None => map(bytes)?,
        };
        Ok(Lease {
            address: mapping.as_mut_ptr() as usize,
            bytes,
            mapping: Mutex::new(Some(mapping)),
            free: Arc::clone(&self.free),
        })
    }

    /// Gives mappings that nobody holds back to the system.
    fn trim(&self) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn map(bytes: usize) -> PyResult<MmapMut> {
    let length = bytes.max(1).next_multiple_of(GRAIN_BYTES);
    let mapping = MmapMut::map_anon(length)
        .map_err(|error| PyMemoryError::new_err(format!("no {length} bytes to stage: {error}")))?;
    // Advice: where it is not taken, the first state takes longer.
    #[cfg(target_os = "linux")]
    let _ = mapping.advise(memmap2::Advice::HugePage);
    Ok(mapping)
}

#[pymethods]
#[expect(
    unsafe_code,
    reason = "frameworks take memory by address, and copying through Python would take a core of its own"
)]
impl Lease {
    /// Copies `(source address, bytes, offset in the lease)` on several threads, with the interpreter free. Targets do not overlap; sources are host memory
    /// that the caller keeps.
    fn fill(&self, py: Python<'_>, mut copies: Vec<(usize, usize, usize)>) -> PyResult<()> {
        copies.sort_unstable_by_key(|copy| copy.2);
        let mut end = 0;
        for (_, bytes, offset) in &copies {
            let stop = offset.checked_add(*bytes);
            if *offset < end || stop.is_none_or(|stop| stop > self.bytes) {
                return Err(to_py_err(
                    py,
                    &Error::internal("staged tensors overlap, or are larger than what was lent"),
                ));
            }
            end = offset + bytes;
        }
        let pieces: Vec<(usize, usize, usize)> = copies
            .iter()
            .flat_map(|&(source, bytes, offset)| {
                (0..bytes)
                    .step_by(COPY_BYTES)
                    .map(move |at| (source + at, (bytes - at).min(COPY_BYTES), offset + at))
            })
            .collect();
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let Some(&(source, bytes, offset)) =
                pieces.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                // SAFETY: source and length are what a framework said of a tensor that the caller holds; the target lies inside the mapping, which `self` keeps,
                // and no two pieces share any of it (checked above). A torn read of a source that Python writes meanwhile is a mixture of old
                // and new bytes, as in any copy of a tensor.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        source as *const u8,
                        (self.address + offset) as *mut u8,
                        bytes,
                    );
                }
            }
        };
        py.detach(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = processors.min(MAX_THREADS).min(pieces.len());
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(work);
                }
                work();
            });
        });
        Ok(())
    }

    /// Where it begins.
    #[getter]
    fn address(&self) -> usize {
        self.address
    }

    fn __len__(&self) -> usize {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mapping = self
            .mapping
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mapping) = mapping {
            self.free
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(mapping);
        }
    }
}
