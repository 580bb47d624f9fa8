//! Plain objects of a bucket, for layouts that are not a store's.

use std::path::PathBuf;

use pyo3::prelude::*;
use runtree_core::Result;
use runtree_engine::{RemoteAddress, Settings, fetch_object, list_objects};

use crate::errors::IntoPyResult as _;

/// Refuses what can not be the address of a bucket.
#[pyfunction]
pub(crate) fn check_address(py: Python<'_>, url: &str) -> PyResult<()> {
    url.parse::<RemoteAddress>().map(drop).into_py(py)
}

/// What lies below an address, with its size; keys are relative to it.
#[pyfunction]
pub(crate) fn bucket_list(
    py: Python<'_>,
    url: &str,
    settings: Settings,
) -> PyResult<Vec<(String, u64)>> {
    let list = || -> Result<_> { list_objects(&url.parse::<RemoteAddress>()?, &settings) };
    py.detach(list).into_py(py)
}

/// Writes one object below an address to a new file; returns how many bytes it has.
#[pyfunction]
pub(crate) fn bucket_fetch(
    py: Python<'_>,
    url: &str,
    key: &str,
    path: PathBuf,
    settings: Settings,
) -> PyResult<u64> {
    let fetch =
        || -> Result<_> { fetch_object(&url.parse::<RemoteAddress>()?, &settings, key, &path) };
    py.detach(fetch).into_py(py)
}
