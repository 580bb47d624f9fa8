//! What a launch inherits, kept per launch so that nothing walks a whole chain to show a run.
//!
//! [`Effective`] of (launch A, step S) is what the history of A up to S comes to: the latest value per metric, its extremes, where it first
//! was not finite, how many checkpoints. Stored per launch is what it *inherits*: the effective of (its base, the last inherited
//! step). So for S at or above that step one lookup in A's own series completes it. For S below, A adds nothing, and the
//! question is its base's.

use std::collections::{BTreeMap, HashMap, HashSet};

use runtree_core::lineage;
use runtree_core::{Error, Result, RunId, Step};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::from_sqlite;
use super::keys::{Keys, run_blob, run_of};
use super::points;
use crate::row::{Extremes, MetricPoint, SeriesStats};

/// What a history comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Effective {
    /// The topmost run of it that anything mentions.
    pub(super) root: RunId,
    /// By row of the metric's name.
    pub(super) metrics: BTreeMap<i64, Latest>,
    /// Complete checkpoints on it.
    pub(super) checkpoints: u64,
    /// Exclusive or of their ids: notices when one replaced another.
    checkpoint_mark: u64,
}

/// A metric of a history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latest {
    pub(super) point: MetricPoint,
    /// The first step at which it is not finite.
    pub(super) first_nonfinite: Option<Step>,
    /// The extremes of what lies below the last step that was asked for. Apart from the point at that step, because an heir's own point there takes its place.
    below: Extremes,
}

impl Latest {
    /// The smallest and the largest finite value.
    pub(super) fn extremes(&self) -> Extremes {
        self.below.and(self.point)
    }
}

/// Values are compared by their bits, as they are stored: NaN is equal to itself.
impl PartialEq for Latest {
    fn eq(&self, other: &Self) -> bool {
        self.point.step == other.point.step
            && self.point.value.to_bits() == other.point.value.to_bits()
            && self.first_nonfinite == other.first_nonfinite
            && self.below == other.below
    }
}

/// A launch as the walks here need it.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) id: i64,
    pub(super) run_id: i64,
    pub(super) number: u32,
    /// Row of the base and the step.
    pub(super) base: Option<(i64, Step)>,
    pub(super) lowered: Option<Step>,
}

impl Launch {
    pub(super) fn load(connection: &Connection, id: i64) -> Result<Self> {
        connection
            .prepare_cached(
                "SELECT run_id, number, base, base_step, lowered FROM attempt WHERE id = ?1",
            )
            .and_then(|mut statement| {
                statement.query_row([id], |row| {
                    let base: Option<i64> = row.get(2)?;
                    let base_step: Option<i64> = row.get(3)?;
                    Ok(Self {
                        id,
                        run_id: row.get(0)?,
                        number: row.get(1)?,
                        base: base.zip(base_step.map(Step)),
                        lowered: row.get::<_, Option<i64>>(4)?.map(Step),
                    })
                })
            })
            .map_err(from_sqlite)
    }

    /// First step at which its own points count.
    pub(super) fn first_own(&self) -> Step {
        lineage::first_own_step(self.base.map(|(_, step)| step), self.lowered)
    }

    /// Last step it inherits, if it has a base.
    pub(super) fn last_inherited(&self) -> Option<Step> {
        self.base
            .map(|(_, step)| lineage::last_inherited_step(step, self.lowered))
    }
}

/// A series of one launch, as the walks here need it.
struct Own {
    id: i64,
    stats: SeriesStats,
}

/// What the history of a launch up to and including `last` comes to.
pub(super) fn effective(
    connection: &Connection,
    keys: &mut Keys,
    launch: i64,
    last: Step,
) -> Result<Effective> {
    let mut launch = Launch::load(connection, launch)?;
    let mut seen = HashSet::new();
    while let (Some((base, _)), Some(limit)) = (launch.base, launch.last_inherited())
        && last < limit
    {
        if !seen.insert(launch.id) {
            return Err(Error::corrupt(
                "attempts are based on each other in a circle",
            ));
        }
        launch = Launch::load(connection, base)?;
    }
    let mut history = match launch.base {
        Some(_) => inherited(connection, launch.id)?,
        None => None,
    }
    .map_or_else(|| nothing(connection, &launch), Ok)?;
    add_own(connection, keys, &launch, last, &mut history)?;
    Ok(history)
}

