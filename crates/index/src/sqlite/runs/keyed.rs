//! Pages in the order of a metric, a config key or the status, walked along an index: of a hundred thousand runs that have a value only those
//! of the page are looked at.
//!
//! The order is that of sorting them all: numbers, then texts, then runs without a value; among equals the newest first.

use runtree_core::Result;
use runtree_core::event::RunStatus;
use runtree_core::filter::Summary;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};

use super::super::filter::status_is;
use super::super::from_sqlite;
use super::super::keys::find_name;
use super::Page;
use crate::query::{Liveness, Order, RunQuery, RunSort};

/// Whether there is an index that has runs in this order.
pub(super) fn is_keyed(sort: &RunSort) -> bool {
    matches!(
        sort,
        RunSort::Metric(..) | RunSort::Config(_) | RunSort::Status
    )
}

/// Runs that come one after another, before those of the next stretch.
struct Stretch {
    from: &'static str,
    having: String,
    /// The `?` of `having`.
    parameters: Vec<Sql>,
    order: String,
}

/// Ids of a page's runs.
pub(super) fn ids(connection: &Connection, query: &RunQuery, page: &Page<'_>) -> Result<Vec<i64>> {
    let key =
        |name| -> Result<Sql> { Ok(Sql::Integer(find_name(connection, name)?.unwrap_or(-1))) };
    let stretches = match &query.sort {
        RunSort::Metric(metric, summary) => by_metric(&key(metric)?, *summary, query.order),
        RunSort::Config(name) => by_config(&key(name)?, query.order),
        RunSort::Status => by_status(query.order, query.liveness),
        _ => return Ok(Vec::new()),
    };
    let (mut skip, mut found) = (page.offset, Vec::new());
    for stretch in stretches {
        let wanted = page.limit - found.len() as u64;
        let ids = stretch.ids(connection, page, skip, wanted)?;
        skip = if ids.is_empty() && skip > 0 {
            skip.saturating_sub(stretch.count(connection, page)?)
        } else {
            0
        };
        found.extend(ids);
        if found.len() as u64 == page.limit {
            break;
        }
    }
    Ok(found)
}

fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}

fn by_metric(key: &Sql, summary: Summary, order: Order) -> Vec<Stretch> {
    let column = match summary {
        Summary::Last => "value",
        Summary::Min => "min",
        Summary::Max => "max",
    };
    let of_key = format!("latest.metric_id = ? AND latest.{column} IS NOT NULL");
    vec![
        Stretch {
            // A cross join is worked off in the order it is written in.
            from: "latest CROSS JOIN run ON run.id = latest.run_id",
            order: format!("latest.{column} {}, ", direction(order)),
            having: of_key.clone(),
            parameters: vec![key.clone()],
        },
        Stretch {
            from: "run",
            order: String::new(),
            having: format!(
                "NOT EXISTS (SELECT 1 FROM latest WHERE latest.run_id = run.id AND {of_key})"
            ),
            parameters: vec![key.clone()],
        },
    ]
}

fn by_config(key: &Sql, order: Order) -> Vec<Stretch> {
    let direction = direction(order);
    let from = "config CROSS JOIN run ON run.id = config.run_id";
    vec![
        Stretch {
            from,
            order: format!("config.number {direction}, config.text {direction}, "),
            having: "config.key_id = ? AND config.number IS NOT NULL".to_owned(),
            parameters: vec![key.clone()],
        },
        Stretch {
            from,
            order: format!("config.text {direction}, "),
            having: "config.key_id = ? AND config.number IS NULL".to_owned(),
            parameters: vec![key.clone()],
        },
        Stretch {
            from: "run",
            order: String::new(),
            having: "NOT EXISTS (SELECT 1 FROM config WHERE config.run_id = run.id AND config.key_id = ?)".to_owned(),
            parameters: vec![key.clone()],
        },
    ]
}

/// What is running by the table is lost where nothing was heard of it for long.
fn by_status(order: Order, liveness: Liveness) -> Vec<Stretch> {
    let mut statuses = [
        RunStatus::Running,
        RunStatus::Completed,
        RunStatus::Failed,
        RunStatus::Stopped,
        RunStatus::Lost,
        RunStatus::Created,
    ]
    .map(RunStatus::as_str);
    statuses.sort_unstable();
    if order == Order::Descending {
        statuses.reverse();
    }
    let stretch = |status: &str| {
        let (having, parameter) = status_is(status, liveness);
        Stretch {
            from: "run",
            having: having.to_owned(),
            parameters: vec![parameter],
            order: String::new(),
        }
    };
    statuses.into_iter().map(stretch).collect()
}

impl Stretch {
    fn ids(
        &self,
        connection: &Connection,
        page: &Page<'_>,
        skip: u64,
        wanted: u64,
    ) -> Result<Vec<i64>> {
        let mut parameters = self.parameters.clone();
        parameters.extend_from_slice(page.filter);
        parameters.push(Sql::Integer(wanted as i64));
        parameters.push(Sql::Integer(skip as i64));
        let sql = format!(
            "SELECT run.id FROM {} WHERE {} AND {} ORDER BY {}run.created DESC, run.run DESC LIMIT ? OFFSET ?",
            self.from, self.having, page.condition, self.order
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement
                    .query_map(params_from_iter(&parameters), |row| row.get(0))?
                    .collect()
            })
            .map_err(from_sqlite)
    }

    fn count(&self, connection: &Connection, page: &Page<'_>) -> Result<u64> {
        let mut parameters = self.parameters.clone();
        parameters.extend_from_slice(page.filter);
        let sql = format!(
            "SELECT count(*) FROM {} WHERE {} AND {}",
            self.from, self.having, page.condition
        );
        connection
            .prepare_cached(&sql)
            .and_then(|mut statement| {
                statement.query_row(params_from_iter(&parameters), |row| row.get::<_, i64>(0))
            })
            .map(|count| count as u64)
            .map_err(from_sqlite)
    }
}
