//! The live run of this process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::{ComponentName, Error, Step, Timestamp};
use runtree_engine::{EntrySource, IfBusy, SaveRequest, TensorSource};

use crate::convert::gather::{Gathered, Metrics, describe_problems, gather};
use crate::convert::json::{config_to_value, to_python};
use crate::engine::checkpoint_name;
use crate::errors::{IntoPyResult as _, to_py_err, wrong_type};
use crate::pending::PendingSave;
use crate::runtime::Owned;

/// The entry that `save` writes; `save_dir` writes one per file.
const STATE_ENTRY: &str = "state";

/// The native half of `runtree.Run`.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct RunWriter {
    inner: Owned<Arc<runtree_engine::RunWriter>>,
    /// The last step that values still on a device were promised; `i64::MIN` if there never were any.
    reserved: AtomicI64,
}

/// Arguments of a save but for what is saved.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SaveOptions {
    step: Option<i64>,
    name: Option<String>,
    metrics: Metrics,
    component: String,
    rank: u32,
    world_size: u32,
    parts: Option<BTreeMap<String, u32>>,
    sharded: Option<bool>,
    pin: bool,
    skip_if_busy: bool,
}

impl RunWriter {
    pub(crate) fn new(inner: Arc<runtree_engine::RunWriter>) -> Self {
        Self {
            inner: Owned::new(inner),
            reserved: AtomicI64::new(i64::MIN),
        }
    }

    /// The step of a log call. Values that are still on a device arrive later, under the step that their call had: it is taken now,
    /// and steps counted from here on lie above it.
    fn reserve(
        &self,
        inner: &runtree_engine::RunWriter,
        step: Option<Step>,
        deferred: bool,
        commit: bool,
    ) -> Option<Step> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if reserved == i64::MIN && !deferred {
            return step;
        }
        let step = step.unwrap_or_else(|| {
            let next = inner.next_step();
            if reserved == i64::MIN {
                next
            } else {
                next.max(Step(reserved).next())
            }
        });
        if commit {
            self.reserved.fetch_max(step.0, Ordering::Relaxed);
        }
        Some(step)
    }

    fn inner(&self, py: Python<'_>) -> PyResult<&Arc<runtree_engine::RunWriter>> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this run belongs to the process this one was forked from"),
            )
        })
    }

    fn start_save(
        &self,
        py: Python<'_>,
        options: SaveOptions,
        sharded: bool,
        entry: EntrySource<'_>,
    ) -> PyResult<PendingSave> {
        let inner = self.inner(py)?;
        let component: ComponentName = options.component.parse().into_py(py)?;
        let parts = options
            .parts
            .map(|parts| {
                parts
                    .into_iter()
                    .map(|(component, ranks)| Ok((component.parse::<ComponentName>()?, ranks)))
                    .collect::<runtree_core::Result<BTreeMap<_, _>>>()
            })
            .transpose()
            .into_py(py)?;
        let request = SaveRequest {
            step: options.step.map(Step),
            name: options.name,
            metrics: options.metrics,
            component,
            rank: options.rank,
            world_size: options.world_size,
            parts,
            sharded,
            pin: options.pin,
            if_busy: if options.skip_if_busy {
                IfBusy::Skip
            } else {
                IfBusy::Wait
            },
            entries: vec![entry],
        };
        py.detach(|| inner.save(request))
            .into_py(py)
            .map(PendingSave::new)
    }
}

#[pymethods]
impl RunWriter {
    /// Whether this is a forked child's copy, which does nothing.
    #[getter]
    fn inert(&self) -> bool {
        self.inner.get().is_none()
    }

