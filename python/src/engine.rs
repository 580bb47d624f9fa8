//! An open store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use runtree_core::manifest::CheckpointName;
use runtree_core::reference::Reference;
use runtree_core::{Error, ProjectName, RunId, Step};
use runtree_engine::{
    Annotation, CheckpointScope, EngineOptions, ExportLayout, ExportOptions, ForkChoice, ForkSpec,
    HistoryQuery, LaunchKey, LogRanks, OpenMode, Purpose, ResumePolicy, RunQuery, RunSort, RunSpec,
};

use crate::convert::json::{config_to_value, to_python};
use crate::errors::{IntoPyResult as _, to_py_err};
use crate::plan::Plan;
use crate::runtime::Owned;
use crate::writer::RunWriter;

/// The native half of `runtree.Store`.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct Engine {
    inner: Owned<Arc<runtree_engine::Engine>>,
}

/// What `init` asks for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct StartOptions<'py> {
    project: String,
    name: Option<String>,
    key: Option<String>,
    resume: String,
    resume_from: String,
    fork_run: Option<String>,
    fork_step: Option<i64>,
    fork: Option<String>,
    base: Option<String>,
    config: Option<Bound<'py, PyAny>>,
    tags: Vec<String>,
    notes: Option<String>,
    inherit_config: bool,
    inherit_tags: bool,
    launch_key: Option<String>,
    run: Option<String>,
    rank: u32,
    world_size: u32,
    log_all_ranks: bool,
    process: BTreeMap<String, String>,
}

/// What a fork without a process asks for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ForkOptions<'py> {
    reference: Option<String>,
    fork_run: Option<String>,
    fork_step: Option<i64>,
    project: Option<String>,
    name: Option<String>,
    key: Option<String>,
    config: Option<Bound<'py, PyAny>>,
    tags: Vec<String>,
    notes: Option<String>,
    inherit_config: bool,
    inherit_tags: bool,
}

/// Which runs a list wants.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct RunsOptions {
    project: Option<String>,
    root: Option<String>,
    search: Option<String>,
    statuses: Vec<String>,
    tags: Vec<String>,
    sort: String,
    descending: bool,
    limit: usize,
    cursor: Option<String>,
    deleted: bool,
}

/// The store that `start` belongs to, as a path.
#[pyfunction]
#[pyo3(signature = (start, explicit=None))]
pub(crate) fn discover_store(start: PathBuf, explicit: Option<&str>) -> PathBuf {
    runtree_engine::discover_store(&start, explicit)
}

/// A checkpoint's name from its two texts.
pub(crate) fn checkpoint_name(py: Python<'_>, run: &str, key: &str) -> PyResult<CheckpointName> {
    Ok(CheckpointName {
        run: parse(py, run)?,
        key: parse(py, key)?,
    })
}

fn parse<T: FromStr<Err = Error>>(py: Python<'_>, text: &str) -> PyResult<T> {
    text.parse().into_py(py)
}

fn purpose(write: bool) -> Purpose {
    if write { Purpose::Write } else { Purpose::Read }
}