/// Computes anew what a launch inherits; says whether that is different from what was stored.
pub(super) fn renew_inherited(
    connection: &Connection,
    keys: &mut Keys,
    launch: &Launch,
) -> Result<bool> {
    let (Some((base, _)), Some(limit)) = (launch.base, launch.last_inherited()) else {
        return Ok(false);
    };
    let now = effective(connection, keys, base, limit)?;
    if inherited(connection, launch.id)?.as_ref() == Some(&now) {
        return Ok(false);
    }
    connection
        .prepare_cached("UPDATE attempt SET inherited = ?2 WHERE id = ?1")
        .and_then(|mut statement| statement.execute(params![launch.id, now.to_bytes()]))
        .map_err(from_sqlite)?;
    Ok(true)
}

/// Step of the newest complete checkpoint of a launch's history before `step`.
pub(super) fn last_checkpoint_before(
    connection: &Connection,
    launch: i64,
    step: Step,
) -> Result<Option<Step>> {
    let mut launch = Launch::load(connection, launch)?;
    let mut last = step.previous();
    let mut seen = HashSet::new();
    loop {
        let found: Option<i64> = connection
            .prepare_cached(
                "SELECT max(step) FROM checkpoint WHERE run_id = ?1 AND attempt = ?2 AND step BETWEEN ?3 AND ?4 AND complete",
            )
            .and_then(|mut statement| {
                statement.query_row(
                    params![launch.run_id, launch.number, launch.first_own().0, last.0],
                    |row| row.get(0),
                )
            })
            .map_err(from_sqlite)?;
        if let Some(step) = found {
            return Ok(Some(Step(step)));
        }
        let (Some((base, _)), Some(limit)) = (launch.base, launch.last_inherited()) else {
            return Ok(None);
        };
        if !seen.insert(launch.id) {
            return Ok(None);
        }
        last = last.min(limit);
        launch = Launch::load(connection, base)?;
    }
}

fn nothing(connection: &Connection, launch: &Launch) -> Result<Effective> {
    let run = connection
        .prepare_cached("SELECT run FROM run WHERE id = ?1")
        .and_then(|mut statement| {
            statement.query_row([launch.run_id], |row| row.get::<_, [u8; 16]>(0))
        })
        .map_err(from_sqlite)?;
    Ok(Effective {
        root: run_of(run),
        metrics: BTreeMap::new(),
        checkpoints: 0,
        checkpoint_mark: 0,
    })
}

fn inherited(connection: &Connection, launch: i64) -> Result<Option<Effective>> {
    connection
        .prepare_cached("SELECT inherited FROM attempt WHERE id = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([launch], |row| row.get::<_, Option<Vec<u8>>>(0))
                .optional()
        })
        .map_err(from_sqlite)?
        .flatten()
        .map(|bytes| Effective::from_bytes(&bytes))
        .transpose()
}

