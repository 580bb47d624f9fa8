//! Adding points to a series: the side that keeps the layout canonical.

use runtree_core::{Error, Result, Step};
use runtree_metrics::block::MAX_POINTS;
use runtree_metrics::{Block, Points};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::from_sqlite;
use super::{SeriesKey, TAIL_NUMBER, block, first_nonfinite, rank_column, row_id, summaries, tail};
use crate::row::{MetricPoint, SeriesStats};

/// Tail rows that are merged into one.
const MAX_TAIL_ROWS: u32 = 16;

struct Head {
    id: i64,
    stats: SeriesStats,
    closed: Option<SeriesStats>,
    blocks: u32,
    tail_rows: u32,
    tail_points: usize,
}

/// Adds ascending points, which win over what the series has at their steps.
pub(crate) fn append(connection: &Connection, key: &SeriesKey, new: &Points) -> Result<()> {
    let Some(added) = SeriesStats::of(new) else {
        return Ok(());
    };
    let Some(mut head) = head(connection, key)? else {
        return create(connection, key, new, added);
    };
    let follows = head.stats.last.step < added.first.step;
    if follows && head.tail_points + new.len() < MAX_POINTS && head.tail_rows < MAX_TAIL_ROWS {
        head.tail_rows += 1;
        head.tail_points += new.len();
        head.stats = head.stats.followed_by(&added);
        write_tail(connection, head.id, head.tail_rows, new)?;
        return write_head(connection, &head);
    }
    let mut tail = tail(connection, head.id)?;
    if head
        .closed
        .is_some_and(|closed| added.first.step <= closed.last.step)
    {
        let (displaced, above) = rewrite_blocks(connection, &head, new)?;
        tail = Points::merge(&Points::merge(&displaced, &tail), &above);
        head.closed = closed_stats(connection, head.id, head.blocks)?;
    } else {
        tail = Points::merge(&tail, new);
    }
    close(connection, &mut head, &tail)?;
    write_head(connection, &head)
}

fn create(
    connection: &Connection,
    key: &SeriesKey,
    new: &Points,
    stats: SeriesStats,
) -> Result<()> {
    let id = connection
        .prepare_cached(
            "INSERT INTO series(attempt_id, metric_id, system, rank, writer_id, stats, blocks, tail_rows, tail_points)
             VALUES (?1, ?2, ?3, ?4, ?5, x'', 0, 0, 0)",
        )
        .and_then(|mut statement| {
            statement.insert(params![
                key.attempt_id,
                key.metric_id,
                key.system,
                rank_column(key.rank),
                key.writer_id,
            ])
        })
        .map_err(from_sqlite)?;
    let mut head = Head {
        id,
        stats,
        closed: None,
        blocks: 0,
        tail_rows: 0,
        tail_points: 0,
    };
    close(connection, &mut head, new)?;
    write_head(connection, &head)
}

/// Turns the tail's points into full blocks and a packed rest.
fn close(connection: &Connection, head: &mut Head, tail: &Points) -> Result<()> {
    delete_tail(connection, head.id)?;
    let full = tail.len() / MAX_POINTS * MAX_POINTS;
    for start in (0..full).step_by(MAX_POINTS) {
        let points = tail.slice(start..start + MAX_POINTS);
        let stats = SeriesStats::of(&points).expect("BUG: a full block has points");
        write_block(connection, head.id, head.blocks, points)?;
        head.blocks += 1;
        head.closed = Some(
            head.closed
                .map_or(stats, |closed| closed.followed_by(&stats)),
        );
    }
    let rest = tail.slice(full..tail.len());
    head.tail_rows = 0;
    head.tail_points = rest.len();
    let rest_stats = SeriesStats::of(&rest);
    if rest_stats.is_some() {
        write_tail(connection, head.id, 0, &rest)?;
    }
    head.stats = match (head.closed, rest_stats) {
        (Some(closed), Some(rest)) => closed.followed_by(&rest),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return Err(Error::internal("a series lost all its points in a fold")),
    };
    Ok(())
}

/// Merges `new` into full blocks. Returns the points pushed out of the last block, and those of `new` that lie above all blocks.
fn rewrite_blocks(connection: &Connection, head: &Head, new: &Points) -> Result<(Points, Points)> {
    let blocks = block_spans(connection, head.id)?;
    let mut displaced = Points::new();
    let mut taken = 0;
    for (number, &(_, last)) in blocks.iter().enumerate() {
        // Points in the gap behind a block go into that block, unless it is the last: those belong to the tail.
        let end = match blocks.get(number + 1) {
            Some(&(next_first, _)) => new.steps().partition_point(|&step| step < next_first),
            None => new.steps().partition_point(|&step| step <= last),
        };
        if taken == end && displaced.is_empty() {
            continue;
        }
        let number = number as u32;
        let old = block(connection, head.id, number)?;
        let merged = Points::merge(&Points::merge(&displaced, &old), &new.slice(taken..end));
        taken = end;
        displaced = merged.slice(MAX_POINTS..merged.len());
        write_block(connection, head.id, number, merged.slice(0..MAX_POINTS))?;
    }
    Ok((displaced, new.slice(taken..new.len())))
}

