//! Points of one series in rows: full blocks, then a tail.
//!
//! The layout is canonical: block `i` holds the points `4096 i .. 4096 (i + 1)` in order of steps, the tail what is left, whatever
//! the batching. So everything that is computed per block or sub-block (bucket edges, sums of floats) is the same after a
//! reindex. The price is paid by who logs into the past: a *new* step below full blocks shifts every later one by a point. A
//! step logged *again* rewrites its block alone.
//!
//! Only how the tail is spread over rows depends on folding: row 0 is the packed rest of the last merge, rows 1 to 16 are what
//! later folds appended, in order. Nobody sees that: a tail is read whole.

use runtree_core::{Error, Result, Step};
use runtree_metrics::{Block, Point, Points, StoredBlock, Summaries, Times};
use rusqlite::{Connection, OptionalExtension as _};

use super::from_sqlite;
use crate::query::StepSpan;
use crate::row::{Extremes, MetricPoint, SeriesStats};

mod append;
pub(super) use append::append;

/// Bits of a row number that count blocks or tail rows inside a series: 2^20 blocks are 4 billion points.
const NUMBER_BITS: u32 = 20;

/// What makes a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SeriesKey {
    pub(super) attempt_id: i64,
    pub(super) writer_id: i64,
    pub(super) metric_id: i64,
    pub(super) system: bool,
    pub(super) rank: Option<u32>,
}

/// Number that stands for a series' whole tail among its blocks.
const TAIL_NUMBER: u32 = (1 << NUMBER_BITS) - 1;

/// Row number of a block or tail row.
fn row_id(series: i64, number: u32) -> i64 {
    (series << NUMBER_BITS) + i64::from(number)
}

fn summaries(connection: &Connection, series: i64, number: u32) -> Result<Summaries> {
    let bytes: Vec<u8> = connection
        .prepare_cached("SELECT summary FROM block_summary WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([row_id(series, number)], |row| row.get(0)))
        .map_err(from_sqlite)?;
    Summaries::decode(&bytes)
}

/// The points of a full block.
pub(super) fn block(connection: &Connection, series: i64, number: u32) -> Result<Points> {
    payload(connection, series, number, Block::decode).map(Block::into_points)
}

/// When the points of a full block were logged.
pub(super) fn block_times(connection: &Connection, series: i64, number: u32) -> Result<Times> {
    payload(connection, series, number, Block::decode_times)
}

fn payload<T>(
    connection: &Connection,
    series: i64,
    number: u32,
    decode: impl Fn(&[u8]) -> Result<T>,
) -> Result<T> {
    connection
        .prepare_cached("SELECT payload FROM block WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([row_id(series, number)], |row| {
                    Ok(decode(row.get_ref(0)?.as_blob()?))
                })
                .optional()
        })
        .map_err(from_sqlite)?
        .unwrap_or_else(|| {
            Err(Error::not_found(format!(
                "the series has no block {number}"
            )))
        })
}

/// The points after the last full block.
pub(super) fn tail(connection: &Connection, series: i64) -> Result<Points> {
    let mut statement = connection
        .prepare_cached("SELECT payload FROM tail WHERE id >= ?1 AND id < ?2 ORDER BY id")
        .map_err(from_sqlite)?;
    let mut rows = statement
        .query([row_id(series, 0), row_id(series + 1, 0)])
        .map_err(from_sqlite)?;
    let mut rest: Vec<Points> = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        let payload = row.get_ref(0).map_err(from_sqlite)?;
        let payload = payload
            .as_blob()
            .map_err(|error| Error::corrupt("a tail in the index is no blob").with_source(error))?;
        rest.push(Block::decode(payload)?.into_points());
    }
    if rest.len() == 1 {
        return Ok(rest.swap_remove(0));
    }
    Ok(Points::from_arrival(rest.iter().flat_map(Points::iter)))
}

/// Full blocks that meet a span.
pub(super) fn full_blocks(
    connection: &Connection,
    series: i64,
    span: StepSpan,
) -> Result<Vec<StoredBlock>> {
    let found: Vec<(i64, Result<Summaries>)> = connection
        .prepare_cached(
            "SELECT id, summary FROM block_summary WHERE id >= ?1 AND id < ?2 AND last >= ?3 AND first <= ?4 ORDER BY id",
        )
        .and_then(|mut statement| {
            statement
                .query_map(
                    [row_id(series, 0), row_id(series + 1, 0), span.first.0, span.last.0],
                    |row| Ok((row.get(0)?, Summaries::decode(row.get_ref(1)?.as_blob()?))),
                )?
                .collect()
        })
        .map_err(from_sqlite)?;
    let stored = |(id, summaries): (i64, Result<Summaries>)| {
        Ok(StoredBlock {
            id: id as u64,
            summaries: summaries?,
        })
    };
    found.into_iter().map(stored).collect()
}

/// A tail as a block, if it meets a span.
pub(super) fn tail_block(series: i64, tail: Points, span: StepSpan) -> Option<StoredBlock> {
    let summaries = Block::new(tail)?.summaries();
    let total = summaries.total();
    let meets = total.step_last >= span.first && total.step_first <= span.last;
    meets.then(|| StoredBlock {
        id: row_id(series, TAIL_NUMBER) as u64,
        summaries,
    })
}

/// What the id of a [`StoredBlock`] names.
pub(super) enum Place {
    /// The tail of a series.
    Tail(i64),
    /// A full block: series and number.
    Block(i64, u32),
}

/// What an id names.
pub(super) fn place(id: u64) -> Place {
    let series = (id >> NUMBER_BITS) as i64;
    match id as u32 & TAIL_NUMBER {
        TAIL_NUMBER => Place::Tail(series),
        number => Place::Block(series, number),
    }
}