/// Adds what a launch itself did at `first_own()..=last`.
fn add_own(
    connection: &Connection,
    keys: &mut Keys,
    launch: &Launch,
    last: Step,
    history: &mut Effective,
) -> Result<()> {
    let first = launch.first_own();
    for ((metric_id, rank), series) in own_series(connection, launch.id)? {
        let metric_id = match rank {
            None => metric_id,
            Some(rank) => ranked_name(connection, keys, metric_id, rank)?,
        };
        let own = latest_of(connection, &series, first, last)?;
        let own_nonfinite = nonfinite_of(connection, &series, first, last)?;
        let Some(point) = own else { continue };
        let mut first_nonfinite = own_nonfinite;
        let mut below = if first < last {
            extremes_of(connection, &series, first, last.previous())?
        } else {
            Extremes::default()
        };
        if let Some(inherited) = history.metrics.get(&metric_id) {
            // At the base step its own point wins: what was there is not effective.
            let replaces = is_at(connection, &series, first)?;
            below = inherited.below.with(below);
            if !(replaces && inherited.point.step == first) {
                below = below.and(inherited.point);
            }
            if let Some(step) = inherited.first_nonfinite
                && !(replaces && step == first)
            {
                first_nonfinite = Some(step);
            }
        }
        history.metrics.insert(
            metric_id,
            Latest {
                point,
                first_nonfinite,
                below,
            },
        );
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT checkpoint FROM checkpoint WHERE run_id = ?1 AND attempt = ?2 AND step BETWEEN ?3 AND ?4 AND complete",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement
        .query(params![launch.run_id, launch.number, first.0, last.0])
        .map_err(from_sqlite)?;
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        history.checkpoints += 1;
        history.checkpoint_mark ^= row.get::<_, i64>(0).map_err(from_sqlite)? as u64;
    }
    Ok(())
}

type SeriesOfLaunch = BTreeMap<(i64, Option<u32>), Vec<Own>>;

