//! No garbage collection while a state is walked.
//!
//! A walk makes some objects for every leaf and lets go of all of them at its end. The collector counts them as they come, and looks through
//! every object of the program again and again for garbage that is not there: with ten thousand leaves that takes longer than the walk.

/// While it lives, the interpreter does not collect garbage on its own.
pub(super) struct NoCollection {
    was_enabled: bool,
}

#[expect(
    unsafe_code,
    reason = "gc.disable() and gc.enable(), without an import for each save"
)]
impl NoCollection {
    pub(super) fn begin() -> Self {
        // SAFETY: the interpreter is held by whoever walks.
        let was_enabled = unsafe { pyo3::ffi::PyGC_Disable() } != 0;
        Self { was_enabled }
    }
}

#[expect(unsafe_code, reason = "as above")]
impl Drop for NoCollection {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: as above; a walk ends on the thread it began on.
            unsafe { pyo3::ffi::PyGC_Enable() };
        }
    }
}
