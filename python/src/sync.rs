//! Stores that talk to each other.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtree_core::reference::Reference;
use runtree_engine::Purpose;
use runtree_engine::sync::{self, SyncCheckpoints, SyncSelection};

use crate::convert::json::to_python;
use crate::engine::Engine;
use crate::requests::{parse, parse_all};

/// Copies what one store has and another has not; `refs` name runs or checkpoints of the first, none of them all runs.
#[pyfunction]
#[pyo3(name = "sync", signature = (from_, to, refs, checkpoints, restore, dry_run))]
pub(crate) fn sync_stores<'py>(
    py: Python<'py>,
    from_: &Engine,
    to: &Engine,
    refs: Vec<String>,
    checkpoints: bool,
    restore: bool,
    dry_run: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let refs: Vec<Reference> = parse_all(py, &refs)?;
    let selection = from_.call(py, |engine| {
        let mut selection = SyncSelection {
            checkpoints: if checkpoints {
                SyncCheckpoints::All
            } else {
                SyncCheckpoints::None
            },
            restore,
            ..SyncSelection::default()
        };
        for reference in &refs {
            let run = engine.resolve(reference, None, Purpose::Read)?.run;
            let checkpoint = reference
                .selector
                .is_some()
                .then(|| engine.resolve_checkpoint(reference, None, Purpose::Read))
                .transpose()?;
            selection.add(run, checkpoint);
        }
        Ok(selection)
    })?;
    let there = to.call(py, |engine| Ok(engine.store().clone()))?;
    let (plan, copied) = from_.call(py, |engine| {
        let plan = sync::plan(engine.store(), &there, &selection)?;
        let copied = if dry_run {
            None
        } else {
            Some(sync::copy(engine.store(), &there, &plan, &|_| {})?)
        };
        Ok((plan, copied))
    })?;
    let answer = PyDict::new(py);
    answer.set_item("checkpoints", plan.checkpoints.len())?;
    answer.set_item("chunks", plan.chunks)?;
    answer.set_item("bytes", plan.bytes)?;
    answer.set_item("deleted_there", plan.deleted_there)?;
    answer.set_item("copied", to_python(py, &copied)?)?;
    Ok(answer)
}

/// The store that a REF names before `#`, if it does, and the REF without it.
#[pyfunction]
pub(crate) fn split_reference(
    py: Python<'_>,
    reference: &str,
) -> PyResult<(Option<String>, String)> {
    let mut reference: Reference = parse(py, reference)?;
    let store = reference.store.take();
    Ok((store, reference.to_string()))
}

/// Copies the one checkpoint that a REF means in `from_` to `to`; returns the REF that means it there, and the bytes that were sent.
#[pyfunction]
pub(crate) fn bring(
    py: Python<'_>,
    from_: &Engine,
    to: &Engine,
    reference: &str,
    project: Option<&str>,
) -> PyResult<(String, u64)> {
    let reference: Reference = parse(py, reference)?;
    let here = to.call(py, |engine| Ok(Arc::clone(engine)))?;
    let brought = from_.call(py, |engine| {
        sync::bring(engine, &here, &reference, project, &|_| {})
    })?;
    Ok((brought.reference.to_string(), brought.report.bytes))
}
