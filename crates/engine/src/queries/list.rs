//! Runs in lists.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::filter::{Comparison, Field, Filter, Relation, Value};
use runtree_core::float::JsonFloat;
use runtree_core::lineage::Timeline;
use runtree_core::{Result, RunId, wire};
use runtree_index::{Deleted, MetricChoice, MetricPoint, MetricRow, Order, RunRow, Snapshot};

use super::{RunQuery, RunSort};
use crate::engine::Engine;
use crate::resolve::Purpose;
use crate::runs::require_row;
use crate::series::timeline_of;

/// Longest page.
const MAX_LIMIT: usize = 10_000;

impl Engine {
    /// Projects by name.
    pub fn projects(&self) -> Result<Vec<wire::ProjectInfo>> {
        self.refresh()?;
        self.snapshot()?.projects(self.liveness())
    }

    /// A page of runs.
    ///
    /// # Errors
    /// `Invalid` if the cursor is not of this query.
    pub fn runs(&self, query: &RunQuery) -> Result<wire::RunPage> {
        self.refresh()?;
        let snapshot = self.snapshot()?;
        let asked = self.asked(query)?;
        let slice = snapshot.runs(&asked)?;
        let mut labels = Labels::default();
        let runs = slice
            .runs
            .into_iter()
            .map(|row| to_summary(&*snapshot, &mut labels, row))
            .collect::<Result<_>>()?;
        Ok(wire::RunPage {
            runs,
            total: slice.total,
            next_cursor: slice.next_cursor,
        })
    }

    /// What the index is asked.
    pub(super) fn asked(&self, query: &RunQuery) -> Result<runtree_index::RunQuery> {
        let mut asked = runtree_index::RunQuery::new(self.liveness());
        asked.project = query.project.as_deref().map(str::parse).transpose()?;
        asked.runs.clone_from(&query.runs);
        asked.filter = self.filter_of(query)?;
        asked.deleted = if query.deleted || asked.filter.mentions(&Field::Deleted) {
            Deleted::Include
        } else {
            Deleted::Hide
        };
        asked.sort = match &query.sort {
            RunSort::Created => runtree_index::RunSort::Created,
            RunSort::LastActivity => runtree_index::RunSort::LastActivity,
            RunSort::Name => runtree_index::RunSort::Name,
            RunSort::DisplayId => runtree_index::RunSort::Number,
            RunSort::Status => runtree_index::RunSort::Status,
            RunSort::LastStep => runtree_index::RunSort::LastStep,
            RunSort::Metric(name, summary) => {
                runtree_index::RunSort::Metric(name.clone(), *summary)
            }
            RunSort::Config(key) => runtree_index::RunSort::Config(key.clone()),
        };
        asked.order = if query.descending {
            Order::Descending
        } else {
            Order::Ascending
        };
        asked.show_metrics = match &query.metrics {
            None => MetricChoice::All,
            Some(names) => MetricChoice::These(names.clone()),
        };
        asked.cursor.clone_from(&query.cursor);
        asked.limit = query.limit.clamp(1, MAX_LIMIT) as u32;
        Ok(asked)
    }

    /// Everything that must hold, with the runs that it names found.
    fn filter_of(&self, query: &RunQuery) -> Result<Filter<RunId>> {
        let project = query.project.as_deref();
        let mut filter = query
            .filter
            .clone()
            .resolve(&mut |run: String| self.resolve_run(&run, project, Purpose::Read))?;
        let equal = |field: Field, text: &str| Filter::Compare {
            field,
            comparison: Comparison::Equal,
            value: Value::Text(text.to_owned()),
        };
        let words = query.search.iter().flat_map(|text| text.split_whitespace());
        for word in words {
            filter = filter.and(Filter::Word(word.to_owned()));
        }
        if !query.statuses.is_empty() {
            let statuses = query.statuses.iter();
            let any = statuses.map(|status| equal(Field::Status, status.as_str()));
            filter = filter.and(Filter::Any(any.collect()));
        }
        for tag in &query.tags {
            filter = filter.and(equal(Field::Tag, tag));
        }
        if let Some(root) = query.root {
            filter = filter.and(Filter::Relative(Relation::Root, root));
        }
        Ok(filter)
    }

    /// A run as lists show it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn summary(&self, run: RunId) -> Result<wire::RunSummary> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        self.summary_in(&*snapshot, &mut Labels::default(), run)
    }

    pub(super) fn summary_in(
        &self,
        snapshot: &dyn Snapshot,
        labels: &mut Labels,
        run: RunId,
    ) -> Result<wire::RunSummary> {
        let row = snapshot.run(run, &MetricChoice::All, self.liveness())?;
        let row = match row {
            Some(row) => row,
            None => require_row(self, snapshot, run)?,
        };
        to_summary(snapshot, labels, row)
    }

    /// The effective history of a run's newest attempt.
    ///
    /// # Errors
    /// `NotFound` if the run, or an ancestor's launch, is not in this store.
    pub fn timeline(&self, run: RunId) -> Result<Timeline> {
        self.refresh_for(run)?;
        let snapshot = self.snapshot()?;
        timeline_of(&*snapshot, run)
    }

    /// Everything that is new in general, and of one run in particular. Damage is not this question's business, unless nobody can say what
    /// belongs to the run.
    pub(crate) fn refresh_for(&self, run: RunId) -> Result<()> {
        self.refresh()?;
        self.refresh_known(run)?;
        self.check_lineage(run)
    }

    /// The largest Lamport count of a run that is known here.
    pub(crate) fn current_lamport(&self, run: RunId) -> Result<u64> {
        self.refresh_known(run)?;
        let row = self
            .snapshot()?
            .run(run, &MetricChoice::None, self.liveness())?;
        Ok(row.map_or(0, |row| row.lamport))
    }
}

