//! The live run of this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use runtree_core::event::RunStatus;
use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Step};
use runtree_engine::EntrySource;

use crate::convert::gather::{Gathered, describe_problems, gather};
use crate::convert::json::{config_to_value, to_python};
use crate::convert::metrics::{Metrics, step_of, timestamp_of};
use crate::convert::share::Devices;
use crate::errors::{IntoPyResult as _, to_py_err, wrong_type};
use crate::guarded::GuardedMemory;
use crate::pending::PendingSave;
use crate::requests::{SaveOptions, checkpoint_name};
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
    ) -> runtree_core::Result<Option<Step>> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        if reserved == i64::MIN && !deferred {
            return Ok(step);
        }
        let step = match step {
            Some(step) => step,
            None if reserved == i64::MIN => inner.automatic_step()?,
            None => inner.automatic_step()?.max(Step(reserved).following()?),
        };
        if commit {
            self.reserved.fetch_max(step.0, Ordering::Relaxed);
        }
        Ok(Some(step))
    }

    pub(crate) fn inner(&self, py: Python<'_>) -> PyResult<&Arc<runtree_engine::RunWriter>> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this run belongs to the process this one was forked from"),
            )
        })
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
        let mut metrics = Metrics::of(data)?;
        let deferred = metrics.deferred.take();
        let step = self
            .reserve(inner, step, deferred.is_some(), commit)
            .into_py(py)?;
        let media = std::mem::take(&mut metrics.media);
        let pairs = metrics.pairs()?;
        if !media.is_empty() {
            inner
                .log_media(step, timestamp, &pairs, media, commit)
                .into_py(py)?;
        } else if !pairs.is_empty() || deferred.is_none() {
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

    fn alert(&self, py: Python<'_>, title: &str, text: &str, level: &str) -> PyResult<()> {
        let Some(inner) = self.inner.get() else {
            return Ok(());
        };
        let level = level.parse().into_py(py)?;
        inner.alert(title, text, level).into_py(py)
    }

    fn add_process_facts(&self, facts: BTreeMap<String, String>) {
        if let Some(inner) = self.inner.get() {
            inner.add_process_facts(facts);
        }
    }

    /// Attaches bytes as a file.
    fn log_file_bytes(&self, py: Python<'_>, name: &str, data: &[u8]) -> PyResult<()> {
        let inner = self.inner(py)?;
        let bytes = bytes::Bytes::copy_from_slice(data);
        py.detach(|| inner.log_file_bytes(name, bytes)).into_py(py)
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

    /// Saves a state tree. Memory in `guarded` is copied after this has returned; `PendingSave.wait_staged` says when it has been.
    #[pyo3(signature = (state, options, guarded=None))]
    fn save(
        &self,
        py: Python<'_>,
        state: &Bound<'_, PyAny>,
        options: SaveOptions,
        guarded: Option<&GuardedMemory>,
    ) -> PyResult<PendingSave> {
        let inner = self.inner(py)?;
        let mut gathered = gather(state, guarded, Devices::Copy)?;
        refuse_problems(py, &gathered)?;
        let sharded = options.sharded.unwrap_or_else(|| gathered.sharded());
        let (transfer, reads_on) = (gathered.transfer.take(), gathered.reads_on);
        let entry = gathered.take_entry(py, STATE_ENTRY);
        let mut request = options.into_request(py, sharded, entry)?;
        if let Some(transfer) = &transfer {
            transfer.wait_now(py)?;
            request.ready = Some(transfer.arrival(py));
        }
        let pending = py.detach(|| inner.save(request)).into_py(py)?;
        let transfer = transfer.map(|transfer| transfer.object(py));
        Ok(PendingSave::new(pending, transfer, reads_on))
    }

    /// Saves a directory.
    fn save_dir(
        &self,
        py: Python<'_>,
        path: PathBuf,
        options: SaveOptions,
    ) -> PyResult<PendingSave> {
        let inner = self.inner(py)?;
        let sharded = options.sharded.unwrap_or(false);
        let request = options.into_request(py, sharded, EntrySource::Directory(path))?;
        let pending = py.detach(|| inner.save(request)).into_py(py)?;
        Ok(PendingSave::new(pending, None, false))
    }
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
