//! Memory that a guard keeps its owner from changing, as addresses.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// Host and device memory that is left alone until a save has copied it.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct GuardedMemory {
    /// Disjoint, by address: (first, end). None: all memory.
    ranges: Option<Vec<(usize, usize)>>,
}

#[pymethods]
impl GuardedMemory {
    /// `ranges` are `(address, bytes)` in any order, and may overlap; None: all memory there is.
    #[new]
    fn new(ranges: Option<Vec<(usize, usize)>>) -> Self {
        Self {
            ranges: ranges.map(merge),
        }
    }

    /// The memory of tensors of torch. What has no address (a sparse tensor, one on no device) or gaps is left out: it is copied at once, like all that is not guarded.
    #[staticmethod]
    fn of_tensors(tensors: &Bound<'_, PyList>) -> PyResult<Self> {
        let py = tensors.py();
        let mut ranges = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let address = tensor.call_method0(intern!(py, "data_ptr"));
            let bytes = tensor.getattr(intern!(py, "nbytes"));
            let dense = tensor.call_method0(intern!(py, "is_contiguous"));
            if let (Ok(address), Ok(bytes), Ok(dense)) = (address, bytes, dense)
                && dense.extract()?
            {
                ranges.push((address.extract()?, bytes.extract()?));
            }
        }
        Ok(Self {
            ranges: Some(merge(ranges)),
        })
    }

    /// Whether all of `address..address + bytes` is guarded.
    pub(crate) fn covers(&self, address: usize, bytes: usize) -> bool {
        let Some(ranges) = &self.ranges else {
            return true;
        };
        let behind = ranges.partition_point(|&(first, _)| first <= address);
        let Some(&(_, end)) = behind.checked_sub(1).and_then(|at| ranges.get(at)) else {
            return false;
        };
        address.checked_add(bytes).is_some_and(|stop| stop <= end)
    }
}

/// Sorted, and joined where they touch: a tensor may span what two parameters own.
fn merge(ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = ranges
        .into_iter()
        .filter(|&(_, bytes)| bytes > 0)
        .map(|(address, bytes)| (address, address.saturating_add(bytes)))
        .collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
    ranges
}