/// A row as lists show it.
pub(super) fn to_summary(
    snapshot: &dyn Snapshot,
    labels: &mut Labels,
    row: RunRow,
) -> Result<wire::RunSummary> {
    let record = &row.record;
    let fork = record.fork.as_ref();
    let parent = fork
        .map(|fork| labels.get(snapshot, fork.declared))
        .transpose()?;
    let owner = fork
        .map(|fork| labels.get(snapshot, fork.owner.run))
        .transpose()?;
    let base = match record.base {
        Some(base) => {
            let label = labels.get(snapshot, base.run)?;
            Some(format!("{}@{}", label.display_id, base.key.step))
        }
        None => None,
    };
    let alerts = snapshot.alert_count(record.run)?;
    Ok(wire::RunSummary {
        id: record.run.to_string(),
        display_id: record.display_id.to_string(),
        number: record.display_id.number(),
        key: record.key.clone(),
        name: row.name,
        project: record.project.to_string(),
        experiment: record.experiment.clone(),
        root: row.root.to_string(),
        status: row.status,
        status_reason: row.status_reason,
        created: record.created,
        last_activity: row.last_activity,
        attempt: row.attempt,
        parent,
        owner,
        fork_step: fork.map(|fork| fork.owner.step),
        base,
        children: row.children,
        last_step: row.last_step,
        metrics: row
            .metrics
            .into_iter()
            .map(|(name, metric)| (name, run_metric(&metric)))
            .collect(),
        config: row.config,
        tags: row.tags,
        checkpoints: row.checkpoints,
        first_nonfinite: row.first_nonfinite.map(|bad| wire::NonFinite {
            metric: bad.metric,
            step: bad.step,
            last_good: bad.last_good,
        }),
        deleted: row.deleted,
        alerts: alerts.worst.map(|worst| wire::AlertSummary {
            count: alerts.alerts,
            worst,
        }),
    })
}

/// What a metric comes to, as it goes over the wire.
pub(super) fn run_metric(metric: &MetricRow) -> wire::RunMetric {
    let value = |point: MetricPoint| wire::MetricValue {
        step: point.step,
        value: JsonFloat(point.value),
    };
    wire::RunMetric {
        step: metric.last.step,
        value: JsonFloat(metric.last.value),
        min: metric.extremes.min.map(value),
        max: metric.extremes.max.map(value),
    }
}

/// Labels of runs, each looked up once per answer.
#[derive(Default)]
pub(super) struct Labels(BTreeMap<RunId, wire::RunLabel>);

impl Labels {
    /// Takes what is known already.
    pub(super) fn learn<'a>(&mut self, rows: impl Iterator<Item = &'a RunRow>) {
        for row in rows {
            let label = wire::RunLabel {
                id: row.record.run.to_string(),
                display_id: row.record.display_id.to_string(),
                name: row.name.clone(),
            };
            self.0.insert(row.record.run, label);
        }
    }

    /// Looks up some runs at once: one by one, the thousand of a long chain would be most of an answer's time.
    pub(super) fn look_up(
        &mut self,
        snapshot: &dyn Snapshot,
        runs: impl Iterator<Item = RunId>,
    ) -> Result<()> {
        let unknown: BTreeSet<RunId> = runs.filter(|run| !self.0.contains_key(run)).collect();
        let unknown: Vec<RunId> = unknown.into_iter().collect();
        for row in snapshot.labels(&unknown)? {
            let label = wire::RunLabel {
                id: row.run.to_string(),
                display_id: row.display_id,
                name: row.name,
            };
            self.0.insert(row.run, label);
        }
        Ok(())
    }

    /// The label of a run; of one that is not in this store, its id alone.
    pub(super) fn get(&mut self, snapshot: &dyn Snapshot, run: RunId) -> Result<wire::RunLabel> {
        if !self.0.contains_key(&run) {
            self.look_up(snapshot, std::iter::once(run))?;
        }
        let unknown = || wire::RunLabel {
            id: run.to_string(),
            display_id: run.to_string(),
            name: run.to_string(),
        };
        Ok(self.0.entry(run).or_insert_with(unknown).clone())
    }
}

impl Engine {
    /// A run as it is named in lists.
    pub(crate) fn run_label(&self, run: RunId) -> Result<wire::RunLabel> {
        let snapshot = self.snapshot()?;
        Labels::default().get(&*snapshot, run)
    }
}
