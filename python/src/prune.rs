//! Retention: policies, plans, and what becomes of them.

use pyo3::prelude::*;
use runtree_core::reference::Direction;
use runtree_core::retention::{KeepBest, Policy};
use runtree_core::{Error, RunId};
use runtree_engine::{RetentionScope, TrashBound, UnknownMetric};

use crate::convert::json::to_python;
use crate::engine::Engine;
use crate::errors::{IntoPyResult as _, to_py_err};
use crate::requests::parse;
use crate::writer::RunWriter;

/// The rules of a policy.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(
    clippy::struct_field_names,
    reason = "named as the keys of the dict are"
)]
pub(crate) struct Rules {
    keep_last: Option<u32>,
    keep_interval: Option<u64>,
    /// Metric (or `METRIC[:min|max][:N]`, if it comes without the others), which end of it is the best, how many.
    keep_best: Vec<(String, Option<String>, Option<u32>)>,
    keep_newer_than_micros: Option<u64>,
    keep_without_metric: bool,
}

impl Rules {
    fn into_policy(self) -> runtree_core::Result<Policy> {
        let best = |(metric, mode, count): (String, Option<String>, Option<u32>)| {
            let mode = match mode.as_deref() {
                None if count.is_none() => return metric.parse(),
                None => None,
                Some("min") => Some(Direction::Min),
                Some("max") => Some(Direction::Max),
                Some(other) => {
                    return Err(Error::invalid(format!(
                        "mode {other:?} is neither 'min' nor 'max'"
                    )));
                }
            };
            KeepBest::new(&metric, mode, count.unwrap_or(1))
        };
        let policy = Policy {
            keep_last: self.keep_last,
            keep_interval: self.keep_interval,
            keep_best: self
                .keep_best
                .into_iter()
                .map(best)
                .collect::<Result<_, _>>()?,
            keep_newer_than_micros: self.keep_newer_than_micros,
            keep_without_metric: self.keep_without_metric,
        };
        policy.check()?;
        Ok(policy)
    }
}

/// A policy in words and in the one form that equal policies have, or the error that says why its rules can not be meant.
#[pyfunction]
pub(crate) fn describe_policy(py: Python<'_>, rules: Rules) -> PyResult<(String, String)> {
    let policy = rules.into_policy().into_py(py)?;
    let form = serde_json::to_string(&policy)
        .map_err(|error| to_py_err(py, &Error::internal("a policy is JSON").with_source(error)))?;
    Ok((policy.to_string(), form))
}

/// What would become of a run's checkpoints, and what it takes to have it so.
#[pyclass(frozen, module = "runtree._native")]
pub(crate) struct PrunePlan {
    inner: runtree_engine::PrunePlan,
}

#[pymethods]
impl PrunePlan {
    /// The plan as a dict.
    fn info<'py>(&self, py: Python<'py>, engine: &Engine) -> PyResult<Bound<'py, PyAny>> {
        engine.record(py, |engine| engine.prune_info(&self.inner, None))
    }

    /// Puts what goes into the trash; returns how many went, and the bytes that emptying the trash freed.
    fn apply(&self, py: Python<'_>, engine: &Engine) -> PyResult<(usize, u64)> {
        let report = engine.call(py, |engine| {
            engine.apply_prune(&self.inner, None, TrashBound::default())
        })?;
        Ok((report.deleted.len(), report.trash.freed_bytes))
    }
}

/// Plans for a run that nobody here trains.
#[pyfunction]
pub(crate) fn plan_prune(
    py: Python<'_>,
    engine: &Engine,
    run: &str,
    rules: Option<Rules>,
) -> PyResult<PrunePlan> {
    let run: RunId = parse(py, run)?;
    let policy = match rules {
        Some(rules) => rules.into_policy().into_py(py)?,
        None => kept_policy(py, engine, run)?,
    };
    let inner = engine.call(py, |engine| {
        engine.plan_prune(run, &policy, UnknownMetric::Refuse)
    })?;
    Ok(PrunePlan { inner })
}

/// Plans for the live run of this process, and applies the plan unless it is only to be looked at.
#[pyfunction]
pub(crate) fn prune_live(
    py: Python<'_>,
    engine: &Engine,
    writer: &RunWriter,
    rules: Option<Rules>,
    dry_run: bool,
) -> PyResult<PrunePlan> {
    let writer = writer.inner(py)?;
    let policy = match rules {
        Some(rules) => rules.into_policy().into_py(py)?,
        None => kept_policy(py, engine, writer.run())?,
    };
    let inner = py
        .detach(|| {
            if dry_run {
                writer.plan_prune(&policy)
            } else {
                writer.prune(&policy)
            }
        })
        .into_py(py)?;
    Ok(PrunePlan { inner })
}

fn kept_policy(py: Python<'_>, engine: &Engine, run: RunId) -> PyResult<Policy> {
    let found = engine.call(py, |engine| engine.retention(run))?;
    found.map(|origin| origin.policy).ok_or_else(|| {
        let error = Error::invalid(format!(
            "nothing says which checkpoints of run {run} to keep"
        ));
        to_py_err(
            py,
            &error.with_hint("give a rule, like keep_last=2, or a policy to init(retention=...)"),
        )
    })
}

/// The policy that counts for a run: whose it is, and its rules.
#[pyfunction]
pub(crate) fn retention<'py>(
    py: Python<'py>,
    engine: &Engine,
    run: &str,
) -> PyResult<Option<(String, Bound<'py, PyAny>)>> {
    let run: RunId = parse(py, run)?;
    let found = engine.call(py, |engine| engine.retention(run))?;
    found
        .map(|origin| Ok((origin.scope.to_string(), to_python(py, &origin.policy)?)))
        .transpose()
}

/// Sets the policy of a run, of a project, or (neither) of the store, or takes it away.
#[pyfunction]
#[pyo3(signature = (engine, rules, run=None, project=None))]
pub(crate) fn set_retention(
    py: Python<'_>,
    engine: &Engine,
    rules: Option<Rules>,
    run: Option<&str>,
    project: Option<&str>,
) -> PyResult<()> {
    let policy = rules.map(Rules::into_policy).transpose().into_py(py)?;
    let scope = match (run, project) {
        (Some(run), _) => RetentionScope::Run(parse(py, run)?),
        (None, Some(project)) => RetentionScope::Project(parse(py, project)?),
        (None, None) => RetentionScope::Store,
    };
    engine.call(py, |engine| engine.set_retention(&scope, policy.as_ref()))
}

/// The policy that `init` was given.
pub(crate) fn policy_of(py: Python<'_>, rules: Option<Rules>) -> PyResult<Option<Policy>> {
    rules.map(Rules::into_policy).transpose().into_py(py)
}
