//! Pages of runs, single runs, and looking runs up.

use std::collections::BTreeMap;

use runtree_core::filter::{Filter, Summary};
use runtree_core::{AttemptNumber, Error, ProjectName, Result, RunId, Step, Timestamp};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::filter::Conditions;
use super::from_sqlite;
use super::keys::{find_name, from_json, run_blob, run_of};
use crate::query::{Deleted, Liveness, MetricChoice, Order, RunLookup, RunQuery, RunSort};
use crate::row::{Extremes, MetricPoint, MetricRow, NonFiniteRow, RunRow, RunSlice};

mod keyed;

/// Most rows of a page, whatever was asked.
const MAX_PAGE: u32 = 1000;

/// Where more runs match than this, those that have a value are walked in its order, and the walk ends with the page. Fewer are sorted: a
/// walk meets mostly runs that do not match then.
const WALK_FROM: u64 = 2000;

/// A launch whose newest sign of life is older is lost.
pub(super) fn cutoff(liveness: Liveness) -> i64 {
    liveness.now.0.saturating_sub(liveness.lost_after_micros)
}

/// A page of runs.
pub(super) fn page(connection: &Connection, query: &RunQuery) -> Result<RunSlice> {
    let offset: u64 = match &query.cursor {
        None => 0,
        Some(cursor) => cursor
            .parse()
            .map_err(|_| Error::invalid(format!("{cursor:?} is not a cursor of a run list")))?,
    };
    let mut conditions = Conditions::new(connection, query.liveness);
    let condition = condition(&mut conditions, query)?;
    let filter = conditions.parameters;
    let page = Page {
        condition: &condition,
        filter: &filter,
        offset,
        limit: u64::from(query.limit.clamp(1, MAX_PAGE)),
    };
    let (ids, total) = if has_filter(query) && !keyed::is_keyed(&query.sort) {
        // To count them, each is asked whether it matches: once is enough.
        let all = sorted_ids(connection, query, &page, None)?;
        let from = usize::try_from(offset).map_or(all.len(), |from| from.min(all.len()));
        let to = all
            .len()
            .min(from + query.limit.clamp(1, MAX_PAGE) as usize);
        (all[from..to].to_vec(), all.len() as u64)
    } else {
        let total = count(connection, &page)?;
        let ids = if total > WALK_FROM && keyed::is_keyed(&query.sort) {
            keyed::ids(connection, query, &page)?
        } else {
            sorted_ids(connection, query, &page, Some(page.limit))?
        };
        (ids, total)
    };
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.extend(row(connection, id, &query.show_metrics, query.liveness)?);
    }
    let end = offset + runs.len() as u64;
    Ok(RunSlice {
        next_cursor: (end < total && !runs.is_empty()).then(|| end.to_string()),
        runs,
        total,
    })
}

/// All runs that match, in order.
pub(super) fn ids(connection: &Connection, query: &RunQuery) -> Result<Vec<RunId>> {
    let mut conditions = Conditions::new(connection, query.liveness);
    let condition = condition(&mut conditions, query)?;
    let (join, order, sort_parameters) = sort(connection, query)?;
    let mut parameters = sort_parameters.join;
    parameters.extend(conditions.parameters);
    parameters.extend(sort_parameters.order);
    connection
        .prepare_cached(&format!(
            "SELECT run.run FROM run {join} WHERE {condition} ORDER BY {order}"
        ))
        .and_then(|mut statement| {
            statement
                .query_map(rusqlite::params_from_iter(&parameters), |row| {
                    Ok(run_of(row.get(0)?))
                })?
                .collect()
        })
        .map_err(from_sqlite)
}

/// Which rows of a list.
struct Page<'a> {
    condition: &'a str,
    /// Parameters of the condition.
    filter: &'a [Sql],
    offset: u64,
    limit: u64,
}

/// Whether a list is of some runs: those that a condition must be asked for.
fn has_filter(query: &RunQuery) -> bool {
    !query.runs.is_empty() || !matches!(&query.filter, Filter::All(filters) if filters.is_empty())
}

