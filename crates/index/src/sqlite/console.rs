//! A run's console, page by page.

use runtree_core::{AttemptNumber, Error, Result, Timestamp, console};
use rusqlite::params;

use super::from_sqlite;
use super::keys::{find_run, from_json, writer_of};
use super::read::SqliteSnapshot;
use crate::query::ConsoleQuery;
use crate::row::{ConsoleRow, ConsoleSlice};

/// Lines by (launch, time, writer, order of printing).
pub(super) fn page(snapshot: &SqliteSnapshot<'_>, query: &ConsoleQuery) -> Result<ConsoleSlice> {
    let Some(run_id) = find_run(snapshot.connection(), query.run)? else {
        return Ok(ConsoleSlice {
            lines: Vec::new(),
            next_cursor: query.cursor.clone(),
        });
    };
    // Place of a frame: launch, time, writer, ordinal; then lines of it that were shown.
    let mut place = [0, i64::MIN, i64::MIN, 0, 0];
    if let Some(cursor) = &query.cursor {
        let fields: Vec<i64> = cursor
            .split(':')
            .map_while(|field| field.parse().ok())
            .collect();
        place = fields
            .try_into()
            .ok()
            .filter(|place: &[i64; 5]| place[4] >= 0)
            .ok_or_else(|| Error::invalid(format!("{cursor:?} is not a console cursor")))?;
    }
    let filter = &query.filter;
    let needle = filter.search.as_deref().map(str::to_lowercase);
    let mut lines = Vec::new();
    let mut reached = query.cursor.is_some();
    let mut statement = snapshot
        .connection()
        .prepare_cached(
            "SELECT console.attempt, at, console.writer, console.ordinal, stream, lines, coalesce(writer.rank, 0) FROM console
             LEFT JOIN writer ON writer.run_id = ?1 AND writer.writer = console.writer
             WHERE console.run_id = ?1 AND (console.attempt, at, console.writer, console.ordinal) >= (?2, ?3, ?4, ?5)
               AND (?6 IS NULL OR console.attempt = ?6) AND (?7 IS NULL OR coalesce(writer.rank, 0) = ?7)
             ORDER BY console.attempt, at, console.writer, console.ordinal",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement
        .query(params![
            run_id,
            place[0],
            place[1],
            place[2],
            place[3],
            filter.attempt.map(|attempt| attempt.0),
            filter.rank
        ])
        .map_err(from_sqlite)?;
    while lines.len() < query.limit as usize {
        let Some(row) = rows.next().map_err(from_sqlite)? else {
            break;
        };
        let read = || -> rusqlite::Result<_> {
            let frame = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let texts = (row.get::<_, String>(4)?, row.get::<_, String>(5)?);
            Ok((frame, texts, row.get(6)?))
        };
        let (frame, (stream, text), rank) = read().map_err(from_sqlite)?;
        let frame_lines: Vec<String> = from_json(&text, "console lines")?;
        let levels = console::levels_of(frame_lines.iter().map(String::as_str));
        let skip = if reached && frame == place[..4] {
            place[4] as usize
        } else {
            0
        };
        reached = true;
        let mut shown = skip.max(frame_lines.len());
        for (at, (text, level)) in frame_lines.into_iter().zip(levels).enumerate().skip(skip) {
            if lines.len() == query.limit as usize {
                shown = at;
                break;
            }
            let is_wanted = filter.level.is_none_or(|least| level >= Some(least))
                && needle
                    .as_ref()
                    .is_none_or(|needle| text.to_lowercase().contains(needle));
            if !is_wanted {
                continue;
            }
            lines.push(ConsoleRow {
                attempt: u32::try_from(frame[0])
                    .ok()
                    .filter(|&attempt| attempt > 0)
                    .map(AttemptNumber),
                writer: writer_of(frame[2]),
                stream: stream.clone(),
                at: Timestamp(frame[1]),
                rank,
                level,
                text,
            });
        }
        place = [frame[0], frame[1], frame[2], frame[3], shown as i64];
    }
    Ok(ConsoleSlice {
        lines,
        next_cursor: reached.then(|| place.map(|field| field.to_string()).join(":")),
    })
}