    #[getter]
    fn run(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.inner(py)?.run().to_string())
    }

    #[getter]
    fn attempt(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.inner(py)?.attempt().0)
    }

    /// The birth record, as a dict.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.inner(py)?.record())
    }

    /// The launch's record, as a dict.
    fn attempt_record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner(py)?.attempt_record())
    }

    #[getter]
    fn next_step(&self, py: Python<'_>) -> PyResult<i64> {
        Ok(self.inner(py)?.next_step().0)
    }

    #[getter]
    fn last_step(&self, py: Python<'_>) -> PyResult<Option<i64>> {
        Ok(self.inner(py)?.last_step().map(|step| step.0))
    }

    /// `(run, key)` of the checkpoint this launch starts from.
    #[getter]
    fn resumed_from(&self, py: Python<'_>) -> PyResult<Option<(String, String)>> {
        Ok(self
            .inner(py)?
            .resumed_from()
            .map(|name| (name.run.to_string(), name.key.to_string())))
    }

    #[getter]
    fn fenced_by(&self, py: Python<'_>) -> PyResult<Option<u32>> {
        Ok(self.inner(py)?.fenced_by().map(|attempt| attempt.0))
    }

    /// Warnings nobody has seen yet, `(kind, message)`.
    fn take_warnings(&self) -> Vec<(String, String)> {
        self.inner
            .get()
            .map_or_else(Vec::new, |inner| warnings(inner))
    }

    /// Logs one step. Returns `None`, or what the caller has to see to: `(step, values on a device, warnings)`.
    #[pyo3(signature = (data, step=None, timestamp=None, commit=true))]
    #[expect(
        clippy::type_complexity,
        reason = "a tuple for the Python layer, which takes it apart at once"
    )]
    fn log<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyDict>,
        step: Option<&Bound<'py, PyAny>>,
        timestamp: Option<&Bound<'py, PyAny>>,
        commit: bool,
    ) -> PyResult<Option<(i64, Bound<'py, PyList>, Vec<(String, String)>)>> {
        let Some(inner) = self.inner.get() else {
            return Ok(None);
        };
        let step = step.map(step_of).transpose()?;
        let timestamp = timestamp.map(timestamp_of).transpose()?;
        let mut values = Values {
            named: Vec::with_capacity(data.len()),
            deferred: None,
        };
        values.flatten(data, None, 0)?;
        let deferred = values.deferred.take();
        let step = self.reserve(inner, step, deferred.is_some(), commit);
        let pairs = values
            .named
            .iter()
            .map(|(name, value)| Ok((name.to_str()?, *value)))
            .collect::<PyResult<Vec<_>>>()?;
        if !pairs.is_empty() || deferred.is_none() {
            inner.log(step, timestamp, &pairs, commit).into_py(py)?;
        }
        let warnings = warnings(inner);
        if deferred.is_none() && warnings.is_empty() {
            return Ok(None);
        }
        let deferred = deferred.unwrap_or_else(|| PyList::empty(py));
        Ok(Some((step.map_or(0, |step| step.0), deferred, warnings)))
    }

    fn log_system(&self, py: Python<'_>, values: BTreeMap<String, f64>) -> PyResult<()> {
        let Some(inner) = self.inner.get() else {
            return Ok(());
        };
        let pairs: Vec<_> = values
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        inner.log_system(None, &pairs).into_py(py)
    }

    fn console(&self, py: Python<'_>, stream: &str, lines: Vec<String>) -> PyResult<()> {
        let Some(inner) = self.inner.get() else {
            return Ok(());
        };
        inner.console(stream, lines).into_py(py)
    }

    fn update_config(&self, py: Python<'_>, patch: &Bound<'_, PyAny>) -> PyResult<()> {
        let patch = config_to_value(patch, 0)?;
        let inner = self.inner(py)?;
        py.detach(|| inner.update_config(patch)).into_py(py)
    }

    fn add_tags(&self, py: Python<'_>, tags: Vec<String>) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.add_tags(tags)).into_py(py)
    }

    fn set_name(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.set_name(name)).into_py(py)
    }

    fn set_notes(&self, py: Python<'_>, notes: &str) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.set_notes(notes)).into_py(py)
    }

    #[pyo3(signature = (path, name=None))]
    fn log_file(&self, py: Python<'_>, path: PathBuf, name: Option<&str>) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.log_file(&path, name)).into_py(py)
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.flush()).into_py(py)?;
        Ok(())
    }

    /// `bytes` is about what one process loaded of it.
    fn note_loaded(&self, py: Python<'_>, run: &str, key: &str, bytes: u64) -> PyResult<()> {
        let name: CheckpointName = checkpoint_name(py, run, key)?;
        let inner = self.inner(py)?;
        // Who loads a state saves one like it: its memory is made ready while the training begins.
        inner.engine().prepare_staging(bytes);
        py.detach(|| inner.note_loaded(name)).into_py(py)
    }

    fn note_damaged(&self, py: Python<'_>, run: &str, key: &str, what: &str) -> PyResult<()> {
        let name: CheckpointName = checkpoint_name(py, run, key)?;
        let inner = self.inner(py)?;
        py.detach(|| inner.note_damaged(name, what)).into_py(py)
    }

    fn rewind(&self, py: Python<'_>, step: i64) -> PyResult<()> {
        let inner = self.inner(py)?;
        py.detach(|| inner.rewind(Step(step))).into_py(py)
    }

    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner(py)?.health())
    }

    #[pyo3(signature = (status=None, reason=None, deadline=None))]
    fn finish<'py>(
        &self,
        py: Python<'py>,
        status: Option<&str>,
        reason: Option<String>,
        deadline: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let inner = self.inner(py)?;
        let status = status
            .map(str::parse::<RunStatus>)
            .transpose()
            .into_py(py)?;
        let deadline = deadline.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let report = py
            .detach(|| inner.finish(status, reason, deadline))
            .into_py(py)?;
        to_python(py, &report)
    }

    /// Saves a state tree.
    fn save(
        &self,
        py: Python<'_>,
        state: &Bound<'_, PyAny>,
        options: SaveOptions,
    ) -> PyResult<PendingSave> {
        self.inner(py)?;
        let gathered = gather(state)?;
        refuse_problems(py, &gathered)?;
        let sharded = options.sharded.unwrap_or_else(|| gathered.sharded());
        let Gathered {
            tree,
            tensors,
            blobs,
            ..
        } = &gathered;
        let entry = EntrySource::State {
            path: STATE_ENTRY.to_owned(),
            tree: tree.clone(),
            tensors: tensors
                .iter()
                .map(|tensor| TensorSource {
                    name: tensor.name.clone(),
                    dtype: tensor.dtype.clone(),
                    shape: tensor.shape.clone(),
                    global_shape: tensor.global_shape.clone(),
                    global_offset: tensor.global_offset.clone(),
                    data: tensor.memory.as_slice(),
                })
                .collect(),
            blobs: blobs
                .iter()
                .map(|blob| Cow::Borrowed(blob.as_slice(py)))
                .collect(),
        };
        self.start_save(py, options, sharded, entry)
    }

    /// Saves a directory.
    fn save_dir(
        &self,
        py: Python<'_>,
        path: PathBuf,
        options: SaveOptions,
    ) -> PyResult<PendingSave> {
        let sharded = options.sharded.unwrap_or(false);
        self.start_save(py, options, sharded, EntrySource::Directory(path))
    }
}

