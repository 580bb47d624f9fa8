//! Errors of the engine as exceptions of `runtree.errors`: one class per kind, with `.kind` and `.hint`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtree_core::Error;

/// The exception for an error; its text is the whole chain of causes.
pub(crate) fn to_py_err(py: Python<'_>, error: &Error) -> PyErr {
    raise(
        py,
        error.kind().python_class(),
        &error.chain(),
        error.hint(),
    )
}

/// A wrong type where the call, not the store, is at fault: `Invalid` that is a `TypeError` too.
pub(crate) fn wrong_type(py: Python<'_>, message: &str, hint: Option<&str>) -> PyErr {
    raise(py, "InvalidType", message, hint)
}

fn raise(py: Python<'_>, class: &str, message: &str, hint: Option<&str>) -> PyErr {
    let make = || {
        let keywords = PyDict::new(py);
        keywords.set_item("hint", hint)?;
        py.import("runtree.errors")?
            .getattr(class)?
            .call((message,), Some(&keywords))
    };
    match make() {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Turns the engine's results into Python's.
pub(crate) trait IntoPyResult<T> {
    /// Maps the error to its exception.
    fn into_py(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPyResult<T> for runtree_core::Result<T> {
    fn into_py(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_py_err(py, &error))
    }
}
