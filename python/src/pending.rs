//! A save on its way to disk.

use std::time::Duration;

use pyo3::prelude::*;
use runtree_core::Error;

use crate::convert::json::to_python;
use crate::errors::{IntoPyResult as _, to_py_err};
use crate::runtime::{Owned, wait};

/// The native half of `runtree.PendingSave`.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct PendingSave {
    inner: Owned<runtree_engine::PendingSave>,
    /// A `runtree._device.Transfer`, if tensors of a device are in it.
    transfer: Option<Py<PyAny>>,
    reads_on: bool,
}

impl PendingSave {
    pub(crate) fn new(
        inner: runtree_engine::PendingSave,
        transfer: Option<Py<PyAny>>,
        reads_on: bool,
    ) -> Self {
        Self {
            inner: Owned::new(inner),
            transfer,
            reads_on,
        }
    }

    pub(crate) fn inner(&self, py: Python<'_>) -> PyResult<&runtree_engine::PendingSave> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this save belongs to the process this one was forked from"),
            )
        })
    }
}

#[pymethods]
impl PendingSave {
    /// Waits at most `timeout` seconds; raises what went wrong.
    fn result<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let timeout = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
        wait(py, Some(timeout), |slice| {
            // The outcome is read below, once; here only the waiting matters.
            let _ = inner.wait(Some(slice));
            inner.done()
        })?;
        let info = py
            .detach(|| inner.result(Some(Duration::ZERO)))
            .into_py(py)?;
        to_python(py, &info)
    }

    /// Waits at most `timeout` seconds until this process's own part is durable, whatever other ranks do; says whether it is.
    fn wait_part(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let inner = self.inner(py)?;
        let timeout = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
        let mut there = false;
        wait(py, Some(timeout), |slice| {
            there = inner.wait_part(slice).unwrap_or(true);
            there
        })?;
        inner.wait_part(Duration::ZERO).into_py(py)
    }

    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner(py)?.done())
    }

    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self
            .inner(py)?
            .exception()
            .map(|error| to_py_err(py, &error).into_value(py).into_any()))
    }

    /// Waits at most `timeout` seconds until nothing of the state's memory is read any more; says whether that is so.
    #[pyo3(signature = (timeout=None))]
    fn wait_staged(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        // A forked child's copy of the memory is read by nobody.
        let Some(inner) = self.inner.get() else {
            return Ok(true);
        };
        let timeout = timeout
            .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX));
        wait(py, timeout, |slice| inner.wait_staged(Some(slice)))
    }

    /// A `Transfer`, if tensors are on their way from a device.
    #[getter]
    fn transfer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.transfer
            .as_ref()
            .map(|transfer| transfer.clone_ref(py))
    }

    /// Whether guarded host memory may still be read.
    #[getter]
    fn reads_on(&self) -> bool {
        self.reads_on
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.cancel());
        Ok(())
    }

    /// `(attempt, step, k)`.
    fn key(&self, py: Python<'_>) -> PyResult<(u32, i64, u32)> {
        let key = self.inner(py)?.key();
        Ok((key.attempt.0, key.step.0, key.k))
    }
}
