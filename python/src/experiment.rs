//! What belongs to a lineage or a project as a whole: siblings, heads, saved views.

use pyo3::prelude::*;
use runtree_core::RunId;
use runtree_core::reference::Reference;

use crate::engine::Engine;
use crate::requests::parse;

/// What was forked from one checkpoint.
#[pyfunction]
#[pyo3(signature = (engine, reference, project=None))]
pub(crate) fn sweep<'py>(
    py: Python<'py>,
    engine: &Engine,
    reference: &str,
    project: Option<&str>,
) -> PyResult<Bound<'py, PyAny>> {
    let reference: Reference = parse(py, reference)?;
    engine.record(py, |engine| engine.sweep(&reference, project))
}

/// The head of a run's experiment, as a RunId.
#[pyfunction]
pub(crate) fn head(py: Python<'_>, engine: &Engine, run: &str) -> PyResult<String> {
    let run: RunId = parse(py, run)?;
    Ok(engine.call(py, |engine| engine.head(run))?.to_string())
}

/// Makes a run the head of its experiment.
#[pyfunction]
pub(crate) fn set_head(py: Python<'_>, engine: &Engine, run: &str) -> PyResult<()> {
    let run: RunId = parse(py, run)?;
    engine.call(py, |engine| engine.set_head(run))
}

/// Leaves a run's experiment without a head that somebody set.
#[pyfunction]
pub(crate) fn clear_head(py: Python<'_>, engine: &Engine, run: &str) -> PyResult<()> {
    let run: RunId = parse(py, run)?;
    engine.call(py, |engine| engine.clear_head(run))
}

/// Saved views of a project.
#[pyfunction]
pub(crate) fn views<'py>(
    py: Python<'py>,
    engine: &Engine,
    project: &str,
) -> PyResult<Bound<'py, PyAny>> {
    engine.record(py, |engine| engine.views(project))
}
