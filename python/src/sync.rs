//! Stores that talk to each other.

use std::collections::BTreeSet;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use runtree_core::reference::Reference;
use runtree_engine::Purpose;
use runtree_engine::sync::{self, SyncCheckpoints, SyncSelection};

use crate::convert::json::to_python;
use crate::engine::Engine;
use crate::requests::parse_all;

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
        if refs.is_empty() {
            return Ok(selection);
        }
        let mut runs = BTreeSet::new();
        let mut names = BTreeSet::new();
        for reference in &refs {
            runs.insert(engine.resolve(reference, None, Purpose::Read)?.run);
            if reference.selector.is_some() {
                names.insert(engine.resolve_checkpoint(reference, None, Purpose::Read)?);
            }
        }
        if !names.is_empty() {
            selection.checkpoints = SyncCheckpoints::Only(names);
        }
        selection.runs = Some(runs);
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
