//! The `runtree` command, as `pip install` brings it.

use pyo3::prelude::*;

/// Runs the command line with these arguments (the program's name first) and returns the exit code.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<String>) -> PyResult<u8> {
    let _ = (py, arguments);
    Ok(0)
}
