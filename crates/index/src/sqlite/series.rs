//! Series of launches: one question for all of them, however long the chain.

use std::collections::HashMap;

use runtree_core::lineage::AttemptId;
use runtree_core::{Result, Timestamp};
use rusqlite::params;

use super::keys::{to_json, writer_of};
use super::points;
use super::read::SqliteSnapshot;
use crate::query::SeriesFilter;
use crate::row::{SeriesId, SeriesRow, SeriesStats};

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
        let opened: Option<i64> = row.get(6)?;
        Ok((
            row.get::<_, i64>(0)?,
            SeriesId(row.get(1)?),
            row.get::<_, String>(2)?,
            row.get::<_, bool>(3)?,
            points::rank_of(row.get(4)?),
            row.get::<_, Vec<u8>>(5)?,
            (Timestamp(opened.unwrap_or(0)), writer_of(row.get(7)?)),
        ))
    };
    let mut found = Vec::new();
    if filter.metrics.is_empty() {
        found = snapshot.rows(
            "SELECT series.attempt_id, series.id, name.text, system, series.rank, stats, writer.opened, writer.writer
             FROM json_each(?1) AS wanted CROSS JOIN series ON series.attempt_id = wanted.value
             JOIN name ON name.id = series.metric_id JOIN writer ON writer.id = series.writer_id",
            [&rows],
            read,
        )?;
    }
    for metric in &filter.metrics {
        found.extend(snapshot.rows(
            "SELECT series.attempt_id, series.id, name.text, system, series.rank, stats, writer.opened, writer.writer
             FROM name CROSS JOIN json_each(?1) AS wanted
             CROSS JOIN series ON series.attempt_id = wanted.value AND series.metric_id = name.id
             JOIN writer ON writer.id = series.writer_id WHERE name.text = ?2",
            params![&rows, metric],
            read,
        )?);
    }
    let mut all = Vec::with_capacity(found.len());
    for (launch, id, metric, system, rank, stats, precedence) in found {
        let stats = SeriesStats::from_bytes(&stats)?;
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