/// The table, with the index that has a page of all runs of a project in order: without statistics SQLite would sort them all.
fn source(query: &RunQuery, limit: Option<u64>) -> &'static str {
    if limit.is_none() || query.project.is_none() || has_filter(query) {
        return "run";
    }
    match query.sort {
        RunSort::Name => "run INDEXED BY run_by_folded_name",
        RunSort::Number => "run INDEXED BY run_by_number",
        RunSort::LastStep => "run INDEXED BY run_by_last_step",
        RunSort::LastActivity => "run INDEXED BY run_by_activity",
        _ => "run",
    }
}

fn count(connection: &Connection, page: &Page<'_>) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM run WHERE {}", page.condition);
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement.query_row(rusqlite::params_from_iter(page.filter), |row| {
                row.get::<_, i64>(0)
            })
        })
        .map(|count| count as u64)
        .map_err(from_sqlite)
}

/// Ids of runs that match, sorted: those of the page, or with `None` all.
fn sorted_ids(
    connection: &Connection,
    query: &RunQuery,
    page: &Page<'_>,
    limit: Option<u64>,
) -> Result<Vec<i64>> {
    let (join, order, sort_parameters) = sort(connection, query)?;
    // Parameters of the join stand before those of the condition.
    let mut parameters = sort_parameters.join;
    parameters.extend_from_slice(page.filter);
    parameters.extend(sort_parameters.order);
    let mut bounds = "";
    if let Some(limit) = limit {
        bounds = "LIMIT ? OFFSET ?";
        parameters.push(Sql::Integer(limit as i64));
        parameters.push(Sql::Integer(page.offset as i64));
    }
    let condition = page.condition;
    connection
        .prepare_cached(&format!(
            "SELECT run.id FROM {} {join} WHERE {condition} ORDER BY {order} {bounds}",
            source(query, limit)
        ))
        .and_then(|mut statement| {
            statement
                .query_map(rusqlite::params_from_iter(&parameters), |row| row.get(0))?
                .collect()
        })
        .map_err(from_sqlite)
}

fn condition(conditions: &mut Conditions<'_>, query: &RunQuery) -> Result<String> {
    let mut all = vec![
        match query.deleted {
            Deleted::Hide => "run.shown = 0",
            Deleted::Only => "run.shown = 1",
            Deleted::Include => "run.shown IN (0, 1)",
        }
        .to_owned(),
    ];
    if !query.runs.is_empty() {
        let marks = vec!["?"; query.runs.len()].join(", ");
        all.push(format!("run.run IN ({marks})"));
        let runs = query.runs.iter();
        let blobs = runs.map(|&run| Sql::Blob(run_blob(run).to_vec()));
        conditions.parameters.extend(blobs);
    }
    if let Some(project) = &query.project {
        all.push("run.project = ?".to_owned());
        let project = Sql::Text(project.as_str().to_owned());
        conditions.parameters.push(project);
    }
    // What all must be stands apart: an index is found for it.
    let parts = match &query.filter {
        Filter::All(filters) => filters.as_slice(),
        filter => std::slice::from_ref(filter),
    };
    for filter in parts {
        all.push(conditions.of(filter)?);
    }
    Ok(all.join(" AND "))
}

/// Status now; its parameter is the cutoff.
pub(super) const STATUS: &str =
    "(CASE WHEN run.status = 'running' AND run.sign < ? THEN 'lost' ELSE run.status END)";

#[derive(Default)]
struct SortParameters {
    join: Vec<Sql>,
    order: Vec<Sql>,
}

