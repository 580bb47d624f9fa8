//! What is in the tensors of a checkpoint.

use pyo3::prelude::*;
use runtree_core::Error;
use runtree_core::manifest::CheckpointName;
use runtree_engine::Engine;

use crate::convert::json::to_python;
use crate::convert::select::selects;
use crate::errors::{IntoPyResult as _, to_py_err};

/// Bytes read between two looks for Ctrl-C.
const STEP_BYTES: u64 = 256 << 20;

/// `(tensor, statistics)` of every tensor that `keys` selects.
pub(crate) fn inspect<'py>(
    py: Python<'py>,
    engine: &Engine,
    name: CheckpointName,
    keys: Option<&[String]>,
) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let tensors = py
        .detach(|| engine.tensors_with_encodings(name))
        .into_py(py)?;
    let is_wanted = |name: &str| keys.is_none_or(|keys| selects(keys, name));
    let places: Vec<u64> = (0..)
        .zip(&tensors)
        .filter(|(_, tensor)| is_wanted(&tensor.name))
        .map(|(place, _)| place)
        .collect();
    if let (true, Some(keys)) = (places.is_empty(), keys) {
        let error = Error::not_found(format!("no tensor of the checkpoint matches keys={keys:?}"))
            .with_hint("list what there is with checkpoint.tensors()");
        return Err(to_py_err(py, &error));
    }
    let mut scan = py
        .detach(|| engine.statistics(engine.load_plan(name)?, Some(&places), u64::MAX))
        .into_py(py)?;
    let mut found = Vec::with_capacity(places.len());
    while !scan.is_done() {
        let mut done = py.detach(|| scan.step(STEP_BYTES)).into_py(py)?;
        found.append(&mut done);
        py.check_signals()?;
    }
    found.sort_unstable_by_key(|statistics| statistics.tensor);
    found
        .iter()
        .map(|statistics| {
            let tensor = &tensors[statistics.tensor as usize];
            Ok((to_python(py, tensor)?, to_python(py, statistics)?))
        })
        .collect()
}
