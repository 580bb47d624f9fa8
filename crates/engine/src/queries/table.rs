//! Many runs as columns: what data frames are made of. One pass over the index, however many runs.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::{Result, RunId, Step, wire};
use runtree_index::MetricChoice;
use serde_json::Value;

use super::list::{Labels, to_summary};
use super::{RunQuery, RunSort};
use crate::engine::Engine;

/// Runs asked for at once.
const PAGE: usize = 500;

/// Runs as columns of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunTable {
    /// Names and values: identity, status, times, fork, tags, then `config.KEY` by key, then `last(METRIC)` and its siblings by metric.
    pub columns: Vec<(String, RunColumn)>,
    /// Rows.
    pub rows: usize,
}

/// Values of a column; none where a run has no such thing.
#[derive(Clone, Debug, PartialEq)]
pub enum RunColumn {
    /// Texts.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Integer(Vec<Option<i64>>),
    /// Numbers; NaN is a value.
    Float(Vec<Option<f64>>),
    /// Yes or no.
    Boolean(Vec<Option<bool>>),
    /// Microseconds since the epoch, UTC.
    Time(Vec<Option<i64>>),
    /// Lists of texts.
    Texts(Vec<Vec<String>>),
}

impl Engine {
    /// Ids of all runs that a query holds for, in its order; `limit` and `cursor` do not count.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn run_ids(&self, query: &RunQuery) -> Result<Vec<RunId>> {
        self.refresh()?;
        let snapshot = self.snapshot()?;
        snapshot.run_ids(&self.asked(query)?)
    }

    /// Some runs as columns, in the order in which they are named. One that is not in the store is left out.
    ///
    /// With `metrics`, of these alone. The type of a config column is that of all its values: whole numbers, numbers, yes or no, else texts, for which what is
    /// no text is written as JSON.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn run_table(&self, runs: &[RunId], metrics: Option<&[String]>) -> Result<RunTable> {
        self.refresh()?;
        let snapshot = self.snapshot()?;
        let choice = metrics.map_or(MetricChoice::All, |names| {
            MetricChoice::These(names.to_vec())
        });
        let mut labels = Labels::default();
        let mut rows = Rows::default();
        for page in runs.chunks(PAGE) {
            let mut asked = self.asked(&RunQuery {
                runs: page.to_vec(),
                deleted: true,
                sort: RunSort::Created,
                ..RunQuery::default()
            })?;
            asked.show_metrics = choice.clone();
            asked.limit = PAGE as u32;
            let found = snapshot.runs(&asked)?.runs;
            labels.learn(found.iter());
            let parents = found.iter().filter_map(|row| row.record.fork.as_ref());
            let parents: Vec<RunId> = parents
                .flat_map(|fork| [fork.declared, fork.owner.run])
                .collect();
            labels.look_up(&*snapshot, parents.into_iter())?;
            let mut by_id = BTreeMap::new();
            for row in found {
                by_id.insert(row.record.run, row);
            }
            for run in page {
                // A run that is named twice has a row once.
                if let Some(row) = by_id.remove(run) {
                    let notes = row.notes.clone();
                    rows.add(to_summary(&*snapshot, &mut labels, row)?, notes);
                }
            }
        }
        Ok(rows.finish(metrics))
    }
}

/// Rows that become columns.
#[derive(Default)]
struct Rows {
    summaries: Vec<wire::RunSummary>,
    notes: Vec<Option<String>>,
    config: BTreeMap<String, Vec<(usize, Value)>>,
    metrics: BTreeSet<String>,
}

impl Rows {
    fn add(&mut self, mut summary: wire::RunSummary, notes: Option<String>) {
        let row = self.summaries.len();
        flatten(
            std::mem::take(&mut summary.config),
            "config",
            &mut |key, value| {
                self.config.entry(key).or_default().push((row, value));
            },
        );
        for name in summary.metrics.keys() {
            if !self.metrics.contains(name) {
                self.metrics.insert(name.clone());
            }
        }
        self.summaries.push(summary);
        self.notes.push(notes);
    }

    fn finish(mut self, wanted: Option<&[String]>) -> RunTable {
        let count = self.summaries.len();
        let mut columns = self.identity();
        for (key, values) in std::mem::take(&mut self.config) {
            columns.push((key, config_column(values, count)));
        }
        // A metric that was asked for has its columns, whether any run has it or not.
        self.metrics.extend(wanted.into_iter().flatten().cloned());
        for name in std::mem::take(&mut self.metrics) {
            let values = || self.summaries.iter().map(|run| run.metrics.get(&name));
            let extreme = |of: fn(&wire::RunMetric) -> Option<&wire::MetricValue>| {
                let points: Vec<_> = values().map(|metric| metric.and_then(of)).collect();
                let value = |point: Option<&wire::MetricValue>| point.map(|it| it.value.0);
                let step = |point: Option<&wire::MetricValue>| point.map(|it| it.step.0);
                (
                    RunColumn::Float(points.iter().copied().map(value).collect()),
                    RunColumn::Integer(points.iter().copied().map(step).collect()),
                )
            };
            let last = values().map(|metric| metric.map(|it| it.value.0));
            let last_step = values().map(|metric| metric.map(|it| it.step.0));
            let (min, min_step) = extreme(|metric| metric.min.as_ref());
            let (max, max_step) = extreme(|metric| metric.max.as_ref());
            columns.extend([
                (format!("last({name})"), RunColumn::Float(last.collect())),
                (
                    format!("last_step({name})"),
                    RunColumn::Integer(last_step.collect()),
                ),
                (format!("min({name})"), min),
                (format!("min_step({name})"), min_step),
                (format!("max({name})"), max),
                (format!("max_step({name})"), max_step),
            ]);
        }
        RunTable {
            columns,
            rows: count,
        }
    }

