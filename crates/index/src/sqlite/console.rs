//! A run's console, page by page.

use runtree_core::{AttemptNumber, Error, Result, Timestamp};
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
    let mut lines = Vec::new();
    let mut reached = query.cursor.is_some();
    let mut statement = snapshot
        .connection()
        .prepare_cached(
            "SELECT attempt, at, writer, ordinal, stream, lines FROM console
             WHERE run_id = ?1 AND (attempt, at, writer, ordinal) >= (?2, ?3, ?4, ?5) ORDER BY attempt, at, writer, ordinal",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement
        .query(params![run_id, place[0], place[1], place[2], place[3]])
        .map_err(from_sqlite)?;
    while lines.len() < query.limit as usize {
        let Some(row) = rows.next().map_err(from_sqlite)? else {
            break;
        };
        let read = || -> rusqlite::Result<_> {
            let frame = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            Ok((frame, row.get::<_, String>(4)?, row.get::<_, String>(5)?))
        };
        let (frame, stream, text) = read().map_err(from_sqlite)?;
        let frame_lines: Vec<String> = from_json(&text, "console lines")?;
        let skip = if reached && frame == place[..4] {
            place[4] as usize
        } else {
            0
        };
        reached = true;
        let room = query.limit as usize - lines.len();
        let shown = frame_lines.len().min(skip + room);
        for text in frame_lines.into_iter().take(shown).skip(skip) {
            lines.push(ConsoleRow {
                attempt: u32::try_from(frame[0])
                    .ok()
                    .filter(|&attempt| attempt > 0)
                    .map(AttemptNumber),
                writer: writer_of(frame[2]),
                stream: stream.clone(),
                at: Timestamp(frame[1]),
                text,
            });
        }
        place = [
            frame[0],
            frame[1],
            frame[2],
            frame[3],
            shown.max(skip) as i64,
        ];
    }
    Ok(ConsoleSlice {
        lines,
        next_cursor: reached.then(|| place.map(|field| field.to_string()).join(":")),
    })
}