/// The last point at or before a step.
pub(super) fn last_at_or_before(
    connection: &Connection,
    series: i64,
    stats: &SeriesStats,
    step: Step,
) -> Result<Option<MetricPoint>> {
    if step >= stats.last.step {
        return Ok(Some(stats.last));
    }
    if step < stats.first.step {
        return Ok(None);
    }
    let find = |points: &Points| {
        let end = points.steps().partition_point(|&other| other <= step.0);
        end.checked_sub(1)
            .and_then(|index| points.get(index))
            .map(metric_point)
    };
    if let Some(point) = find(&tail(connection, series)?) {
        return Ok(Some(point));
    }
    match block_at(connection, series, step)? {
        Some(number) => Ok(find(&block(connection, series, number)?)),
        None => Ok(None),
    }
}

/// The point at exactly a step.
pub(super) fn at(
    connection: &Connection,
    series: i64,
    stats: &SeriesStats,
    step: Step,
) -> Result<Option<MetricPoint>> {
    Ok(last_at_or_before(connection, series, stats, step)?.filter(|point| point.step == step))
}

/// The first step in `first..=last` whose value is not finite.
pub(super) fn first_nonfinite_in(
    connection: &Connection,
    series: i64,
    stats: &SeriesStats,
    first: Step,
    last: Step,
) -> Result<Option<Step>> {
    let Some(earliest) = stats.first_nonfinite.filter(|&step| step <= last) else {
        return Ok(None);
    };
    if earliest >= first {
        return Ok(Some(earliest));
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT id, summary FROM block_summary WHERE id >= ?1 AND id < ?2 AND last >= ?3 AND first <= ?4 ORDER BY id",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement
        .query([row_id(series, 0), row_id(series + 1, 0), first.0, last.0])
        .map_err(from_sqlite)?;
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        let id: i64 = row.get(0).map_err(from_sqlite)?;
        let bytes: Vec<u8> = row.get(1).map_err(from_sqlite)?;
        if Summaries::decode(&bytes)?.total().nonfinite == 0 {
            continue;
        }
        let number = (id - row_id(series, 0)) as u32;
        let points = block(connection, series, number)?;
        if let Some(step) = first_nonfinite(&points, first) {
            return Ok(Some(step).filter(|&step| step <= last));
        }
    }
    Ok(first_nonfinite(&tail(connection, series)?, first).filter(|&step| step <= last))
}

/// The extremes of a series in `first..=last`.
pub(super) fn extremes_in(
    connection: &Connection,
    series: i64,
    stats: &SeriesStats,
    first: Step,
    last: Step,
) -> Result<Extremes> {
    if first <= stats.first.step && stats.last.step <= last {
        return Ok(Extremes {
            min: stats.min,
            max: stats.max,
        });
    }
    if last < stats.first.step || stats.last.step < first {
        return Ok(Extremes::default());
    }
    let mut extremes = Extremes::default();
    for stored in full_blocks(connection, series, StepSpan { first, last })? {
        let total = stored.summaries.total();
        if first <= total.step_first && total.step_last <= last {
            for (value, step) in [(total.min, total.min_step), (total.max, total.max_step)] {
                extremes = extremes.and(MetricPoint { step, value });
            }
        } else {
            let number = stored.id as u32 & TAIL_NUMBER;
            let points = block(connection, series, number)?;
            in_span(&points, first, last).for_each(|point| extremes = extremes.and(point));
        }
    }
    let points = tail(connection, series)?;
    in_span(&points, first, last).for_each(|point| extremes = extremes.and(point));
    Ok(extremes)
}

/// Every point of a series in `first..=last`, in order.
pub(super) fn for_each_in(
    connection: &Connection,
    series: i64,
    first: Step,
    last: Step,
    mut visit: impl FnMut(MetricPoint),
) -> Result<()> {
    for stored in full_blocks(connection, series, StepSpan { first, last })? {
        let points = block(connection, series, stored.id as u32 & TAIL_NUMBER)?;
        in_span(&points, first, last).for_each(&mut visit);
    }
    in_span(&tail(connection, series)?, first, last).for_each(visit);
    Ok(())
}

fn in_span(points: &Points, first: Step, last: Step) -> impl Iterator<Item = MetricPoint> + '_ {
    let start = points.steps().partition_point(|&step| step < first.0);
    let end = points.steps().partition_point(|&step| step <= last.0);
    (start..end.max(start)).filter_map(|index| points.get(index).map(metric_point))
}

fn first_nonfinite(points: &Points, from: Step) -> Option<Step> {
    let start = points.steps().partition_point(|&step| step < from.0);
    (start..points.len())
        .find(|&index| !points.values()[index].is_finite())
        .map(|index| Step(points.steps()[index]))
}

/// Number of the full block that holds the last step at or before `step`.
fn block_at(connection: &Connection, series: i64, step: Step) -> Result<Option<u32>> {
    // Numbers and steps ascend together; the highest number whose first step is not above is found from the end.
    let id: Option<i64> = connection
        .prepare_cached(
            "SELECT id FROM block_summary WHERE id >= ?1 AND id < ?2 AND first <= ?3 ORDER BY id DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([row_id(series, 0), row_id(series + 1, 0), step.0], |row| row.get(0))
                .optional()
        })
        .map_err(from_sqlite)?;
    Ok(id.map(|id| (id - row_id(series, 0)) as u32))
}

fn metric_point(point: Point) -> MetricPoint {
    MetricPoint {
        step: point.step,
        value: point.value,
    }
}

/// Ranks in a column that is part of a key: null would equal nothing.
fn rank_column(rank: Option<u32>) -> i64 {
    rank.map_or(-1, i64::from)
}

/// A rank from its column.
pub(super) fn rank_of(column: i64) -> Option<u32> {
    u32::try_from(column).ok()
}