/// Users' series of a launch by metric and rank; of several writers the one that wins at equal steps last.
fn own_series(connection: &Connection, launch: i64) -> Result<SeriesOfLaunch> {
    let mut statement = connection
        .prepare_cached(
            "SELECT series.metric_id, series.rank, series.id, series.stats
             FROM series JOIN writer ON writer.id = series.writer_id
             WHERE series.attempt_id = ?1 AND series.system = 0
             ORDER BY writer.opened, writer.writer",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement.query([launch]).map_err(from_sqlite)?;
    let mut all = SeriesOfLaunch::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        let read = || -> rusqlite::Result<_> {
            let key = (row.get(0)?, points::rank_of(row.get(1)?));
            Ok((key, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
        };
        let (key, id, stats) = read().map_err(from_sqlite)?;
        let stats = SeriesStats::from_bytes(&stats)?;
        all.entry(key).or_default().push(Own { id, stats });
    }
    Ok(all)
}

fn latest_of(
    connection: &Connection,
    series: &[Own],
    first: Step,
    last: Step,
) -> Result<Option<MetricPoint>> {
    let mut latest: Option<MetricPoint> = None;
    for own in series {
        let point = points::last_at_or_before(connection, own.id, &own.stats, last)?
            .filter(|point| point.step >= first);
        if let Some(point) = point
            && latest.is_none_or(|latest| latest.step <= point.step)
        {
            latest = Some(point);
        }
    }
    Ok(latest)
}

/// The first step at which the point that counts is not finite.
fn nonfinite_of(
    connection: &Connection,
    series: &[Own],
    first: Step,
    last: Step,
) -> Result<Option<Step>> {
    let mut earliest: Option<Step> = None;
    for (index, own) in series.iter().enumerate() {
        let mut from = first;
        loop {
            let found = points::first_nonfinite_in(connection, own.id, &own.stats, from, last)?;
            let Some(step) = found.filter(|&step| earliest.is_none_or(|earliest| step < earliest))
            else {
                break;
            };
            if !is_at(connection, &series[index + 1..], step)? {
                earliest = Some(step);
                break;
            }
            if step == Step::MAX {
                break;
            }
            from = step.next();
        }
    }
    Ok(earliest)
}

/// The extremes of the points that count in `first..=last`.
fn extremes_of(
    connection: &Connection,
    series: &[Own],
    first: Step,
    last: Step,
) -> Result<Extremes> {
    let mut extremes = Extremes::default();
    for (index, own) in series.iter().enumerate() {
        let found = points::extremes_in(connection, own.id, &own.stats, first, last)?;
        for point in [found.min, found.max].into_iter().flatten() {
            // Another writer's later word at an extreme's own step: rare, and then nothing but all points tells.
            if is_at(connection, &series[index + 1..], point.step)? {
                return merged_extremes(connection, series, first, last);
            }
        }
        extremes = extremes.with(found);
    }
    Ok(extremes)
}

/// [`extremes_of`] from the points themselves.
fn merged_extremes(
    connection: &Connection,
    series: &[Own],
    first: Step,
    last: Step,
) -> Result<Extremes> {
    let mut points = BTreeMap::new();
    for own in series {
        points::for_each_in(connection, own.id, first, last, |point| {
            points.insert(point.step, point.value);
        })?;
    }
    let points = points.into_iter();
    Ok(points.fold(Extremes::default(), |extremes, (step, value)| {
        extremes.and(MetricPoint { step, value })
    }))
}

fn is_at(connection: &Connection, series: &[Own], step: Step) -> Result<bool> {
    for own in series {
        if points::at(connection, own.id, &own.stats, step)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Row of the name under which a series of one rank is shown: `loss[rank 3]`.
fn ranked_name(connection: &Connection, keys: &mut Keys, metric_id: i64, rank: u32) -> Result<i64> {
    let name: String = connection
        .prepare_cached("SELECT text FROM name WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([metric_id], |row| row.get(0)))
        .map_err(from_sqlite)?;
    keys.name(connection, &format!("{name}[rank {rank}]"))
}

/// Words of a metric in what is stored.
const METRIC_WORDS: usize = 9;

fn extreme(value: u64, step: u64) -> Option<MetricPoint> {
    let value = f64::from_bits(value);
    (!value.is_nan()).then_some(MetricPoint {
        step: Step(step as i64),
        value,
    })
}

impl Effective {
    /// The metric that first was not finite: the first step, then the first name.
    pub(super) fn first_nonfinite(&self, names: &HashMap<i64, String>) -> Option<(Step, String)> {
        self.metrics
            .iter()
            .filter_map(|(id, latest)| Some((latest.first_nonfinite?, names.get(id)?.clone())))
            .min()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = run_blob(self.root).to_vec();
        out.extend(self.checkpoints.to_le_bytes());
        out.extend(self.checkpoint_mark.to_le_bytes());
        for (&id, latest) in &self.metrics {
            out.extend(id.to_le_bytes());
            out.extend(latest.point.step.0.to_le_bytes());
            out.extend(latest.point.value.to_bits().to_le_bytes());
            out.extend(u64::from(latest.first_nonfinite.is_some()).to_le_bytes());
            out.extend(latest.first_nonfinite.unwrap_or_default().0.to_le_bytes());
            for point in [latest.below.min, latest.below.max] {
                // An extreme is finite: NaN stands for none.
                let value = point.map_or(f64::NAN, |point| point.value);
                out.extend(value.to_bits().to_le_bytes());
                out.extend(point.map_or(0, |point| point.step.0).to_le_bytes());
            }
        }
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (words, odd) = bytes.as_chunks::<8>();
        if words.len() < 4 || !odd.is_empty() || !(words.len() - 4).is_multiple_of(METRIC_WORDS) {
            return Err(Error::corrupt("what the index knows of a base is damaged"));
        }
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let mut root = [0; 16];
        root.copy_from_slice(&bytes[..16]);
        let metrics = (4..words.len())
            .step_by(METRIC_WORDS)
            .map(|at| {
                let latest = Latest {
                    point: MetricPoint {
                        step: Step(word(at + 1) as i64),
                        value: f64::from_bits(word(at + 2)),
                    },
                    first_nonfinite: (word(at + 3) != 0).then_some(Step(word(at + 4) as i64)),
                    below: Extremes {
                        min: extreme(word(at + 5), word(at + 6)),
                        max: extreme(word(at + 7), word(at + 8)),
                    },
                };
                (word(at) as i64, latest)
            })
            .collect();
        Ok(Self {
            root: run_of(root),
            metrics,
            checkpoints: word(2),
            checkpoint_mark: word(3),
        })
    }
}
