//! An open store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runtree_core::reference::Reference;
use runtree_core::{AttemptNumber, Error, ProjectName, RunId, Step};
use runtree_engine::{
    Annotation, CheckpointScope, ConsoleFilter, EngineOptions, ExportLayout, ExportOptions,
    GcOptions, HistoryQuery, MediaSelection, OpenMode, Purpose, Settings,
};

use crate::convert::json::to_python;
use crate::errors::{IntoPyResult as _, to_py_err};
use crate::inspect::inspect;
use crate::plan::Plan;
use crate::requests::{
    ForkOptions, MetricsOptions, RunsOptions, StartOptions, checkpoint_name, config_value, parse,
    parse_all,
};
use crate::runtime::{Owned, wait};
use crate::writer::RunWriter;

/// The native half of `runtree.Store`.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct Engine {
    inner: Owned<Arc<runtree_engine::Engine>>,
}

/// The store that `start` belongs to, as a path.
#[pyfunction]
#[pyo3(signature = (start, explicit=None))]
pub(crate) fn discover_store(start: PathBuf, explicit: Option<&str>) -> PathBuf {
    runtree_engine::discover_store(&start, explicit)
}

/// For the end of the process: takes the names of its staging memory away, but of what is staged and not written.
#[pyfunction]
pub(crate) fn leave_staging() {
    runtree_engine::leave_staging();
}

fn purpose(write: bool) -> Purpose {
    if write { Purpose::Write } else { Purpose::Read }
}

impl Engine {
    fn inner(&self, py: Python<'_>) -> PyResult<&Arc<runtree_engine::Engine>> {
        self.inner.get().ok_or_else(|| {
            to_py_err(
                py,
                &Error::invalid("this store was opened by the process this one was forked from"),
            )
        })
    }

    /// Calls the engine with the interpreter free.
    pub(crate) fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Arc<runtree_engine::Engine>) -> runtree_core::Result<T> + Send,
    ) -> PyResult<T> {
        let inner = self.inner(py)?;
        let result = py.detach(|| call(inner));
        py.check_signals()?;
        result.into_py(py)
    }

    pub(crate) fn record<'py, T: Send + serde::Serialize>(
        &self,
        py: Python<'py>,
        call: impl FnOnce(&Arc<runtree_engine::Engine>) -> runtree_core::Result<T> + Send,
    ) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.call(py, call)?)
    }
}