/// Walks a state tree without saving it: `(bytes, tensors, [(path, reason)])`.
#[pyfunction]
#[expect(
    clippy::type_complexity,
    reason = "a tuple for the Python layer, which names its fields"
)]
pub(crate) fn check_state(
    py: Python<'_>,
    state: &Bound<'_, PyAny>,
) -> PyResult<(u64, usize, Vec<(String, String)>)> {
    let gathered = gather(state)?;
    let bytes = gathered.bytes(py);
    let problems = gathered
        .problems
        .into_iter()
        .map(|problem| (problem.path, problem.reason));
    Ok((bytes, gathered.tensors.len(), problems.collect()))
}

fn refuse_problems(py: Python<'_>, gathered: &Gathered) -> PyResult<()> {
    if gathered.problems.is_empty() {
        return Ok(());
    }
    let message = format!(
        "state can not be saved: {}",
        describe_problems(&gathered.problems)
    );
    Err(wrong_type(
        py,
        &message,
        Some("runtree.check(state) lists everything that is not supported"),
    ))
}

fn warnings(inner: &runtree_engine::RunWriter) -> Vec<(String, String)> {
    inner
        .take_warnings()
        .into_iter()
        .map(|warning| {
            let kind = serde_json::to_value(warning.kind).ok();
            let kind = kind
                .as_ref()
                .and_then(|kind| kind.as_str())
                .unwrap_or("other")
                .to_owned();
            (kind, warning.message)
        })
        .collect()
}

