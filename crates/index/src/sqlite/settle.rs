//! What follows from the facts, brought up to date for what changed.
//!
//! Folds leave marks (`dirty_attempt` with the lowest step that changed, `dirty_run`); before a snapshot is taken they are worked
//! off in one transaction. Putting it off makes a reindex linear: a root whose points arrive in a thousand batches renews its
//! ten thousand descendants once. The result is a function of the facts alone, so the order of folding leaves no trace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runtree_core::event::RunStatus;
use runtree_core::manifest::RunRecord;
use runtree_core::{AttemptNumber, Result, Step, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::fields::{StatusColumn, kind};
use super::from_sqlite;
use super::keys::{Keys, from_json, run_blob, to_json};
use super::latest::{self, Effective};
use super::status::{self, Process, Word};

mod config;
mod renew;

use config::{config, config_columns, config_leaves, search_text};
use renew::renew;

/// Whether nothing is left to do.
pub(super) fn is_settled(connection: &Connection) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM dirty_run) AND NOT EXISTS (SELECT 1 FROM dirty_attempt)",
        )
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(from_sqlite)
}

/// Works off every mark.
pub(super) fn settle(connection: &rusqlite::Transaction<'_>) -> Result<()> {
    let marked: HashMap<i64, Step> = rows(
        connection,
        "SELECT attempt_id, from_step FROM dirty_attempt",
        |row| Ok((row.get(0)?, Step(row.get(1)?))),
    )?
    .into_iter()
    .collect();
    let mut runs: BTreeSet<i64> =
        rows(connection, "SELECT run_id FROM dirty_run", |row| row.get(0))?
            .into_iter()
            .collect();
    let mut keys = Keys::default();
    renew(connection, &mut keys, &marked, &mut runs)?;
    for run in runs {
        settle_run(connection, &mut keys, run)?;
    }
    connection
        .execute_batch("DELETE FROM dirty_attempt; DELETE FROM dirty_run")
        .map_err(from_sqlite)
}

/// Derives the rows of one run.
fn settle_run(connection: &Connection, keys: &mut Keys, run_id: i64) -> Result<()> {
    let found = connection
        .prepare_cached("SELECT record, tags, config FROM detail WHERE run_id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([run_id], |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, Option<String>>(1)?,
                        row.get::<_, Option<String>>(2)?,
                    ))
                })
                .optional()
        })
        .map_err(from_sqlite)?;
    // Mentioned, but its birth record is not folded: nothing shows it.
    let Some((record, old_tags, old_config)) = found else {
        return Ok(());
    };
    let record: RunRecord = from_json(&record, "a run's record")?;
    let fields = Fields::load(connection, run_id)?;
    let name = fields.name.clone().unwrap_or_else(|| record.name.clone());
    let notes = fields
        .notes
        .clone()
        .or_else(|| record.notes.clone())
        .filter(|notes| !notes.is_empty());
    let tags = fields.tags(&record);
    let config = config(connection, run_id, &record)?;

    let Newest {
        number: newest,
        launched,
        waits,
        launch,
    } = newest_attempt(connection, run_id, &record)?;
    let (processes, lamport) = processes(connection, run_id)?;
    let last_activity = processes
        .iter()
        .filter_map(|process| process.alive)
        .fold(launched.max(record.created), Timestamp::max);
    let deleted = fields.deleted;
    let standing = status::standing(newest, launched, waits, fields.words, &processes);

    let history = match launch {
        Some(launch) => Some(latest::effective(connection, keys, launch, Step::MAX)?),
        None => None,
    };
    let empty = BTreeMap::new();
    let metrics = history.as_ref().map_or(&empty, |history| &history.metrics);
    let last_step = metrics.values().map(|latest| latest.point.step).max();
    let nonfinite = history
        .as_ref()
        .map(|history| nonfinite(connection, history))
        .transpose()?
        .flatten();
    let last_good = match (&nonfinite, launch) {
        (Some((step, _)), Some(launch)) => {
            latest::last_checkpoint_before(connection, launch, *step)?
        }
        _ => None,
    };
    write_latest(connection, run_id, metrics)?;

    let execute = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(from_sqlite)
    };
    let tags_text = to_json(&tags);
    let config_text = to_json(&config);
    let root = history.as_ref().map_or(record.run, |history| history.root);
    execute(
        "UPDATE run SET shown = ?2, name = ?3, folded_name = ?4, status = ?5, sign = ?6, last_activity = ?7, last_step = ?8,
           attempt = ?9, root = ?10 WHERE id = ?1",
        params![
            run_id,
            i64::from(deleted),
            name,
            name.to_lowercase(),
            status_column(standing.status),
            standing.sign.0,
            last_activity.0,
            last_step.map(|step| step.0),
            newest.0,
            run_blob(root),
        ],
    )?;
    execute(
        "UPDATE detail SET notes = ?2, tags = ?3, config = ?4, reason = ?5, checkpoints = ?6, nonfinite_metric = ?7,
           nonfinite_step = ?8, last_good = ?9, lamport = ?10 WHERE run_id = ?1",
        params![
            run_id,
            notes,
            tags_text,
            config_text,
            standing.reason,
            history.as_ref().map_or(0, |history| history.checkpoints as i64),
            nonfinite.as_ref().map(|(_, metric)| metric),
            nonfinite.as_ref().map(|(step, _)| step.0),
            last_good.map(|step| step.0),
            lamport as i64,
        ],
    )?;
    if old_tags.as_deref() != Some(&tags_text) {
        execute("DELETE FROM tag WHERE run_id = ?1", &[&run_id])?;
        for tag in &tags {
            execute("INSERT OR IGNORE INTO tag VALUES (?1, ?2)", &[tag, &run_id])?;
        }
    }
    let leaves = config_leaves(&config);
    if old_config.as_deref() != Some(&config_text) {
        execute("DELETE FROM config WHERE run_id = ?1", &[&run_id])?;
        for (key, value) in &leaves {
            let key = keys.name(connection, key)?;
            let (number, text) = config_columns(value);
            execute(
                "INSERT OR REPLACE INTO config VALUES (?1, ?2, ?3, ?4)",
                params![run_id, key, number, text],
            )?;
        }
    }
    let search = search_text(&record, &name, notes.as_deref(), &tags, &leaves);
    execute(
        "INSERT INTO search VALUES (?1, ?2) ON CONFLICT DO UPDATE SET text = excluded.text WHERE text <> excluded.text",
        params![run_id, search],
    )?;
    Ok(())
}

