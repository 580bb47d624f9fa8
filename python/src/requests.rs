//! What the Python layer asks for, as dicts, and what the engine takes for it.

use std::collections::BTreeMap;
use std::str::FromStr;

use pyo3::prelude::*;
use runtree_core::manifest::CheckpointName;
use runtree_core::{ComponentName, Error, ProjectName, RunId, Step};
use runtree_engine::{
    EntrySource, ForkChoice, ForkSpec, IfBusy, LaunchKey, LogRanks, MetricsExport, MetricsFormat,
    MetricsScope, ResumePolicy, RunQuery, RunSpec, SaveRequest,
};
use serde_json::Value;

use crate::convert::json::config_to_value;
use crate::errors::IntoPyResult as _;
use crate::prune::{Rules, policy_of};

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
    /// Whether a launcher gave the key, and with it each of its ranks to one process.
    has_launcher: bool,
    run: Option<String>,
    rank: u32,
    world_size: u32,
    log_all_ranks: bool,
    retention: Option<Rules>,
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
    into: Option<String>,
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
    filter: Option<String>,
    statuses: Vec<String>,
    tags: Vec<String>,
    sort: String,
    descending: bool,
    limit: usize,
    cursor: Option<String>,
    deleted: bool,
}

/// Arguments of `export_metrics`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct MetricsOptions {
    format: Option<String>,
    metrics: Vec<String>,
    system: bool,
    inherited: bool,
}

/// Arguments of a save but for what is saved.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct SaveOptions {
    step: Option<i64>,
    name: Option<String>,
    metrics: BTreeMap<String, f64>,
    component: String,
    rank: u32,
    world_size: u32,
    parts: Option<BTreeMap<String, u32>>,
    pub(crate) sharded: Option<bool>,
    pin: bool,
    skip_if_busy: bool,
}

impl StartOptions<'_> {
    pub(crate) fn into_spec(self, py: Python<'_>) -> PyResult<RunSpec> {
        let project: ProjectName = parse(py, &self.project)?;
        Ok(RunSpec {
            name: self.name,
            key: self.key,
            resume: match self.resume.as_str() {
                "allow" => ResumePolicy::Allow,
                "must" => ResumePolicy::Must,
                _ => ResumePolicy::Never,
            },
            resume_from: self.resume_from,
            fork: fork_choice(py, self.fork_run, self.fork_step, self.fork)?,
            base: self.base.map(|base| parse(py, &base)).transpose()?,
            config: config_value(self.config)?,
            tags: self.tags,
            notes: self.notes,
            inherit_config: self.inherit_config,
            inherit_tags: self.inherit_tags,
            launch_key: match self.launch_key {
                None => LaunchKey::Random,
                Some(key) if self.has_launcher => LaunchKey::Launcher(key),
                Some(key) => LaunchKey::Named(key),
            },
            run: self.run.map(|run| parse(py, &run)).transpose()?,
            rank: self.rank,
            world_size: self.world_size,
            log_ranks: if self.log_all_ranks {
                LogRanks::All
            } else {
                LogRanks::Main
            },
            retention: policy_of(py, self.retention)?,
            process: self.process,
            ..RunSpec::new(project)
        })
    }
}

impl ForkOptions<'_> {
    pub(crate) fn into_spec(self, py: Python<'_>) -> PyResult<ForkSpec> {
        let choice = fork_choice(py, self.fork_run, self.fork_step, self.reference)?;
        Ok(ForkSpec {
            project: self.project,
            into: self.into,
            name: self.name,
            key: self.key,
            config: config_value(self.config)?,
            tags: self.tags,
            notes: self.notes,
            inherit_config: self.inherit_config,
            inherit_tags: self.inherit_tags,
            ..ForkSpec::new(choice)
        })
    }
}

impl RunsOptions {
    pub(crate) fn into_query(self, py: Python<'_>) -> PyResult<RunQuery> {
        let statuses = self.statuses.iter().map(|status| parse(py, status));
        Ok(RunQuery {
            project: self.project,
            root: self
                .root
                .map(|root| parse::<RunId>(py, &root))
                .transpose()?,
            filter: parse(py, self.filter.as_deref().unwrap_or_default())?,
            statuses: statuses.collect::<PyResult<_>>()?,
            tags: self.tags,
            sort: parse(py, &self.sort)?,
            descending: self.descending,
            limit: self.limit,
            cursor: self.cursor,
            deleted: self.deleted,
            ..RunQuery::default()
        })
    }
}

impl MetricsOptions {
    pub(crate) fn into_export(
        self,
        py: Python<'_>,
        path: &std::path::Path,
    ) -> PyResult<MetricsExport> {
        let format = match self.format {
            Some(format) => parse(py, &format)?,
            None => MetricsFormat::of_path(path).unwrap_or(MetricsFormat::Parquet),
        };
        Ok(MetricsExport {
            format,
            metrics: self.metrics,
            system: self.system,
            scope: if self.inherited {
                MetricsScope::Effective
            } else {
                MetricsScope::Own
            },
        })
    }
}

/// Each text parsed.
pub(crate) fn parse_all<T: std::str::FromStr<Err = runtree_core::Error>>(
    py: Python<'_>,
    texts: &[String],
) -> PyResult<Vec<T>> {
    texts.iter().map(|text| parse(py, text)).collect()
}

impl SaveOptions {
    pub(crate) fn into_request<'a>(
        self,
        py: Python<'_>,
        sharded: bool,
        entry: EntrySource<'a>,
    ) -> PyResult<SaveRequest<'a>> {
        let parts = self.parts.map(|parts| {
            parts
                .into_iter()
                .map(|(component, ranks)| Ok((parse::<ComponentName>(py, &component)?, ranks)))
                .collect::<PyResult<BTreeMap<_, _>>>()
        });
        Ok(SaveRequest {
            step: self.step.map(Step),
            name: self.name,
            metrics: self.metrics,
            component: parse(py, &self.component)?,
            rank: self.rank,
            world_size: self.world_size,
            parts: parts.transpose()?,
            sharded,
            pin: self.pin,
            if_busy: if self.skip_if_busy {
                IfBusy::Skip
            } else {
                IfBusy::Wait
            },
            ready: None,
            entries: vec![entry],
        })
    }
}

/// A checkpoint's name from its two texts.
pub(crate) fn checkpoint_name(py: Python<'_>, run: &str, key: &str) -> PyResult<CheckpointName> {
    Ok(CheckpointName {
        run: parse(py, run)?,
        key: parse(py, key)?,
    })
}

/// What a text names, or the exception that says why it names nothing.
pub(crate) fn parse<T: FromStr<Err = Error>>(py: Python<'_>, text: &str) -> PyResult<T> {
    text.parse().into_py(py)
}

/// A config, if one is given.
pub(crate) fn config_value(config: Option<Bound<'_, PyAny>>) -> PyResult<Option<Value>> {
    config.map(|config| config_to_value(&config, 0)).transpose()
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
