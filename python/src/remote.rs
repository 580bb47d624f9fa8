//! The remote of a live run.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use runtree_core::ErrorKind;
use runtree_engine::{RemoteSpec, Settings};

use crate::errors::IntoPyResult as _;
use crate::pending::PendingSave;
use crate::runtime::wait;
use crate::writer::RunWriter;

/// Has a run pushed to another store from now on.
#[pyfunction]
pub(crate) fn ship(
    py: Python<'_>,
    writer: &RunWriter,
    location: PathBuf,
    settings: Settings,
    keep_local: Option<u32>,
) -> PyResult<()> {
    let inner = writer.inner(py)?;
    let spec = RemoteSpec {
        location,
        settings,
        keep_local,
    };
    py.detach(|| inner.ship_to(spec)).into_py(py)
}

/// Waits until a save that is durable here is at the remote; `Unavailable` if it is not after `timeout` seconds.
#[pyfunction]
pub(crate) fn wait_remote(
    py: Python<'_>,
    writer: &RunWriter,
    save: &PendingSave,
    timeout: f64,
) -> PyResult<()> {
    let inner = writer.inner(py)?;
    let key = save.inner(py)?.key();
    let timeout = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
    let mut outcome = Ok(());
    wait(py, Some(timeout), |slice| {
        outcome = inner.wait_remote(key, Some(slice));
        // Not yet is not the end.
        !matches!(&outcome, Err(error) if error.kind() == ErrorKind::Unavailable)
    })?;
    outcome.into_py(py)
}
