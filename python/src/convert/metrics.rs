//! What a log call holds: numbers and media by name, a step, a time.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString};
use runtree_core::{Error, Step, Timestamp};
use runtree_engine::MediaEntry;

use crate::convert::media;
use crate::errors::{to_py_err, wrong_type};

/// What a log call holds, nested dicts flattened to `a/b`.
pub(crate) struct Metrics<'py> {
    named: Vec<(Bound<'py, PyString>, f64)>,
    /// `(name, array)` pairs whose value is on a device, or not computed yet: reading it now would wait for it.
    pub(crate) deferred: Option<Bound<'py, PyList>>,
    /// Images, texts and the like.
    pub(crate) media: Vec<MediaEntry>,
}

impl<'py> Metrics<'py> {
    pub(crate) fn of(data: &Bound<'py, PyDict>) -> PyResult<Self> {
        let mut metrics = Self {
            named: Vec::with_capacity(data.len()),
            deferred: None,
            media: Vec::new(),
        };
        metrics.flatten(data, None, 0)?;
        Ok(metrics)
    }

    /// The values that are known now.
    pub(crate) fn pairs(&self) -> PyResult<Vec<(&str, f64)>> {
        self.named
            .iter()
            .map(|(name, value)| Ok((text_of(name)?, *value)))
            .collect()
    }

    fn flatten(
        &mut self,
        data: &Bound<'py, PyDict>,
        prefix: Option<&str>,
        depth: usize,
    ) -> PyResult<()> {
        let py = data.py();
        if depth > runtree_core::state::MAX_DEPTH {
            return Err(to_py_err(
                py,
                &Error::invalid("logged dict is nested too deep, or contains itself"),
            ));
        }
        for (key, value) in data.iter() {
            let name = match (prefix, key.cast_into::<PyString>()) {
                (None, Ok(key)) => key,
                (Some(prefix), Ok(key)) => {
                    PyString::new(py, &format!("{prefix}/{}", text_of(&key)?))
                }
                (prefix, Err(error)) => {
                    let key = error.into_inner().str()?;
                    let prefix = prefix
                        .map(|prefix| format!("{prefix}/"))
                        .unwrap_or_default();
                    PyString::new(py, &format!("{prefix}{}", text_of(&key)?))
                }
            };
            if let Ok(value) = value.cast_exact::<PyFloat>() {
                self.named.push((name, value.value()));
            } else if let Ok(value) = value.cast::<PyInt>() {
                self.named.push((name, float_of(value)?));
            } else if let Ok(nested) = value.cast::<PyDict>() {
                self.flatten(nested, Some(text_of(&name)?), depth + 1)?;
            } else if value.is_none() {
                // Nothing was measured.
            } else if is_awaited(&value)? {
                self.deferred
                    .get_or_insert_with(|| PyList::empty(py))
                    .append((name, value))?;
            } else if let Some(number) = number(&value)? {
                self.named.push((name, number));
            } else if let Ok(nested) = value.cast::<PyMapping>() {
                let nested = py.get_type::<PyDict>().call1((nested,))?;
                self.flatten(nested.cast()?, Some(text_of(&name)?), depth + 1)?;
            } else {
                self.media.push(media::entry(text_of(&name)?, &value)?);
            }
        }
        Ok(())
    }
}

/// The text of a name. Python's may hold lone surrogates, as in file names that are not UTF-8; ours are UTF-8, on disk and in JSON.
fn text_of<'a>(name: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    name.to_str().map_err(|_| {
        let shown = name
            .repr()
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default();
        to_py_err(
            name.py(),
            &Error::invalid(format!("metric name {shown} is not Unicode text")).with_hint(
                "it has lone surrogates; name.encode(errors=\"replace\").decode() has none",
            ),
        )
    })
}

/// The nearest float; beyond 2^1024 it is infinite.
fn float_of(value: &Bound<'_, PyInt>) -> PyResult<f64> {
    match value.extract::<f64>() {
        Ok(value) => Ok(value),
        Err(_) if value.lt(0)? => Ok(f64::NEG_INFINITY),
        Err(_) => Ok(f64::INFINITY),
    }
}

/// Whether to read the value would wait: for a device, or for a jax computation that runs in the background.
fn is_awaited(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    if value.hasattr(intern!(py, "is_cuda"))? {
        return Ok(!value.getattr(intern!(py, "is_cpu"))?.is_truthy()?);
    }
    if value.hasattr(intern!(py, "copy_to_host_async"))? {
        // A tracer has none of its methods for real: that it is no number is found out later.
        let ready = value.call_method0(intern!(py, "is_ready"));
        return Ok(!ready.and_then(|ready| ready.is_truthy()).unwrap_or(true));
    }
    Ok(false)
}

/// The number that an object is, or the one element that it has.
fn number(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let py = value.py();
    // Texts have no float of their own: `float("3")` is parsing, not measuring.
    if value.is_instance_of::<PyString>() {
        return Ok(None);
    }
    Ok(match value.extract::<f64>() {
        Ok(number) => Some(number),
        // numpy arrays of one element, torch tensors that require grad.
        Err(_) if value.hasattr(intern!(py, "item"))? => value
            .call_method0(intern!(py, "item"))
            .ok()
            .and_then(|item| item.extract::<f64>().ok()),
        Err(_) => None,
    })
}

/// A step.
pub(crate) fn step_of(step: &Bound<'_, PyAny>) -> PyResult<Step> {
    match step.extract::<i64>() {
        Ok(number) if !step.is_instance_of::<PyBool>() => Ok(Step(number)),
        _ => {
            let shown = step.repr().map(|text| text.to_string()).unwrap_or_default();
            let message = format!("step {shown} is not a whole number");
            Err(wrong_type(step.py(), &message, None))
        }
    }
}

/// A time, given as seconds since the epoch or a `datetime`.
pub(crate) fn timestamp_of(timestamp: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
    let py = timestamp.py();
    let seconds = match timestamp.extract::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => timestamp
            .call_method0(intern!(py, "timestamp"))
            .and_then(|seconds| seconds.extract())
            .map_err(|_| {
                wrong_type(
                    py,
                    "timestamp is neither seconds since the epoch nor a datetime",
                    None,
                )
            })?,
    };
    if !seconds.is_finite() || seconds.abs() > 9e12 {
        return Err(to_py_err(
            py,
            &Error::invalid(format!("timestamp {seconds} is out of range")),
        ));
    }
    Ok(Timestamp((seconds * 1e6).round() as i64))
}
