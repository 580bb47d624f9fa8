//! The `runtree` command, as `pip install` brings it.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command line with these arguments (the program's name first) and returns the exit code.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| runtree_cli::main(arguments))
}
