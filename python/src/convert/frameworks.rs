//! What the walkers need of numpy, torch and jax, without importing any of them before a leaf of theirs is met.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use runtree_core::state::Framework;

/// The module of `runtree` that knows a framework.
pub(crate) fn adapter(py: Python<'_>, framework: Framework) -> PyResult<Bound<'_, PyModule>> {
    py.import(match framework {
        Framework::Numpy => "runtree._numpy",
        Framework::Torch => "runtree._torch",
        Framework::Jax => "runtree._jax",
    })
}

/// Classes of frameworks that this process has imported: what is not imported has no instances.
pub(crate) struct Classes<'py> {
    pub(crate) torch_tensor: Option<Bound<'py, PyType>>,
    pub(crate) torch_size: Option<Bound<'py, PyType>>,
    pub(crate) torch_dtype: Option<Bound<'py, PyType>>,
    pub(crate) torch_device: Option<Bound<'py, PyType>>,
    pub(crate) numpy_array: Option<Bound<'py, PyType>>,
    pub(crate) numpy_scalar: Option<Bound<'py, PyType>>,
    pub(crate) jax_array: Option<Bound<'py, PyType>>,
    pub(crate) sharded_tensor: Option<Bound<'py, PyType>>,
    pub(crate) enumeration: Bound<'py, PyType>,
    pub(crate) pure_path: Bound<'py, PyType>,
    pub(crate) ordered_dict: Bound<'py, PyType>,
    pub(crate) default_dict: Bound<'py, PyType>,
    pub(crate) counter: Bound<'py, PyType>,
    pub(crate) deque: Bound<'py, PyType>,
    pub(crate) datetime: Bound<'py, PyType>,
    pub(crate) date: Bound<'py, PyType>,
    pub(crate) time: Bound<'py, PyType>,
    pub(crate) timedelta: Bound<'py, PyType>,
}

impl<'py> Classes<'py> {
    /// Looks them up.
    pub(crate) fn new(py: Python<'py>) -> PyResult<Self> {
        let modules = py
            .import("sys")?
            .getattr("modules")?
            .cast_into::<PyDict>()?;
        let loaded = |module: &str, name: &str| -> PyResult<Option<Bound<'py, PyType>>> {
            // A module that is being imported by another thread may lack its names yet: then it has no instances either.
            let class = modules
                .get_item(module)?
                .and_then(|module| module.getattr(name).ok())
                .and_then(|class| class.cast_into::<PyType>().ok());
            Ok(class)
        };
        let class = |module: &str, name: &str| -> PyResult<Bound<'py, PyType>> {
            Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?)
        };
        Ok(Self {
            torch_tensor: loaded("torch", "Tensor")?,
            torch_size: loaded("torch", "Size")?,
            torch_dtype: loaded("torch", "dtype")?,
            torch_device: loaded("torch", "device")?,
            numpy_array: loaded("numpy", "ndarray")?,
            numpy_scalar: loaded("numpy", "generic")?,
            jax_array: loaded("jax", "Array")?,
            sharded_tensor: loaded("torch.distributed._shard.sharded_tensor", "ShardedTensor")?,
            enumeration: class("enum", "Enum")?,
            pure_path: class("pathlib", "PurePath")?,
            ordered_dict: class("collections", "OrderedDict")?,
            default_dict: class("collections", "defaultdict")?,
            counter: class("collections", "Counter")?,
            deque: class("collections", "deque")?,
            datetime: class("datetime", "datetime")?,
            date: class("datetime", "date")?,
            time: class("datetime", "time")?,
            timedelta: class("datetime", "timedelta")?,
        })
    }
}