/// Column of a status; its text sorts alphabetically.
pub(super) fn status_column(status: RunStatus) -> &'static str {
    status.as_str()
}

/// What the winning rows of `field` say of a run.
struct Fields {
    name: Option<String>,
    notes: Option<String>,
    /// Tags added or removed after birth.
    tags: BTreeMap<String, bool>,
    words: Vec<Word>,
    deleted: bool,
}

/// The launch that a status field is about.
fn launch_of(key: &str) -> Option<AttemptNumber> {
    let (number, _) = key.split_once(' ')?;
    number.parse().ok().map(AttemptNumber)
}

impl Fields {
    fn load(connection: &Connection, run_id: i64) -> Result<Self> {
        let mut fields = Self {
            name: None,
            notes: None,
            tags: BTreeMap::new(),
            words: Vec::new(),
            deleted: false,
        };
        let mut statement = connection
            .prepare_cached(
                "SELECT kind, key, value FROM field WHERE run_id = ?1 AND kind <= 4 ORDER BY lamport, writer, ordinal",
            )
            .map_err(from_sqlite)?;
        let mut found = statement.query([run_id]).map_err(from_sqlite)?;
        while let Some(row) = found.next().map_err(from_sqlite)? {
            let read = || -> rusqlite::Result<(i64, String, String)> {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            };
            let (kind, key, value) = read().map_err(from_sqlite)?;
            match kind {
                kind::NAME => fields.name = Some(value),
                kind::NOTES => fields.notes = Some(value),
                kind::TAG => {
                    fields.tags.insert(key, value == "1");
                }
                kind::DELETED => fields.deleted = value == "1",
                _ => {
                    let column: StatusColumn = from_json(&value, "a status")?;
                    fields.words.push(Word {
                        attempt: launch_of(&key),
                        column,
                    });
                }
            }
        }
        Ok(fields)
    }

    /// Tags at birth that were not removed, in their order, then the added ones, sorted.
    fn tags(&self, record: &RunRecord) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for tag in &record.tags {
            if self.tags.get(tag) != Some(&false) && !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        for (tag, &added) in &self.tags {
            if added && !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        tags
    }
}

/// The newest launch of a run.
struct Newest {
    number: AttemptNumber,
    /// When it was made.
    launched: Timestamp,
    /// Whether it may have been made long before a process takes it up.
    waits: bool,
    /// Its row.
    launch: Option<i64>,
}

/// The newest launch that has a record. Without one, launch 1 as the birth record implies it.
fn newest_attempt(connection: &Connection, run_id: i64, record: &RunRecord) -> Result<Newest> {
    let found = connection
        .prepare_cached(
            "SELECT number, created, id, coalesce(json_extract(record, '$.kind') <> 'resume', 1)
             FROM attempt WHERE run_id = ?1 AND (record IS NOT NULL OR number = 1)
             ORDER BY number DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([run_id], |row| {
                    Ok(Newest {
                        number: AttemptNumber(row.get(0)?),
                        launched: row
                            .get::<_, Option<i64>>(1)?
                            .map_or(record.created, Timestamp),
                        waits: row.get(3)?,
                        launch: Some(row.get(2)?),
                    })
                })
                .optional()
        })
        .map_err(from_sqlite)?;
    Ok(found.unwrap_or(Newest {
        number: AttemptNumber::FIRST,
        launched: record.created,
        waits: true,
        launch: None,
    }))
}