fn head(connection: &Connection, key: &SeriesKey) -> Result<Option<Head>> {
    let found = connection
        .prepare_cached(
            "SELECT id, stats, closed, blocks, tail_rows, tail_points FROM series
             WHERE attempt_id = ?1 AND metric_id = ?2 AND system = ?3 AND rank = ?4 AND writer_id = ?5",
        )
        .and_then(|mut statement| {
            statement
                .query_row(
                    params![
                        key.attempt_id,
                        key.metric_id,
                        key.system,
                        rank_column(key.rank),
                        key.writer_id
                    ],
                    |row| {
                        Ok((
                            row.get(0)?,
                            row.get::<_, Vec<u8>>(1)?,
                            row.get::<_, Option<Vec<u8>>>(2)?,
                            row.get(3)?,
                            row.get(4)?,
                            row.get::<_, i64>(5)?,
                        ))
                    },
                )
                .optional()
        })
        .map_err(from_sqlite)?;
    let Some((id, stats, closed, blocks, tail_rows, tail_points)) = found else {
        return Ok(None);
    };
    Ok(Some(Head {
        id,
        stats: SeriesStats::from_bytes(&stats)?,
        closed: closed.as_deref().map(SeriesStats::from_bytes).transpose()?,
        blocks,
        tail_rows,
        tail_points: tail_points as usize,
    }))
}

fn write_head(connection: &Connection, head: &Head) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE series SET stats = ?2, closed = ?3, blocks = ?4, tail_rows = ?5, tail_points = ?6 WHERE id = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                head.id,
                head.stats.to_bytes(),
                head.closed.map(SeriesStats::to_bytes),
                head.blocks,
                head.tail_rows,
                head.tail_points as i64
            ])
        })
        .map_err(from_sqlite)?;
    Ok(())
}

fn write_block(connection: &Connection, series: i64, number: u32, points: Points) -> Result<()> {
    if number >= TAIL_NUMBER {
        return Err(Error::unsupported(format!(
            "a series has more than {} points",
            MAX_POINTS as u64 * u64::from(TAIL_NUMBER)
        )));
    }
    let (Some(&first), Some(&last)) = (points.steps().first(), points.steps().last()) else {
        return Ok(());
    };
    let block = Block::new(points).expect("BUG: cut to the size of a block");
    let id = row_id(series, number);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO block_summary(id, first, last, summary) VALUES (?1, ?2, ?3, ?4)",
        )
        .and_then(|mut statement| {
            statement.execute(params![id, first, last, block.summaries().encode()])
        })
        .and_then(|_| connection.prepare_cached("INSERT OR REPLACE INTO block(id, payload) VALUES (?1, ?2)"))
        .and_then(|mut statement| statement.execute(params![id, block.encode()]))
        .map_err(from_sqlite)?;
    Ok(())
}

fn write_tail(connection: &Connection, series: i64, number: u32, points: &Points) -> Result<()> {
    let block = Block::new(points.clone()).expect("BUG: a tail is smaller than a block");
    connection
        .prepare_cached("INSERT INTO tail(id, payload) VALUES (?1, ?2)")
        .and_then(|mut statement| {
            statement.execute(params![row_id(series, number), block.encode()])
        })
        .map_err(from_sqlite)?;
    Ok(())
}

fn delete_tail(connection: &Connection, series: i64) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM tail WHERE id >= ?1 AND id < ?2")
        .and_then(|mut statement| statement.execute([row_id(series, 0), row_id(series + 1, 0)]))
        .map_err(from_sqlite)?;
    Ok(())
}

/// What full blocks hold as a whole.
fn closed_stats(connection: &Connection, series: i64, blocks: u32) -> Result<Option<SeriesStats>> {
    let mut whole: Option<SeriesStats> = None;
    for number in 0..blocks {
        let total = summaries(connection, series, number)?.total();
        // Where exactly the first NaN is stands in the payload alone; only the first block that has one is asked.
        let known = whole.is_some_and(|whole| whole.first_nonfinite.is_some());
        let first_nonfinite = if total.nonfinite > 0 && !known {
            first_nonfinite(&block(connection, series, number)?, Step::MIN)
        } else {
            None
        };
        let point = |step, value: f64| MetricPoint { step, value };
        let finite = |step, value: f64| (!value.is_nan()).then(|| point(step, value));
        let stats = SeriesStats {
            points: u64::from(total.n),
            nonfinite: u64::from(total.nonfinite),
            first: point(total.step_first, total.first),
            last: point(total.step_last, total.last),
            min: finite(total.min_step, total.min),
            max: finite(total.max_step, total.max),
            first_nonfinite,
            first_time: total.time_min,
            last_time: total.time_max,
        };
        whole = Some(whole.map_or(stats, |whole| whole.followed_by(&stats)));
    }
    Ok(whole)
}

/// First and last steps of all full blocks, ascending.
fn block_spans(connection: &Connection, series: i64) -> Result<Vec<(i64, i64)>> {
    connection
        .prepare_cached(
            "SELECT first, last FROM block_summary WHERE id >= ?1 AND id < ?2 ORDER BY id",
        )
        .and_then(|mut statement| {
            statement
                .query_map([row_id(series, 0), row_id(series + 1, 0)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?
                .collect()
        })
        .map_err(from_sqlite)
}
