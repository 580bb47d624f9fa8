//! Series of launches: one question for all of them, however long the chain.

use std::collections::{HashMap, HashSet};

use runtree_core::lineage::AttemptId;
use runtree_core::{Error, Result, Timestamp, WriterId};
use rusqlite::params;

use super::keys::{to_json, writer_of};
use super::points;
use super::read::SqliteSnapshot;
use crate::query::SeriesFilter;
use crate::row::{SeriesId, SeriesRow, SeriesStats};

/// When writers opened their journals, and who they are.
fn precedences(
    snapshot: &SqliteSnapshot<'_>,
    writers: &HashSet<i64>,
) -> Result<HashMap<i64, (Timestamp, WriterId)>> {
    let found = snapshot.rows(
        "SELECT writer.id, opened, writer.writer FROM json_each(?1) AS wanted CROSS JOIN writer ON writer.id = wanted.value",
        [to_json(&writers)],
        |row| {
            let opened: Option<i64> = row.get(1)?;
            let precedence = (Timestamp(opened.unwrap_or(0)), writer_of(row.get(2)?));
            Ok((row.get(0)?, precedence))
        },
    )?;
    Ok(found.into_iter().collect())
}

/// Series of launches, by launch, metric, rank, precedence.
pub(super) fn list(snapshot: &SqliteSnapshot<'_>, filter: &SeriesFilter) -> Result<Vec<SeriesRow>> {
    let mut wanted: HashMap<i64, AttemptId> = HashMap::new();
    for &attempt in &filter.attempts {
        if let Some(row) = snapshot.row_of(attempt)? {
            wanted.insert(row, attempt);
        }
    }
    // One question for all launches; their rows travel as a JSON array.
    let rows = to_json(&wanted.keys().collect::<Vec<_>>());
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get::<_, i64>(0)?,
            SeriesId(row.get(1)?),
            row.get::<_, String>(2)?,
            row.get::<_, bool>(3)?,
            points::rank_of(row.get(4)?),
            row.get_ref(5)?.as_blob().map(SeriesStats::from_bytes)?,
            row.get::<_, i64>(6)?,
        ))
    };
    let mut found = Vec::new();
    if filter.metrics.is_empty() {
        found = snapshot.rows(
            "SELECT series.attempt_id, series.id, name.text, system, series.rank, stats, series.writer_id
             FROM json_each(?1) AS wanted CROSS JOIN series ON series.attempt_id = wanted.value
             JOIN name ON name.id = series.metric_id
             WHERE ?2 IS NULL OR system = ?2",
            params![&rows, filter.system],
            read,
        )?;
    }
    for metric in &filter.metrics {
        found.extend(snapshot.rows(
            "SELECT series.attempt_id, series.id, name.text, system, series.rank, stats, series.writer_id
             FROM name CROSS JOIN json_each(?1) AS wanted
             CROSS JOIN series ON series.attempt_id = wanted.value AND series.metric_id = name.id WHERE name.text = ?2 AND (?3 IS NULL OR system = ?3)",
            params![&rows, metric, filter.system],
            read,
        )?);
    }
    // Ten thousand series are of a handful of writers.
    let writers: HashSet<i64> = found.iter().map(|(.., writer)| *writer).collect();
    let writers = precedences(snapshot, &writers)?;
    let mut all = Vec::with_capacity(found.len());
    for (launch, id, metric, system, rank, stats, writer) in found {
        let stats = stats?;
        let precedence = *writers
            .get(&writer)
            .ok_or_else(|| Error::internal("a series has no writer"))?;
        all.push(SeriesRow {
            id,
            attempt: wanted[&launch],
            metric,
            system,
            rank,
            precedence,
            stats,
        });
    }
    all.sort_by(|a, b| {
        let key = |row: &SeriesRow| (row.system, row.rank, row.precedence);
        (a.attempt, &a.metric, key(a)).cmp(&(b.attempt, &b.metric, key(b)))
    });
    all.dedup_by_key(|row| row.id);
    Ok(all)
}