    /// The columns that every table has.
    fn identity(&self) -> Vec<(String, RunColumn)> {
        let texts = |of: &dyn Fn(&wire::RunSummary) -> Option<String>| {
            RunColumn::Text(self.summaries.iter().map(of).collect())
        };
        let integers = |of: &dyn Fn(&wire::RunSummary) -> Option<i64>| {
            RunColumn::Integer(self.summaries.iter().map(of).collect())
        };
        let times = |of: &dyn Fn(&wire::RunSummary) -> i64| {
            RunColumn::Time(self.summaries.iter().map(|run| Some(of(run))).collect())
        };
        let step = |step: Option<Step>| step.map(|step| step.0);
        let label = |label: &Option<wire::RunLabel>| label.as_ref().map(|it| it.display_id.clone());
        let bad = |run: &wire::RunSummary| run.first_nonfinite.clone();
        let deleted = self.summaries.iter().map(|run| Some(run.deleted));
        let tags = self.summaries.iter().map(|run| run.tags.clone());
        let columns = [
            ("id", texts(&|run| Some(run.id.clone()))),
            ("display_id", texts(&|run| Some(run.display_id.clone()))),
            ("number", integers(&|run| Some(run.number as i64))),
            ("key", texts(&|run| run.key.clone())),
            ("name", texts(&|run| Some(run.name.clone()))),
            ("project", texts(&|run| Some(run.project.clone()))),
            ("experiment", texts(&|run| Some(run.experiment.clone()))),
            ("root", texts(&|run| Some(run.root.clone()))),
            ("status", texts(&|run| Some(run.status.as_str().to_owned()))),
            ("status_reason", texts(&|run| run.status_reason.clone())),
            ("created", times(&|run| run.created.0)),
            ("last_activity", times(&|run| run.last_activity.0)),
            ("attempt", integers(&|run| Some(i64::from(run.attempt.0)))),
            ("last_step", integers(&|run| step(run.last_step))),
            ("parent", texts(&|run| label(&run.parent))),
            ("fork_run_id", texts(&|run| label(&run.owner))),
            ("fork_step", integers(&|run| step(run.fork_step))),
            ("base", texts(&|run| run.base.clone())),
            ("children", integers(&|run| Some(run.children as i64))),
            ("checkpoints", integers(&|run| Some(run.checkpoints as i64))),
            (
                "nonfinite_metric",
                texts(&|run| bad(run).map(|bad| bad.metric)),
            ),
            (
                "nonfinite_step",
                integers(&|run| bad(run).map(|bad| bad.step.0)),
            ),
            ("deleted", RunColumn::Boolean(deleted.collect())),
            ("tags", RunColumn::Texts(tags.collect())),
            ("notes", RunColumn::Text(self.notes.clone())),
        ];
        columns
            .into_iter()
            .map(|(name, column)| (name.to_owned(), column))
            .collect()
    }
}

/// Leaves of a config by dotted key. What is no object, or an empty one, is a leaf.
fn flatten(value: Value, key: &str, visit: &mut impl FnMut(String, Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() || key == "config" => {
            for (name, field) in fields {
                flatten(field, &format!("{key}.{name}"), visit);
            }
        }
        leaf => visit(key.to_owned(), leaf),
    }
}

fn config_column(values: Vec<(usize, Value)>, rows: usize) -> RunColumn {
    let all = |is: fn(&Value) -> bool| {
        values.iter().any(|(_, value)| is(value))
            && values.iter().all(|(_, value)| value.is_null() || is(value))
    };
    if all(Value::is_boolean) {
        return RunColumn::Boolean(spread(values, rows, |value| value.as_bool()));
    }
    if all(Value::is_i64) {
        return RunColumn::Integer(spread(values, rows, |value| value.as_i64()));
    }
    if all(Value::is_number) {
        return RunColumn::Float(spread(values, rows, |value| value.as_f64()));
    }
    RunColumn::Text(spread(values, rows, |value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }))
}

/// The values at their rows.
fn spread<T: Clone>(
    values: Vec<(usize, Value)>,
    rows: usize,
    of: impl Fn(Value) -> Option<T>,
) -> Vec<Option<T>> {
    let mut column = vec![None; rows];
    for (row, value) in values {
        column[row] = of(value);
    }
    column
}
