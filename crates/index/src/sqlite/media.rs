//! Media and alerts: what launches logged besides numbers.

use runtree_core::event::Event;
use runtree_core::lineage::AttemptId;
use runtree_core::{AttemptNumber, Result, RunId, Step, Timestamp};
use rusqlite::params;

use super::fold::Fold;
use super::from_sqlite;
use super::keys::{find_attempt, find_name, from_json, run_blob, to_json};
use super::read::SqliteSnapshot;
use crate::query::{MediaQuery, StepSpan};
use crate::row::{AlertCount, AlertRow, MediaKeyRow, MediaRow};

/// The column of a rank.
fn rank_column(rank: Option<u32>) -> i64 {
    rank.map_or(-1, i64::from)
}

fn rank_of(column: i64) -> Option<u32> {
    u32::try_from(column).ok()
}

/// Folds a media event of a launch. `order`: when its writer opened, the writer, the frame.
pub(super) fn keep(
    fold: &mut Fold<'_>,
    attempt_id: i64,
    order: (Option<Timestamp>, i64, u64),
    event: &Event,
) -> Result<()> {
    let Event::Media {
        name,
        rank,
        step,
        at,
        kind,
        items,
    } = event
    else {
        return Ok(());
    };
    let name_id = fold.keys.name(fold.connection, name)?;
    fold.execute(
        "INSERT INTO media(attempt_id, name_id, rank, step, opened, writer, ordinal, at, kind, items)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(attempt_id, name_id, rank, step) DO UPDATE SET
           opened = excluded.opened, writer = excluded.writer, ordinal = excluded.ordinal,
           at = excluded.at, kind = excluded.kind, items = excluded.items
         WHERE (excluded.opened, excluded.writer, excluded.ordinal) >= (media.opened, media.writer, media.ordinal)",
        params![
            attempt_id,
            name_id,
            rank_column(*rank),
            step.0,
            order.0.map_or(i64::MIN, |opened| opened.0),
            order.1,
            order.2 as i64,
            at.0,
            kind.as_str(),
            to_json(items)
        ],
    )?;
    Ok(())
}

/// Names that a launch logged media under, within some steps, by name and rank.
pub(super) fn keys(
    snapshot: &SqliteSnapshot<'_>,
    attempt: AttemptId,
    span: StepSpan,
) -> Result<Vec<MediaKeyRow>> {
    let Some(attempt_id) = find_attempt(snapshot.connection(), attempt)? else {
        return Ok(Vec::new());
    };
    let rows = snapshot.rows(
        "SELECT name.text, found.rank, found.entries, found.first, found.last, media.kind FROM
           (SELECT name_id, rank, count(*) AS entries, min(step) AS first, max(step) AS last FROM media
            WHERE attempt_id = ?1 AND step BETWEEN ?2 AND ?3 GROUP BY name_id, rank) AS found
         JOIN name ON name.id = found.name_id
         JOIN media ON media.attempt_id = ?1 AND media.name_id = found.name_id AND media.rank = found.rank AND media.step = found.last
         ORDER BY name.text, found.rank",
        params![attempt_id, span.first.0, span.last.0],
        |row| {
            let kind: String = row.get(5)?;
            let key = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            Ok((key, kind))
        },
    )?;
    rows.into_iter()
        .map(
            |((name, rank, entries, first, last), kind): ((_, i64, i64, i64, i64), _)| {
                Ok(MediaKeyRow {
                    name,
                    rank: rank_of(rank),
                    entries: entries as u64,
                    first: Step(first),
                    last: Step(last),
                    kind: kind.parse()?,
                })
            },
        )
        .collect()
}

