//! What `into=` has in the place of a node, and whether it fits: asked when a load is planned, and again when objects are made.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};
use runtree_core::Error;
use runtree_core::state::{Framework, StateKey};

use super::Builder;
use crate::errors::to_py_err;

impl<'py> Builder<'_, 'py> {
    pub(super) fn invalid(&self, path: &str, message: &str) -> PyErr {
        let path = if path.is_empty() { "state" } else { path };
        to_py_err(
            self.py,
            &Error::invalid(format!("`{path}` of into= {message}")),
        )
    }

    /// The dict that is filled in the place of a saved one; none if there is none, or an object that takes a state.
    pub(super) fn dict_target(
        &self,
        into: Option<&Bound<'py, PyAny>>,
        path: &str,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(into) = into else { return Ok(None) };
        if self.is_stateful(into) {
            return Ok(None);
        }
        if let Ok(dict) = into.cast::<PyDict>() {
            return Ok(Some(dict.clone()));
        }
        let name = into.get_type().fully_qualified_name()?;
        Err(self.invalid(
            path,
            &format!("is a {name}; the checkpoint has a dict there"),
        ))
    }

    /// Refuses a dict that wants something restored which the checkpoint has not.
    pub(super) fn check_keys(
        &self,
        dict: &Bound<'py, PyDict>,
        keys: &[StateKey],
        path: &str,
    ) -> PyResult<()> {
        let known = PySet::empty(self.py)?;
        for key in keys {
            known.add(self.key(key)?)?;
        }
        for (key, value) in dict.iter() {
            // Plain values are only replaced by what is there; objects that nothing would restore are a mistake.
            let wants = self.framework_of(&value).is_some() || self.is_stateful(&value);
            if wants && !known.contains(&key)? {
                let names: Vec<String> = keys.iter().map(StateKey::path_part).take(20).collect();
                let message = format!(
                    "has {}, which the checkpoint has not; it has {}",
                    key.repr()?,
                    names.join(", ")
                );
                return Err(self.invalid(path, &message));
            }
        }
        Ok(())
    }

    /// What the caller has in the places of a saved sequence's items.
    pub(super) fn items_target(
        &self,
        into: Option<&Bound<'py, PyAny>>,
        length: usize,
        path: &str,
    ) -> PyResult<Option<Vec<Bound<'py, PyAny>>>> {
        let Some(into) = into else { return Ok(None) };
        let name = into.get_type().fully_qualified_name()?;
        let sequence = into.is_instance_of::<PyList>()
            || into.is_instance_of::<PyTuple>()
            || into.is_instance(&self.classes.deque)?;
        if !sequence {
            return Err(self.invalid(
                path,
                &format!("is a {name}; the checkpoint has a sequence there"),
            ));
        }
        let items = into.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        if items.len() != length {
            let message = format!("has {} items, the checkpoint {length}", items.len());
            return Err(self.invalid(path, &message));
        }
        Ok(Some(items))
    }

    pub(super) fn is_stateful(&self, object: &Bound<'py, PyAny>) -> bool {
        !object.is_exact_instance_of::<PyDict>()
            && object
                .hasattr(intern!(self.py, "load_state_dict"))
                .unwrap_or(false)
    }

    pub(super) fn framework_of(&self, object: &Bound<'py, PyAny>) -> Option<Framework> {
        let is_a = |class: &Option<Bound<'py, pyo3::types::PyType>>| {
            class
                .as_ref()
                .is_some_and(|class| object.is_instance(class).unwrap_or(false))
        };
        if is_a(&self.classes.torch_tensor) {
            Some(Framework::Torch)
        } else if is_a(&self.classes.numpy_array) {
            Some(Framework::Numpy)
        } else if is_a(&self.classes.jax_array) {
            Some(Framework::Jax)
        } else {
            None
        }
    }
}