/// Processes of launches, and the largest Lamport count of all writers.
fn processes(connection: &Connection, run_id: i64) -> Result<(Vec<Process>, u64)> {
    let writers = rows_with(
        connection,
        "SELECT attempt, alive, closed IS NOT NULL, lamport FROM writer WHERE run_id = ?1",
        run_id,
        |row| {
            Ok((
                row.get::<_, Option<u32>>(0)?.map(AttemptNumber),
                row.get::<_, Option<i64>>(1)?.map(Timestamp),
                row.get::<_, bool>(2)?,
                row.get::<_, i64>(3)? as u64,
            ))
        },
    )?;
    let lamport = writers.iter().map(|writer| writer.3).max().unwrap_or(0);
    let processes = writers
        .into_iter()
        .filter_map(|(attempt, alive, is_closed, _)| {
            Some(Process {
                attempt: attempt?,
                alive,
                is_closed,
            })
        })
        .collect();
    Ok((processes, lamport))
}

fn nonfinite(connection: &Connection, history: &Effective) -> Result<Option<(Step, String)>> {
    let mut names = HashMap::new();
    for (&id, latest) in &history.metrics {
        if latest.first_nonfinite.is_none() {
            continue;
        }
        let name: String = connection
            .prepare_cached("SELECT text FROM name WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([id], |row| row.get(0)))
            .map_err(from_sqlite)?;
        names.insert(id, name);
    }
    Ok(history.first_nonfinite(&names))
}

/// Smallest value and its step, largest value and its step.
type ExtremeColumns = (Option<f64>, Option<i64>, Option<f64>, Option<i64>);

/// Last step, its value unless it is NaN, and the extremes.
type LatestColumns = (i64, Option<f64>, ExtremeColumns);

fn latest_columns(latest: &latest::Latest) -> LatestColumns {
    let extremes = latest.extremes();
    (
        latest.point.step.0,
        Some(latest.point.value).filter(|value| !value.is_nan()),
        (
            extremes.min.map(|point| point.value),
            extremes.min.map(|point| point.step.0),
            extremes.max.map(|point| point.value),
            extremes.max.map(|point| point.step.0),
        ),
    )
}

/// Whether nothing changed; values are compared by their bits.
fn is_same(a: LatestColumns, b: LatestColumns) -> bool {
    let bits = |(step, value, (min, min_step, max, max_step)): LatestColumns| {
        let [value, min, max] = [value, min, max].map(|value| value.map(f64::to_bits));
        (step, value, min, min_step, max, max_step)
    };
    bits(a) == bits(b)
}

/// Writes only what changed: of a live run's hundred metrics most do, of a tagged run's none.
fn write_latest(
    connection: &Connection,
    run_id: i64,
    metrics: &BTreeMap<i64, latest::Latest>,
) -> Result<()> {
    let old = rows_with(
        connection,
        "SELECT metric_id, step, value, min, min_step, max, max_step FROM latest WHERE run_id = ?1",
        run_id,
        |row| {
            let extreme = (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?);
            Ok((row.get::<_, i64>(0)?, (row.get(1)?, row.get(2)?, extreme)))
        },
    )?;
    let mut old: HashMap<i64, LatestColumns> = old.into_iter().collect();
    for (&id, latest) in metrics {
        let now = latest_columns(latest);
        if old.remove(&id).is_some_and(|before| is_same(before, now)) {
            continue;
        }
        let (step, value, (min, min_step, max, max_step)) = now;
        connection
            .prepare_cached("INSERT OR REPLACE INTO latest VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
            .and_then(|mut statement| {
                statement.execute(params![
                    run_id, id, step, value, min, min_step, max, max_step
                ])
            })
            .map_err(from_sqlite)?;
    }
    for id in old.into_keys() {
        connection
            .prepare_cached("DELETE FROM latest WHERE run_id = ?1 AND metric_id = ?2")
            .and_then(|mut statement| statement.execute([run_id, id]))
            .map_err(from_sqlite)?;
    }
    Ok(())
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([], read)?.collect())
        .map_err(from_sqlite)
}

fn rows_with<T>(
    connection: &Connection,
    sql: &str,
    run_id: i64,
    read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_map([run_id], read)?.collect())
        .map_err(from_sqlite)
}
