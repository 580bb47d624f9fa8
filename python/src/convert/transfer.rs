//! Tensors of a device: all of a state go through pinned memory together (`runtree._device`), guarded ones last, so that a save waits for the others alone.

use pyo3::prelude::*;
use pyo3::types::PyList;
use runtree_core::Error;
use runtree_engine::Ready;

/// Device tensors of one state.
#[derive(Default)]
pub(crate) struct FromDevice {
    now: Vec<(usize, Py<PyAny>)>,
    guarded: Vec<(usize, Py<PyAny>)>,
}

/// Copies that a device makes by itself.
pub(crate) struct Transfer {
    inner: Py<PyAny>,
}

impl FromDevice {
    /// Takes tensor number `tensor`, a dense view of which is `owner`.
    pub(crate) fn add(&mut self, tensor: usize, owner: Py<PyAny>, guarded: bool) {
        let list = if guarded {
            &mut self.guarded
        } else {
            &mut self.now
        };
        list.push((tensor, owner));
    }

    /// Starts all copies, and calls `set(tensor, owner, address)` with the host memory of each.
    ///
    /// # Errors
    /// What the framework raises: no memory, a lost device.
    pub(crate) fn start(
        self,
        py: Python<'_>,
        mut set: impl FnMut(usize, Py<PyAny>, usize),
    ) -> PyResult<Option<Transfer>> {
        if self.now.is_empty() && self.guarded.is_empty() {
            return Ok(None);
        }
        let owners = |list: &[(usize, Py<PyAny>)]| -> Vec<Py<PyAny>> {
            list.iter().map(|(_, owner)| owner.clone_ref(py)).collect()
        };
        let inner = py
            .import("runtree._device")?
            .call_method1("Transfer", (owners(&self.now), owners(&self.guarded)))?;
        let memory: Vec<(Py<PyAny>, usize)> = inner.getattr("memory")?.extract()?;
        // Held by the state from here on, and let go with it.
        inner.setattr("memory", PyList::empty(py))?;
        for ((tensor, _), (owner, address)) in self.now.iter().chain(&self.guarded).zip(memory) {
            set(*tensor, owner, address);
        }
        Ok(Some(Transfer {
            inner: inner.unbind(),
        }))
    }
}

impl Transfer {
    /// Waits until what is not guarded has arrived.
    pub(crate) fn wait_now(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.call_method0(py, "wait_now").map(drop)
    }

    /// Waits until everything has arrived, on whatever thread it is called.
    pub(crate) fn arrival(&self, py: Python<'_>) -> Ready {
        let inner = self.inner.clone_ref(py);
        Box::new(move || {
            Python::attach(|py| {
                inner
                    .call_method0(py, "wait_all")
                    .map(drop)
                    .map_err(|error| {
                        Error::unavailable("a device did not hand its tensors over")
                            .with_source(error)
                    })
            })
        })
    }

    /// The Python object, for a guard that fences the device's own stream.
    pub(crate) fn object(&self, py: Python<'_>) -> Py<PyAny> {
        self.inner.clone_ref(py)
    }
}