/// Steps at which a launch logged media, of one name or of any; ascending, each once.
pub(super) fn steps(
    snapshot: &SqliteSnapshot<'_>,
    attempt: AttemptId,
    span: StepSpan,
    name: Option<(&str, Option<u32>)>,
) -> Result<Vec<Step>> {
    let Some(attempt_id) = find_attempt(snapshot.connection(), attempt)? else {
        return Ok(Vec::new());
    };
    let step = |row: &rusqlite::Row<'_>| Ok(Step(row.get(0)?));
    let Some((name, rank)) = name else {
        return snapshot.rows(
            "SELECT DISTINCT step FROM media WHERE attempt_id = ?1 AND step BETWEEN ?2 AND ?3 ORDER BY step",
            params![attempt_id, span.first.0, span.last.0],
            step,
        );
    };
    let Some(name_id) = find_name(snapshot.connection(), name)? else {
        return Ok(Vec::new());
    };
    snapshot.rows(
        "SELECT step FROM media WHERE attempt_id = ?1 AND name_id = ?4 AND rank = ?5 AND step BETWEEN ?2 AND ?3 ORDER BY step",
        params![attempt_id, span.first.0, span.last.0, name_id, rank_column(rank)],
        step,
    )
}

/// Entries of one launch and name, by step.
pub(super) fn entries(snapshot: &SqliteSnapshot<'_>, query: &MediaQuery) -> Result<Vec<MediaRow>> {
    let connection = snapshot.connection();
    let (Some(attempt_id), Some(name_id)) = (
        find_attempt(connection, query.attempt)?,
        find_name(connection, &query.name)?,
    ) else {
        return Ok(Vec::new());
    };
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT step, at, kind, items FROM media
         WHERE attempt_id = ?1 AND name_id = ?2 AND rank = ?3 AND step BETWEEN ?4 AND ?5 ORDER BY step {order} LIMIT ?6"
    );
    let rows = snapshot.rows(
        &sql,
        params![
            attempt_id,
            name_id,
            rank_column(query.rank),
            query.span.first.0,
            query.span.last.0,
            query.limit
        ],
        |row| {
            let at = (Step(row.get(0)?), Timestamp(row.get(1)?));
            Ok((at, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
        },
    )?;
    rows.into_iter()
        .map(|((step, at), kind, items)| {
            Ok(MediaRow {
                attempt: query.attempt,
                step,
                at,
                kind: kind.parse()?,
                items: from_json(&items, "media items")?,
            })
        })
        .collect()
}

/// The newest alerts of a run, oldest first.
pub(super) fn alerts(
    snapshot: &SqliteSnapshot<'_>,
    run: RunId,
    limit: u32,
) -> Result<Vec<AlertRow>> {
    let rows = snapshot.rows(
        "SELECT alert.attempt, alert.rank, alert.step, level, title, text, at FROM run JOIN alert ON alert.run_id = run.id
         WHERE run.run = ?1 ORDER BY at DESC, writer DESC, ordinal DESC LIMIT ?2",
        params![run_blob(run), limit],
        |row| {
            let level: String = row.get(3)?;
            let alert = AlertRow {
                attempt: row.get::<_, Option<u32>>(0)?.map(AttemptNumber),
                rank: row.get(1)?,
                step: row.get::<_, Option<i64>>(2)?.map(Step),
                level: runtree_core::media::AlertLevel::default(),
                title: row.get(4)?,
                text: row.get(5)?,
                at: Timestamp(row.get(6)?),
            };
            Ok((alert, level))
        },
    )?;
    let mut alerts = rows
        .into_iter()
        .map(|(alert, level)| {
            Ok(AlertRow {
                level: level.parse()?,
                ..alert
            })
        })
        .collect::<Result<Vec<_>>>()?;
    alerts.reverse();
    Ok(alerts)
}

/// How many alerts a run has, and the worst of them.
pub(super) fn alert_count(snapshot: &SqliteSnapshot<'_>, run: RunId) -> Result<AlertCount> {
    let levels = snapshot
        .connection()
        .prepare_cached(
            "SELECT level, count(*) FROM run JOIN alert ON alert.run_id = run.id WHERE run.run = ?1 GROUP BY level",
        )
        .and_then(|mut statement| {
            statement
                .query_map([run_blob(run)], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(from_sqlite)?;
    let mut count = AlertCount::default();
    for (level, alerts) in levels {
        count.alerts += alerts as u64;
        count.worst = count.worst.max(Some(level.parse()?));
    }
    Ok(count)
}