/// A join that brings the sort key in, and the order.
fn sort(connection: &Connection, query: &RunQuery) -> Result<(String, String, SortParameters)> {
    let direction = match query.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    let mut parameters = SortParameters::default();
    let mut join = String::new();
    let key = match &query.sort {
        // The birth itself is the tie-break: newest first, or oldest first if asked.
        RunSort::Created => {
            let order = format!("run.created {direction}, run.run {direction}");
            return Ok((join, order, parameters));
        }
        RunSort::LastActivity => format!("run.last_activity {direction}"),
        RunSort::LastStep => format!("run.last_step {direction} NULLS LAST"),
        RunSort::Name => format!("run.folded_name {direction}"),
        RunSort::Number => format!("run.number {direction}"),
        RunSort::Status => {
            parameters.order.push(Sql::Integer(cutoff(query.liveness)));
            format!("{STATUS} {direction}")
        }
        RunSort::Metric(metric, summary) => {
            let id = find_name(connection, metric)?.unwrap_or(-1);
            let column = match summary {
                Summary::Last => "value",
                Summary::Min => "min",
                Summary::Max => "max",
            };
            parameters.join.push(Sql::Integer(id));
            "LEFT JOIN latest ON latest.run_id = run.id AND latest.metric_id = ?"
                .clone_into(&mut join);
            format!("latest.{column} {direction} NULLS LAST")
        }
        RunSort::Config(key) => {
            let id = find_name(connection, key)?.unwrap_or(-1);
            parameters.join.push(Sql::Integer(id));
            "LEFT JOIN config ON config.run_id = run.id AND config.key_id = ?"
                .clone_into(&mut join);
            format!("config.number {direction} NULLS LAST, config.text {direction} NULLS LAST")
        }
    };
    let order = format!("{key}, run.created DESC, run.run DESC");
    Ok((join, order, parameters))
}

/// One run; none if its birth record is not folded. (`+child.shown`: every run is shown, an index on that finds nothing.)
pub(super) fn row(
    connection: &Connection,
    id: i64,
    choice: &MetricChoice,
    liveness: Liveness,
) -> Result<Option<RunRow>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT detail.record, run.name, detail.notes, detail.tags, detail.config, {STATUS}, detail.reason, run.shown,
               run.last_activity, run.attempt, run.root, run.last_step, detail.checkpoints, detail.nonfinite_metric,
               detail.nonfinite_step, detail.last_good, detail.lamport,
               (SELECT count(*) FROM run AS child WHERE (child.owner = run.run OR child.declared = run.run) AND +child.shown = 0)
             FROM run JOIN detail ON detail.run_id = run.id WHERE run.id = ? AND run.shown IS NOT NULL"
        ))
        .and_then(|mut statement| {
            statement
                .query_row([cutoff(liveness), id], Columns::read)
                .optional()
        })
        .map_err(from_sqlite)?;
    let Some(columns) = found else {
        return Ok(None);
    };
    let status: runtree_core::event::RunStatus = columns.status.parse()?;
    let nonfinite = columns
        .nonfinite
        .map(|(metric, step, last_good)| NonFiniteRow {
            metric,
            step: Step(step),
            last_good: last_good.map(Step),
        });
    Ok(Some(RunRow {
        record: from_json(&columns.record, "a run's record")?,
        name: columns.name,
        notes: columns.notes,
        tags: from_json(&columns.tags, "a run's tags")?,
        config: from_json(&columns.config, "a run's config")?,
        status,
        status_reason: columns.reason,
        deleted: columns.shown == 1,
        last_activity: Timestamp(columns.last_activity),
        attempt: AttemptNumber(columns.attempt),
        root: run_of(columns.root),
        children: columns.children as u64,
        last_step: columns.last_step.map(Step),
        metrics: metrics(connection, id, choice)?,
        checkpoints: columns.checkpoints as u64,
        first_nonfinite: nonfinite,
        lamport: columns.lamport as u64,
    }))
}

struct Columns {
    record: String,
    name: String,
    notes: Option<String>,
    tags: String,
    config: String,
    status: String,
    reason: Option<String>,
    shown: i64,
    last_activity: i64,
    attempt: u32,
    root: [u8; 16],
    last_step: Option<i64>,
    checkpoints: i64,
    nonfinite: Option<(String, i64, Option<i64>)>,
    lamport: i64,
    children: i64,
}