fn fork_choice(
    py: Python<'_>,
    run: Option<String>,
    step: Option<i64>,
    reference: Option<String>,
) -> PyResult<ForkChoice> {
    Ok(match (run, step, reference) {
        (Some(run), Some(step), _) => ForkChoice::RunAndStep {
            run,
            step: Step(step),
        },
        (_, _, Some(reference)) => ForkChoice::Reference(parse(py, &reference)?),
        _ => ForkChoice::None,
    })
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
    fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Arc<runtree_engine::Engine>) -> runtree_core::Result<T> + Send,
    ) -> PyResult<T> {
        let inner = self.inner(py)?;
        let result = py.detach(|| call(inner));
        py.check_signals()?;
        result.into_py(py)
    }

    fn record<'py, T: Send + serde::Serialize>(
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
    fn open(py: Python<'_>, location: PathBuf, mode: &str, cache_dir: PathBuf) -> PyResult<Self> {
        let mode = match mode {
            "read" => OpenMode::ReadOnly,
            "write" => OpenMode::ReadWrite,
            _ => OpenMode::Create,
        };
        let options = EngineOptions::new(location, cache_dir).with_mode(mode);
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
        let query = RunQuery {
            project: options.project,
            root: options
                .root
                .map(|root| parse::<RunId>(py, &root))
                .transpose()?,
            search: options.search,
            statuses: options
                .statuses
                .iter()
                .map(|status| parse(py, status))
                .collect::<PyResult<_>>()?,
            tags: options.tags,
            sort: sort(py, &options.sort)?,
            descending: options.descending,
            limit: options.limit,
            cursor: options.cursor,
            deleted: options.deleted,
            metrics: None,
        };
        self.record(py, |engine| engine.runs(&query))
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

    /// `(steps, values, timestamps, [(run, attempt, points)])`; the first three as little-endian 8-byte columns.
    #[pyo3(signature = (run, metric, inherited=true, steps=None, points=None))]
    #[expect(
        clippy::type_complexity,
        reason = "columns for the Python layer, which makes a Series of them"
    )]
    fn history<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        metric: &str,
        inherited: bool,
        steps: Option<(i64, i64)>,
        points: Option<usize>,
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
            attempt: None,
        };
        let columns = self.call(py, |engine| engine.history(run, metric, query))?;
        let integers = |column: &[i64]| {
            PyBytes::new(
                py,
                &column
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect::<Vec<_>>(),
            )
        };
        let values: Vec<u8> = columns
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let stretches = columns
            .stretches
            .iter()
            .map(|stretch| (stretch.run.to_string(), stretch.attempt.0, stretch.points))
            .collect();
        Ok((
            integers(&columns.steps),
            PyBytes::new(py, &values),
            integers(&columns.timestamps),
            stretches,
        ))
    }

    #[pyo3(signature = (run, cursor=None, limit=1000))]
    fn console<'py>(
        &self,
        py: Python<'py>,
        run: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let run: RunId = parse(py, run)?;
        self.record(py, |engine| engine.console(run, cursor, limit))
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
        let project: ProjectName = parse(py, &options.project)?;
        let spec = RunSpec {
            name: options.name,
            key: options.key,
            resume: match options.resume.as_str() {
                "allow" => ResumePolicy::Allow,
                "must" => ResumePolicy::Must,
                _ => ResumePolicy::Never,
            },
            resume_from: options.resume_from,
            fork: fork_choice(py, options.fork_run, options.fork_step, options.fork)?,
            base: options.base.map(|base| parse(py, &base)).transpose()?,
            config: options
                .config
                .map(|config| config_to_value(&config, 0))
                .transpose()?,
            tags: options.tags,
            notes: options.notes,
            inherit_config: options.inherit_config,
            inherit_tags: options.inherit_tags,
            launch_key: options
                .launch_key
                .map_or(LaunchKey::Random, LaunchKey::Named),
            run: options.run.map(|run| parse(py, &run)).transpose()?,
            rank: options.rank,
            world_size: options.world_size,
            log_ranks: if options.log_all_ranks {
                LogRanks::All
            } else {
                LogRanks::Main
            },
            process: options.process,
            ..RunSpec::new(project)
        };
        self.call(py, |engine| engine.start_run(spec))
            .map(RunWriter::new)
    }

    /// Forks without a process; returns the new run's id.
    fn fork(&self, py: Python<'_>, options: ForkOptions<'_>) -> PyResult<String> {
        let spec = ForkSpec {
            project: options.project,
            name: options.name,
            key: options.key,
            config: options
                .config
                .map(|config| config_to_value(&config, 0))
                .transpose()?,
            tags: options.tags,
            notes: options.notes,
            inherit_config: options.inherit_config,
            inherit_tags: options.inherit_tags,
            ..ForkSpec::new(fork_choice(
                py,
                options.fork_run,
                options.fork_step,
                options.reference,
            )?)
        };
        Ok(self.call(py, |engine| engine.fork(spec))?.to_string())
    }

    fn set_project_prefix(&self, py: Python<'_>, project: &str, prefix: &str) -> PyResult<()> {
        let project: ProjectName = parse(py, project)?;
        self.call(py, |engine| engine.set_project_prefix(&project, prefix))
    }

    #[pyo3(signature = (run, add_tags=Vec::new(), remove_tags=Vec::new(), config=None))]
    fn annotate(
        &self,
        py: Python<'_>,
        run: &str,
        add_tags: Vec<String>,
        remove_tags: Vec<String>,
        config: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let run: RunId = parse(py, run)?;
        let config_patch = config
            .map(|config| config_to_value(&config, 0))
            .transpose()?;
        let annotation = Annotation {
            add_tags,
            remove_tags,
            config_patch,
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
    #[expect(
        clippy::too_many_arguments,
        reason = "keywords of one Python call, each with a default"
    )]
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

fn sort(py: Python<'_>, text: &str) -> PyResult<RunSort> {
    Ok(match text {
        "created" => RunSort::Created,
        "last_activity" => RunSort::LastActivity,
        "name" => RunSort::Name,
        "display_id" => RunSort::DisplayId,
        "status" => RunSort::Status,
        "last_step" => RunSort::LastStep,
        _ => match text.split_once(':') {
            Some(("metric", name)) => RunSort::Metric(name.to_owned()),
            Some(("config", key)) => RunSort::Config(key.to_owned()),
            _ => {
                let error = Error::invalid(format!("{text:?} is nothing to sort runs by"))
                    .with_hint("sort by created, last_activity, name, display_id, status, last_step, metric:NAME or config:KEY");
                return Err(to_py_err(py, &error));
            }
        },
    })
}
