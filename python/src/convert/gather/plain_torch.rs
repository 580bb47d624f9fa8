//! Plain torch tensors, described without any Python code: a state may have ten thousand of them, and `save` waits for each.
//!
//! What is plain: exactly `torch.Tensor` or `torch.nn.Parameter`, strided, of a dtype we know, no lazy conjugate or negative, no shard. Everything else, and everything that
//! is refused with words, is `runtree._torch.describe`'s; where both answer they answer the same.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use runtree_core::state::{Dtype, Framework};

use super::shown;
use crate::convert::frameworks::adapter;
use crate::convert::share::LeafMemory;

/// What makes a tensor plain.
pub(super) struct PlainTorch<'py> {
    tensor: Bound<'py, PyType>,
    parameter: Bound<'py, PyType>,
    strided: Bound<'py, PyAny>,
    /// By address: dtypes are singletons.
    dtypes: HashMap<usize, Dtype>,
}

/// A plain tensor.
pub(super) struct PlainTensor {
    pub(super) memory: LeafMemory,
    pub(super) parameter: bool,
    pub(super) requires_grad: bool,
}

impl<'py> PlainTorch<'py> {
    /// Looks the names up. Called when the first tensor of torch is met.
    pub(super) fn new(py: Python<'py>) -> PyResult<Self> {
        let torch = py.import("torch")?;
        let table = adapter(py, Framework::Torch)?
            .getattr("DTYPES")?
            .cast_into::<PyDict>()?;
        let mut dtypes = HashMap::new();
        for (theirs, ours) in table {
            if let Ok(dtype) = ours.extract::<&str>()?.parse() {
                dtypes.insert(theirs.as_ptr() as usize, dtype);
            }
        }
        Ok(Self {
            tensor: torch.getattr("Tensor")?.cast_into()?,
            parameter: torch.getattr("nn")?.getattr("Parameter")?.cast_into()?,
            strided: torch.getattr("strided")?,
            dtypes,
        })
    }

    /// Describes a tensor; `None` if it is not plain.
    ///
    /// # Errors
    /// What torch raises.
    pub(super) fn describe(
        &self,
        tensor: &Bound<'py, PyAny>,
        path: &str,
    ) -> PyResult<Option<PlainTensor>> {
        let py = tensor.py();
        let class = tensor.get_type();
        let parameter = class.is(&self.parameter);
        if !parameter && !class.is(&self.tensor) {
            return Ok(None);
        }
        let is = |name: &Bound<'py, pyo3::types::PyString>| -> PyResult<bool> {
            tensor.getattr(name)?.extract()
        };
        let says = |name: &Bound<'py, pyo3::types::PyString>| -> PyResult<bool> {
            tensor.call_method0(name)?.extract()
        };
        let dtype = tensor.getattr(intern!(py, "dtype"))?;
        let Some(dtype) = self.dtypes.get(&(dtype.as_ptr() as usize)) else {
            return Ok(None);
        };
        let device = if is(intern!(py, "is_cpu"))? {
            None
        } else if is(intern!(py, "is_meta"))? {
            return Ok(None);
        } else {
            Some(tensor.getattr(intern!(py, "device"))?.str()?.to_string())
        };
        if !tensor.getattr(intern!(py, "layout"))?.is(&self.strided)
            || is(intern!(py, "is_nested"))?
            || says(intern!(py, "is_neg"))?
            || says(intern!(py, "is_conj"))?
            || is_marked(tensor)
        {
            return Ok(None);
        }
        let numbers = |tuple: Bound<'py, PyAny>| -> PyResult<Vec<u64>> {
            let tuple = tuple.cast_into::<PyTuple>()?;
            tuple.iter().map(|number| number.extract()).collect()
        };
        let strides = if says(intern!(py, "is_contiguous"))? {
            None
        } else {
            Some(numbers(tensor.call_method0(intern!(py, "stride"))?)?)
        };
        Ok(Some(PlainTensor {
            parameter,
            requires_grad: is(intern!(py, "requires_grad"))?,
            memory: LeafMemory {
                name: shown(path),
                framework: Framework::Torch,
                dtype: dtype.clone(),
                shape: numbers(tensor.getattr(intern!(py, "shape"))?)?,
                strides,
                address: tensor.call_method0(intern!(py, "data_ptr"))?.extract()?,
                // Not the tensor itself: that may be given other memory (`parameter.data = …`) while this is being read.
                owner: tensor.call_method0(intern!(py, "detach"))?.unbind(),
                device,
                global: None,
            },
        }))
    }
}

/// Whether somebody marked a tensor as the shard of another.
#[expect(
    unsafe_code,
    reason = "the safe way makes an exception for every tensor that has no such attribute, which is every tensor"
)]
fn is_marked(tensor: &Bound<'_, PyAny>) -> bool {
    let py = tensor.py();
    [
        intern!(py, "_runtree_shards"),
        intern!(py, "global_shape"),
        intern!(py, "local_shards"),
    ]
    .iter()
    // SAFETY: both are live objects, and the interpreter is held.
    .any(|name| unsafe { pyo3::ffi::PyObject_HasAttr(tensor.as_ptr(), name.as_ptr()) } != 0)
}