impl Columns {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            record: row.get(0)?,
            name: row.get(1)?,
            notes: row.get(2)?,
            tags: row.get(3)?,
            config: row.get(4)?,
            status: row.get(5)?,
            reason: row.get(6)?,
            shown: row.get(7)?,
            last_activity: row.get(8)?,
            attempt: row.get(9)?,
            root: row.get(10)?,
            last_step: row.get(11)?,
            checkpoints: row.get(12)?,
            nonfinite: match row.get(13)? {
                Some(metric) => Some((metric, row.get(14)?, row.get(15)?)),
                None => None,
            },
            lamport: row.get(16)?,
            children: row.get(17)?,
        })
    }
}

fn metrics(
    connection: &Connection,
    run_id: i64,
    choice: &MetricChoice,
) -> Result<BTreeMap<String, MetricRow>> {
    let read = |row: &rusqlite::Row<'_>| {
        let last = MetricPoint {
            step: Step(row.get(1)?),
            value: row.get::<_, Option<f64>>(2)?.unwrap_or(f64::NAN),
        };
        let extreme = |value: usize| -> rusqlite::Result<Option<MetricPoint>> {
            let found: Option<f64> = row.get(value)?;
            let step: Option<i64> = row.get(value + 1)?;
            Ok(found.zip(step).map(|(value, step)| MetricPoint {
                step: Step(step),
                value,
            }))
        };
        let extremes = Extremes {
            min: extreme(3)?,
            max: extreme(5)?,
        };
        Ok((row.get(0)?, MetricRow { last, extremes }))
    };
    match choice {
        MetricChoice::None => Ok(BTreeMap::new()),
        MetricChoice::All => connection
            .prepare_cached(
                "SELECT name.text, step, value, min, min_step, max, max_step FROM latest JOIN name ON name.id = latest.metric_id WHERE run_id = ?1",
            )
            .and_then(|mut statement| statement.query_map([run_id], read)?.collect())
            .map_err(from_sqlite),
        MetricChoice::These(names) => {
            let mut metrics = BTreeMap::new();
            for name in names {
                let found = connection
                    .prepare_cached(
                        "SELECT name.text, step, value, min, min_step, max, max_step FROM name JOIN latest ON latest.metric_id = name.id
                         WHERE run_id = ?1 AND name.text = ?2",
                    )
                    .and_then(|mut statement| {
                        statement.query_row(params![run_id, name], read).optional()
                    })
                    .map_err(from_sqlite)?;
                metrics.extend(found);
            }
            Ok(metrics)
        }
    }
}

/// Runs a lookup may mean, newest first.
pub(super) fn find(
    connection: &Connection,
    project: Option<&ProjectName>,
    lookup: &RunLookup,
) -> Result<Vec<RunId>> {
    let (condition, first, last) = match lookup {
        RunLookup::DisplayId(id) => ("display_id = ?1", Sql::Text(id.to_string()), Sql::Null),
        RunLookup::Key(key) => ("key = ?1", Sql::Text(key.clone()), Sql::Null),
        RunLookup::Name(name) => ("name = ?1", Sql::Text(name.clone()), Sql::Null),
        RunLookup::Prefix(prefix) => {
            let bound = |fill: &str| {
                let missing = RUN_ID_LENGTH.checked_sub(prefix.len())?;
                let text = format!("{}{}", prefix.to_lowercase(), fill.repeat(missing));
                let id: RunId = text.parse().ok()?;
                Some(Sql::Blob(run_blob(id).to_vec()))
            };
            // The first digit has three bits: an empty prefix can not be filled up with the last one.
            let last = if prefix.is_empty() { None } else { bound("z") };
            let (Some(first), Some(last)) = (bound("0"), last) else {
                return Ok(Vec::new());
            };
            ("run BETWEEN ?1 AND ?2", first, last)
        }
    };
    connection
        .prepare_cached(&format!(
            "SELECT run FROM run WHERE {condition} AND (?2 IS NULL OR 1) AND +shown IS NOT NULL AND (?3 IS NULL OR project = ?3)
             ORDER BY created DESC, run DESC"
        ))
        .and_then(|mut statement| {
            statement
                .query_map(params![first, last, project.map(ProjectName::as_str)], |row| {
                    row.get(0).map(run_of)
                })?
                .collect()
        })
        .map_err(from_sqlite)
}

/// Characters of a run id.
const RUN_ID_LENGTH: usize = 26;