/// What a log call holds, nested dicts flattened to `a/b`.
struct Values<'py> {
    named: Vec<(Bound<'py, PyString>, f64)>,
    /// `(name, tensor)` pairs whose value is on a device: reading it now would stop the device.
    deferred: Option<Bound<'py, PyList>>,
}

impl<'py> Values<'py> {
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
                    PyString::new(py, &format!("{prefix}/{}", key.to_str()?))
                }
                (prefix, Err(error)) => {
                    let key = error.into_inner().str()?;
                    let prefix = prefix
                        .map(|prefix| format!("{prefix}/"))
                        .unwrap_or_default();
                    PyString::new(py, &format!("{prefix}{}", key.to_str()?))
                }
            };
            if let Ok(value) = value.cast_exact::<PyFloat>() {
                self.named.push((name, value.value()));
            } else if let Ok(value) = value.cast::<PyInt>() {
                // Beyond 2^1024 it is infinite, as a float of it would be.
                let value = value.extract::<f64>().unwrap_or(f64::INFINITY);
                self.named.push((name, value));
            } else if let Ok(nested) = value.cast::<PyDict>() {
                self.flatten(nested, Some(name.to_str()?), depth + 1)?;
            } else if value.is_none() {
                // Nothing was measured.
            } else {
                self.number(name, &value)?;
            }
        }
        Ok(())
    }

    fn number(&mut self, name: Bound<'py, PyString>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = name.py();
        if value.hasattr(intern!(py, "is_cuda"))?
            && !value.getattr(intern!(py, "is_cpu"))?.is_truthy()?
        {
            self.deferred
                .get_or_insert_with(|| PyList::empty(py))
                .append((name, value))?;
            return Ok(());
        }
        let refuse = |name: &Bound<'py, PyString>| -> PyResult<PyErr> {
            let message = format!(
                "metric `{}` is a {}, not a number",
                name.to_str()?,
                value.get_type().fully_qualified_name()?
            );
            Ok(wrong_type(
                py,
                &message,
                Some("log numbers, or tensors and arrays of one element"),
            ))
        };
        // Texts have no float of their own: `float("3")` is parsing, not measuring.
        if value.is_instance_of::<PyString>() || value.is_instance_of::<PyBool>() {
            return match value.cast::<PyBool>() {
                Ok(flag) => {
                    self.named.push((name, f64::from(u8::from(flag.is_true()))));
                    Ok(())
                }
                Err(_) => Err(refuse(&name)?),
            };
        }
        let number = match value.extract::<f64>() {
            Ok(number) => Some(number),
            // numpy arrays of one element, torch tensors that require grad.
            Err(_) if value.hasattr(intern!(py, "item"))? => value
                .call_method0(intern!(py, "item"))
                .ok()
                .and_then(|item| item.extract::<f64>().ok()),
            Err(_) => None,
        };
        match number {
            Some(number) => {
                self.named.push((name, number));
                Ok(())
            }
            None => Err(refuse(&name)?),
        }
    }
}

fn step_of(step: &Bound<'_, PyAny>) -> PyResult<Step> {
    step.extract::<i64>().map(Step).map_err(|_| {
        let shown = step.repr().map(|text| text.to_string()).unwrap_or_default();
        wrong_type(
            step.py(),
            &format!("step {shown} is not a whole number"),
            None,
        )
    })
}

fn timestamp_of(timestamp: &Bound<'_, PyAny>) -> PyResult<Timestamp> {
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