#[pymethods]
impl Engine {
    /// Opens a store; `mode` is `read`, `write` or `create`.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        location: PathBuf,
        mode: &str,
        cache_dir: PathBuf,
        settings: Settings,
    ) -> PyResult<Self> {
        let mode = match mode {
            "read" => OpenMode::ReadOnly,
            "write" => OpenMode::ReadWrite,
            _ => OpenMode::Create,
        };
        let options = EngineOptions::new(location, cache_dir)
            .with_mode(mode)
            .with_settings(settings)
            .with_encoder()
            .with_sealer();
        let inner = py
            .detach(|| runtree_engine::Engine::open(options))
            .into_py(py)?;
        Ok(Self {
            inner: Owned::new(inner),
        })
    }

    #[getter]
    fn inert(&self) -> bool {
        self.inner.get().is_none()
    }

    #[getter]
    fn location(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.inner(py)?.location())
    }

    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner(py)?.store_info())
    }

    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        self.call(py, |engine| engine.refresh())
    }

    fn reindex<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.record(py, |engine| engine.reindex())
    }

    #[pyo3(signature = (text, project=None, write=false))]
    fn resolve_run(
        &self,
        py: Python<'_>,
        text: &str,
        project: Option<&str>,
        write: bool,
    ) -> PyResult<String> {
        let run = self.call(py, |engine| {
            engine.resolve_run(text, project, purpose(write))
        })?;
        Ok(run.to_string())
    }

    /// `(run, step, (run, key))` of a REF.
    #[pyo3(signature = (reference, project=None, write=false))]
    #[expect(
        clippy::type_complexity,
        reason = "a tuple for the Python layer, which names its fields"
    )]
    fn resolve(
        &self,
        py: Python<'_>,
        reference: &str,
        project: Option<&str>,
        write: bool,
    ) -> PyResult<(String, Option<i64>, Option<(String, String)>)> {
        let reference: Reference = parse(py, reference)?;
        let resolved = self.call(py, |engine| {
            engine.resolve(&reference, project, purpose(write))
        })?;
        let checkpoint = resolved
            .checkpoint
            .map(|name| (name.run.to_string(), name.key.to_string()));
        Ok((
            resolved.run.to_string(),
            resolved.step.map(|step| step.0),
            checkpoint,
        ))
    }

    /// `(run, key)` of the checkpoint a REF names.
    #[pyo3(signature = (reference, project=None, write=false))]
    fn resolve_checkpoint(
        &self,
        py: Python<'_>,
        reference: &str,
        project: Option<&str>,
        write: bool,
    ) -> PyResult<(String, String)> {
        let reference: Reference = parse(py, reference)?;
        let name = self.call(py, |engine| {
            engine.resolve_checkpoint(&reference, project, purpose(write))
        })?;
        Ok((name.run.to_string(), name.key.to_string()))
    }

    fn projects<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.record(py, |engine| engine.projects())
    }

    fn runs<'py>(&self, py: Python<'py>, options: RunsOptions) -> PyResult<Bound<'py, PyAny>> {
        let query = options.into_query(py)?;
        self.record(py, |engine| engine.runs(&query))
    }

    /// Ids of all runs of a query, in its order.
    fn run_ids(&self, py: Python<'_>, options: RunsOptions) -> PyResult<Vec<String>> {
        let query = options.into_query(py)?;
        self.call(py, |engine| {
            let ids = engine.run_ids(&query)?;
            Ok(ids.iter().map(RunId::to_string).collect())
        })
    }

    /// Some runs as columns: rows, and per column name, type and Arrow's buffers.
    #[pyo3(signature = (runs, metrics=None))]
    fn run_table<'py>(
        &self,
        py: Python<'py>,
        runs: Vec<String>,
        metrics: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let runs: Vec<RunId> = parse_all(py, &runs)?;
        let table = self.call(py, |engine| engine.run_table(&runs, metrics.as_deref()))?;
        Ok(crate::table::to_python(py, table)
            .into_pyobject(py)?
            .into_any())
    }

    /// Writes metrics of runs to a file.
    fn export_metrics<'py>(
        &self,
        py: Python<'py>,
        runs: Vec<String>,
        path: PathBuf,
        options: MetricsOptions,
    ) -> PyResult<Bound<'py, PyAny>> {
        let runs: Vec<RunId> = parse_all(py, &runs)?;
        let what = options.into_export(py, &path)?;
        self.record(py, |engine| {
            engine.export_metrics_to(&runs, &what, &path, &mut |_| {})
        })
    }

    /// Seals what is not sealed of a run, or of all.
    #[pyo3(signature = (run=None))]
    fn seal<'py>(&self, py: Python<'py>, run: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let run: Option<RunId> = run.map(|run| parse(py, run)).transpose()?;
        self.record(py, |engine| {
            let runs = match run {
                Some(run) => vec![run],
                None => engine.store().list_runs()?,
            };
            engine.seal(&runs, &mut |_| {})
        })
    }

    fn run<'py>(&self, py: Python<'py>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.run(run))
    }

    fn summary<'py>(&self, py: Python<'py>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.summary(run))
    }

    fn lineage<'py>(&self, py: Python<'py>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.lineage(run))
    }

    fn segments<'py>(&self, py: Python<'py>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.segments(run))
    }

    #[pyo3(signature = (run, inherited=true, pending=false, deleted=false))]
    fn checkpoints<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        inherited: bool,
        pending: bool,
        deleted: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        let scope = CheckpointScope {
            inherited,
            pending,
            deleted,
        };
        self.record(py, |engine| engine.checkpoints(run, scope))
    }

    fn checkpoint_info<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        key: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = checkpoint_name(py, run, key)?;
        self.record(py, |engine| engine.checkpoint_info(name))
    }

    /// Bytes of the distinct objects it needs in this store.
    fn stored_bytes(&self, py: Python<'_>, run: &str, key: &str) -> PyResult<u64> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.stored_bytes(name))
    }

    /// `(steps, values, timestamps, [(run, attempt, points)])`; the first three as little-endian 8-byte columns.
    #[pyo3(signature = (run, metric, inherited=true, steps=None, points=None, attempt=None))]
    #[expect(
        clippy::type_complexity,
        clippy::too_many_arguments,
        reason = "the keywords of one Python call; columns for the Python layer, which makes a Series of them"
    )]
    fn history<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        metric: &str,
        inherited: bool,
        steps: Option<(i64, i64)>,
        points: Option<usize>,
        attempt: Option<u32>,
    ) -> PyResult<(
        Bound<'py, PyBytes>,
        Bound<'py, PyBytes>,
        Bound<'py, PyBytes>,
        Vec<(String, u32, usize)>,
    )> {
        let run: RunId = parse(py, run)?;
        let query = HistoryQuery {
            inherited,
            steps: steps.map(|(first, last)| (Step(first), Step(last))),
            points,
            attempt: attempt.map(AttemptNumber),
        };
        let columns = self.call(py, |engine| engine.history(run, metric, query))?;
        let stretches = columns
            .stretches
            .iter()
            .map(|stretch| (stretch.run.to_string(), stretch.attempt.0, stretch.points))
            .collect();
        Ok((
            column(py, &columns.steps, i64::to_le_bytes),
            column(py, &columns.values, f64::to_le_bytes),
            column(py, &columns.timestamps, i64::to_le_bytes),
            stretches,
        ))
    }

    #[pyo3(signature = (run, cursor=None, limit=1000, level=None, search=None, attempt=None, rank=None))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of one Python call")]
    fn console<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        cursor: Option<&str>,
        limit: usize,
        level: Option<&str>,
        search: Option<String>,
        attempt: Option<u32>,
        rank: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        let filter = ConsoleFilter {
            attempt: attempt.map(AttemptNumber),
            rank,
            level: level.map(str::parse).transpose().into_py(py)?,
            search,
        };
        self.record(py, |engine| engine.console(run, cursor, limit, filter))
    }

    /// Names that a run's history has media under.
    #[pyo3(signature = (run, inherited=true))]
    fn media<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        inherited: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        let selection = MediaSelection {
            inherited,
            ..MediaSelection::default()
        };
        self.record(py, |engine| engine.media(run, &selection))
    }

    /// A page of what was logged under a name.
    #[expect(clippy::too_many_arguments, reason = "the keywords of one Python call")]
    fn media_entries<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        name: &str,
        steps: (i64, i64),
        inherited: bool,
        attempt: Option<u32>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        let selection = MediaSelection {
            steps: (Step(steps.0), Step(steps.1)),
            attempt: attempt.map(AttemptNumber),
            inherited,
            limit,
        };
        self.record(py, |engine| engine.media_entries(run, name, &selection))
    }

    /// Content type and bytes of one item.
    #[pyo3(signature = (run, name, step, item, attempt=None))]
    fn read_media<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        name: &str,
        step: i64,
        item: usize,
        attempt: Option<u32>,
    ) -> PyResult<(String, Bound<'py, PyBytes>)> {
        let run: RunId = parse(py, run)?;
        let attempt = attempt.map(AttemptNumber);
        let read = self.call(py, |engine| {
            engine.read_media(run, name, Step(step), item, attempt)
        })?;
        Ok((read.content_type, PyBytes::new(py, &read.bytes)))
    }

    fn read_file<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        name: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let run: RunId = parse(py, run)?;
        let bytes = self.call(py, |engine| engine.read_file(run, name))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn diff_runs<'py>(&self, py: Python<'py>, a: &str, b: &str) -> PyResult<Bound<'py, PyAny>> {
        let (a, b): (RunId, RunId) = (parse(py, a)?, parse(py, b)?);
        self.record(py, |engine| engine.diff_runs(a, b))
    }

    fn diff_checkpoints<'py>(
        &self,
        py: Python<'py>,
        a: (String, String),
        b: (String, String),
    ) -> PyResult<Bound<'py, PyAny>> {
        let (a, b) = (
            checkpoint_name(py, &a.0, &a.1)?,
            checkpoint_name(py, &b.0, &b.1)?,
        );
        self.record(py, |engine| engine.diff_checkpoints(a, b))
    }

    fn resume_report<'py>(&self, py: Python<'py>, run: &str) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.resume_report(run))
    }

    /// Starts this process's run.
    fn start_run(&self, py: Python<'_>, options: StartOptions<'_>) -> PyResult<RunWriter> {
        let spec = options.into_spec(py)?;
        self.call(py, |engine| engine.start_run(spec))
            .map(RunWriter::new)
    }

    /// Forks without a process; returns the new run's id.
    fn fork(&self, py: Python<'_>, options: ForkOptions<'_>) -> PyResult<String> {
        let spec = options.into_spec(py)?;
        Ok(self.call(py, |engine| engine.fork(spec))?.to_string())
    }

    fn set_project_prefix(&self, py: Python<'_>, project: &str, prefix: &str) -> PyResult<()> {
        let project: ProjectName = parse(py, project)?;
        self.call(py, |engine| engine.set_project_prefix(&project, prefix))
    }

    #[pyo3(signature = (run, add_tags=Vec::new(), remove_tags=Vec::new(), config=None, name=None, notes=None))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of one Python call")]
    fn annotate(
        &self,
        py: Python<'_>,
        run: &str,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
        config: Option<Bound<'_, PyAny>>,
        name: Option<String>,
        notes: Option<String>,
    ) -> PyResult<()> {
        let run: RunId = parse(py, run)?;
        let annotation = Annotation {
            name,
            notes,
            add_tags,
            remove_tags,
            config_patch: config_value(config)?,
            ..Annotation::default()
        };
        self.call(py, |engine| engine.annotate(run, annotation))
    }

    #[pyo3(signature = (run, key, metrics=BTreeMap::new(), add_tags=Vec::new(), remove_tags=Vec::new()))]
    fn annotate_checkpoint(
        &self,
        py: Python<'_>,
        run: &str,
        key: &str,
        metrics: BTreeMap<String, f64>,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
    ) -> PyResult<()> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| {
            engine.annotate_checkpoint(name, metrics, add_tags, remove_tags)
        })
    }

    fn pin(&self, py: Python<'_>, run: &str, key: &str, reason: &str) -> PyResult<()> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.pin(name, reason))
    }

    fn unpin(&self, py: Python<'_>, run: &str, key: &str) -> PyResult<()> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.unpin(name))
    }

    fn delete_checkpoint(
        &self,
        py: Python<'_>,
        run: &str,
        key: &str,
        reason: &str,
    ) -> PyResult<()> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.delete_checkpoint(name, reason))
    }

    fn undelete_checkpoint(&self, py: Python<'_>, run: &str, key: &str) -> PyResult<()> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.undelete_checkpoint(name))
    }

    #[pyo3(signature = (run, key, directory, keys=None, layout="as-saved", max_file_bytes=None))]
    #[expect(clippy::too_many_arguments, reason = "the keywords of one Python call")]
    fn export<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        key: &str,
        directory: PathBuf,
        keys: Option<String>,
        layout: &str,
        max_file_bytes: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = checkpoint_name(py, run, key)?;
        let layout = match layout {
            "as-saved" => ExportLayout::AsSaved,
            "hf" => ExportLayout::Hf,
            other => {
                let error = Error::invalid(format!(
                    "layout {other:?} is not one of \"as-saved\", \"hf\""
                ));
                return Err(to_py_err(py, &error));
            }
        };
        let options = ExportOptions {
            keys,
            layout,
            max_file_bytes,
        };
        self.record(py, |engine| {
            engine.export(name, Path::new(&directory), &options)
        })
    }

    fn materialize(&self, py: Python<'_>, run: &str, key: &str) -> PyResult<PathBuf> {
        let name = checkpoint_name(py, run, key)?;
        self.call(py, |engine| engine.materialize(name))
    }

    fn tensors<'py>(&self, py: Python<'py>, run: &str, key: &str) -> PyResult<Bound<'py, PyAny>> {
        let name = checkpoint_name(py, run, key)?;
        self.record(py, |engine| engine.tensors(name))
    }

    /// `(tensor, statistics)` of the tensors whose paths `keys` match, or of all.
    #[pyo3(signature = (run, key, keys=None))]
    fn inspect<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        key: &str,
        keys: Option<Vec<String>>,
    ) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        let name = checkpoint_name(py, run, key)?;
        inspect(py, self.inner(py)?, name, keys.as_deref())
    }

    #[pyo3(signature = (checkpoint=None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        checkpoint: Option<(String, String)>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = checkpoint
            .map(|(run, key)| checkpoint_name(py, &run, &key))
            .transpose()?;
        self.record(py, |engine| engine.verify(name))
    }

    /// Deletes what nothing needs; `grace` in seconds.
    fn gc<'py>(&self, py: Python<'py>, grace: u64, dry_run: bool) -> PyResult<Bound<'py, PyAny>> {
        let options = GcOptions {
            grace: std::time::Duration::from_secs(grace),
            dry_run,
            ..GcOptions::default()
        };
        self.record(py, |engine| engine.gc(&options, &mut |_| {}))
    }

    /// Puts right what can be; what is lost here comes from another store, if one is given.
    #[pyo3(signature = (dry_run, from_=None))]
    fn repair<'py>(
        &self,
        py: Python<'py>,
        dry_run: bool,
        from_: Option<PyRef<'py, Self>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let there = from_
            .map(|from| from.call(py, |engine| Ok(engine.store().clone())))
            .transpose()?;
        self.record(py, |engine| engine.repair(dry_run, there.as_ref()))
    }

    /// Encodes the cold checkpoints of a run, or of all.
    #[pyo3(signature = (run=None))]
    fn encode<'py>(&self, py: Python<'py>, run: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let run: Option<RunId> = run.map(|run| parse(py, run)).transpose()?;
        self.record(py, |engine| {
            let runs = match run {
                Some(run) => vec![run],
                None => engine.store().list_runs()?,
            };
            engine.encode_cold(&runs, &mut |_| {})
        })
    }

    /// What a checkpoint like `newer` costs; names are `(run, key)`.
    fn estimate_cost<'py>(
        &self,
        py: Python<'py>,
        older: (String, String),
        newer: (String, String),
    ) -> PyResult<Bound<'py, PyAny>> {
        let older = checkpoint_name(py, &older.0, &older.1)?;
        let newer = checkpoint_name(py, &newer.0, &newer.1)?;
        self.record(py, |engine| engine.estimate_cost(older, newer))
    }

    /// Bounds the staging memory of this process's saves.
    fn limit_staging(&self, py: Python<'_>, bytes: u64) -> PyResult<()> {
        self.inner(py)?.limit_staging(bytes);
        Ok(())
    }

    /// Stages in memory that outlives the process: below `base`, a directory of a file system in memory.
    fn stage_in(&self, py: Python<'_>, base: Option<PathBuf>) -> PyResult<()> {
        self.inner(py)?.stage_in(base);
        Ok(())
    }

    /// Writes what processes that are gone had staged. On a thread of its own, so that Ctrl-C ends the wait, however long the disk takes.
    fn recover_staged(&self, py: Python<'_>) -> PyResult<()> {
        let engine = Arc::clone(self.inner(py)?);
        let (sender, receiver) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("runtree-recover".to_owned());
        let work = move || {
            engine.recover_staged();
            drop(sender);
        };
        // Without a thread, starting the run does it.
        if thread.spawn(work).is_ok() {
            let is_over =
                move |slice| receiver.recv_timeout(slice) == Err(RecvTimeoutError::Disconnected);
            wait(py, None, is_over)?;
        }
        Ok(())
    }

    #[pyo3(signature = (run=None))]
    fn stats<'py>(&self, py: Python<'py>, run: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let run: Option<RunId> = run.map(|run| parse(py, run)).transpose()?;
        self.record(py, |engine| engine.stats(run))
    }

    /// Reads the manifests of a checkpoint.
    fn load_plan(&self, py: Python<'_>, run: &str, key: &str) -> PyResult<Plan> {
        let name = checkpoint_name(py, run, key)?;
        let manifest = self.call(py, |engine| engine.load_plan(name))?;
        Ok(Plan::new(Arc::clone(self.inner(py)?), manifest))
    }
}

/// A column as little-endian bytes.
fn column<'py, T: Copy>(
    py: Python<'py>,
    values: &[T],
    bytes: fn(T) -> [u8; 8],
) -> Bound<'py, PyBytes> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| bytes(*value)).collect();
    PyBytes::new(py, &bytes)
}
