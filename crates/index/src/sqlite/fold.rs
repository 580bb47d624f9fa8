//! Items become rows of facts. What follows from them is left to `settle`, which every change here leaves a mark for.

use std::collections::{BTreeSet, HashMap, HashSet};

use runtree_core::manifest::{AttemptRecord, CheckpointName, CommitRecord, Outcome, RunRecord};
use runtree_core::{CheckpointId, Error, Result, RunId, Step, WriterId};
use runtree_metrics::{Point, Points, SeriesName};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::keys::{Keys, run_blob, run_of, sortable, to_json, unsorted};
use super::points::{self, SeriesKey};
use super::{fields, from_sqlite};
use crate::item::{FoldItem, FrameContent, FrameRange, JournalCursor, PartFacts, PinFacts};

/// One transaction's state.
pub(super) struct Fold<'a> {
    pub(super) connection: &'a Connection,
    pub(super) keys: Keys,
    /// Points in order of arrival; written once at the end, so that many frames of a journal make one row per series.
    points: HashMap<SeriesKey, Vec<Point>>,
}

/// The columns of `part.facts`.
#[derive(Serialize, Deserialize)]
pub(super) struct PartColumns {
    pub(super) declared: std::collections::BTreeMap<runtree_core::ComponentName, u32>,
    pub(super) name: Option<String>,
    pub(super) created: runtree_core::Timestamp,
    pub(super) metrics: std::collections::BTreeMap<String, runtree_core::float::JsonFloat>,
    pub(super) bytes: u64,
    pub(super) tensors: u64,
}

/// Folds items.
pub(super) fn apply(connection: &Connection, items: &[FoldItem]) -> Result<()> {
    let mut fold = Fold {
        connection,
        keys: Keys::default(),
        points: HashMap::new(),
    };
    for item in items {
        match item {
            FoldItem::RunBorn(record) => fold.run_born(record)?,
            FoldItem::Attempt(record) => fold.attempt(record)?,
            FoldItem::Part(facts) => fold.part(facts)?,
            FoldItem::Commit(record) => fold.commit(record)?,
            FoldItem::Tombstone {
                checkpoint,
                number,
                record,
            } => fold.tombstone(*checkpoint, *number, &record.reason)?,
            FoldItem::Pin(pin) => fold.pin(pin)?,
            FoldItem::Frames(range) => fold.frames(range)?,
            FoldItem::Stamp { key, value } => fold.stamp(key, value)?,
        }
    }
    fold.write_points()
}

/// How far a journal was folded.
pub(super) fn cursor(
    connection: &Connection,
    run: RunId,
    writer: WriterId,
) -> Result<JournalCursor> {
    connection
        .prepare_cached(
            "SELECT offset, ordinal, hash FROM run JOIN writer ON writer.run_id = run.id
             WHERE run.run = ?1 AND writer.writer = ?2",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![run_blob(run), sortable(writer.to_bits())], |row| {
                    cursor_at(row, 0)
                })
                .optional()
        })
        .map(Option::unwrap_or_default)
        .map_err(from_sqlite)
}

/// Writers of a run that closed their journals.
pub(super) fn closed_writers(connection: &Connection, run: RunId) -> Result<BTreeSet<WriterId>> {
    connection
        .prepare_cached(
            "SELECT writer.writer FROM run JOIN writer ON writer.run_id = run.id
             WHERE run.run = ?1 AND writer.closed IS NOT NULL",
        )
        .and_then(|mut statement| {
            statement
                .query_map([run_blob(run)], |row| {
                    Ok(WriterId::from_bits(unsorted(row.get(0)?)))
                })?
                .collect()
        })
        .map_err(from_sqlite)
}

/// Every run that has a row.
pub(super) fn mentioned_runs(connection: &Connection) -> Result<HashSet<RunId>> {
    connection
        .prepare_cached("SELECT run FROM run")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| row.get(0).map(run_of))?
                .collect()
        })
        .map_err(from_sqlite)
}

/// What a stamp remembered.
pub(super) fn stamp(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>> {
    connection
        .prepare_cached("SELECT value FROM stamp WHERE key = ?1")
        .and_then(|mut statement| statement.query_row([key], |row| row.get(0)).optional())
        .map_err(from_sqlite)
}

/// What stamps remembered under keys that begin with `prefix`.
pub(super) fn stamps(connection: &Connection, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
    // Keys are ASCII: the last character there is ends the range.
    let end = format!("{prefix}\u{10FFFF}");
    connection
        .prepare_cached("SELECT key, value FROM stamp WHERE key >= ?1 AND key < ?2")
        .and_then(|mut statement| {
            statement
                .query_map([prefix, &end], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(from_sqlite)
}

impl Fold<'_> {
    pub(super) fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map_err(from_sqlite)
    }

    pub(super) fn mark_run(&self, run_id: i64) -> Result<()> {
        self.execute("INSERT OR IGNORE INTO dirty_run VALUES (?1)", [run_id])?;
        Ok(())
    }

    pub(super) fn mark_attempt(&self, attempt_id: i64, from: Step) -> Result<()> {
        self.execute(
            "INSERT INTO dirty_attempt VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET from_step = min(from_step, excluded.from_step)",
            [attempt_id, from.0],
        )?;
        Ok(())
    }

    fn run_born(&mut self, record: &RunRecord) -> Result<()> {
        let id = self.keys.run(self.connection, record.run)?;
        self.execute(
            "UPDATE run SET project = ?2, number = ?3, display_id = ?4, key = ?5, created = ?6, owner = ?7, declared = ?8
             WHERE id = ?1",
            params![
                id,
                record.project.as_str(),
                record.display_id.number() as i64,
                record.display_id.to_string(),
                record.key,
                record.created.0,
                record.fork.as_ref().map(|fork| run_blob(fork.owner.run)),
                record.fork.as_ref().map(|fork| run_blob(fork.declared)),
            ],
        )?;
        self.execute(
            "INSERT INTO detail(run_id, record) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET record = excluded.record",
            params![id, to_json(record)],
        )?;
        // A fork's first launch is based where the fork is: known before its record is folded.
        if let Some(fork) = &record.fork {
            let first =
                self.keys
                    .attempt(self.connection, id, runtree_core::AttemptNumber::FIRST)?;
            let base_run = self.keys.run(self.connection, fork.owner.run)?;
            let base = self
                .keys
                .attempt(self.connection, base_run, fork.owner.attempt)?;
            self.execute(
                "UPDATE attempt SET base = ?2, base_step = ?3 WHERE id = ?1 AND record IS NULL",
                params![first, base, fork.owner.step.0],
            )?;
            self.mark_attempt(first, Step::MIN)?;
        }
        self.mark_run(id)
    }

    fn attempt(&mut self, record: &AttemptRecord) -> Result<()> {
        let run_id = self.keys.run(self.connection, record.run)?;
        let id = self.keys.attempt(self.connection, run_id, record.attempt)?;
        let base = match &record.base {
            Some(base) => {
                let base_run = self.keys.run(self.connection, base.run)?;
                Some(self.keys.attempt(self.connection, base_run, base.attempt)?)
            }
            None => None,
        };
        self.execute(
            "UPDATE attempt SET record = ?2, created = ?3, base = ?4, base_step = ?5, checkpoint_run = ?6, checkpoint_key = ?7
             WHERE id = ?1",
            params![
                id,
                to_json(record),
                record.created.0,
                base,
                record.base.map(|base| base.step.0),
                record.checkpoint.map(|checkpoint| run_blob(checkpoint.run)),
                record
                    .checkpoint
                    .map(|checkpoint| checkpoint.key.to_string()),
            ],
        )?;
        self.mark_attempt(id, Step::MIN)?;
        self.mark_run(run_id)
    }

    /// The row of a checkpoint, made if nothing mentioned it before. Its launch is marked.
    fn checkpoint(&mut self, name: CheckpointName) -> Result<i64> {
        let run_id = self.keys.run(self.connection, name.run)?;
        let attempt_id = self
            .keys
            .attempt(self.connection, run_id, name.key.attempt)?;
        self.mark_attempt(attempt_id, name.key.step)?;
        let key = params![run_id, name.key.attempt.0, name.key.step.0, name.key.k];
        let found = self
            .connection
            .prepare_cached(
                "SELECT id FROM checkpoint WHERE run_id = ?1 AND attempt = ?2 AND step = ?3 AND k = ?4",
            )
            .and_then(|mut statement| statement.query_row(key, |row| row.get(0)).optional())
            .map_err(from_sqlite)?;
        if let Some(id) = found {
            return Ok(id);
        }
        let id = CheckpointId::of(name.run, name.key).to_bits();
        self.connection
            .prepare_cached(
                "INSERT INTO checkpoint(run_id, attempt, step, k, checkpoint) VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .and_then(|mut statement| {
                statement.insert(params![
                    run_id,
                    name.key.attempt.0,
                    name.key.step.0,
                    name.key.k,
                    sortable(id)
                ])
            })
            .map_err(from_sqlite)
    }

    fn part(&mut self, facts: &PartFacts) -> Result<()> {
        let id = self.checkpoint(facts.checkpoint)?;
        let columns = PartColumns {
            declared: facts.declared.clone(),
            name: facts.name.clone(),
            created: facts.created,
            metrics: facts
                .metrics
                .iter()
                .map(|(name, &value)| (name.clone(), runtree_core::float::JsonFloat(value)))
                .collect(),
            bytes: facts.bytes,
            tensors: facts.tensors,
        };
        // A confirmation is never taken back: seen by an earlier fold, it stands.
        self.execute(
            "INSERT INTO part VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET confirmed = max(confirmed, excluded.confirmed), facts = excluded.facts",
            params![
                id,
                facts.component.as_str(),
                facts.rank,
                facts.confirmed,
                to_json(&columns)
            ],
        )?;
        Ok(())
    }

    fn commit(&mut self, record: &CommitRecord) -> Result<()> {
        let id = self.checkpoint(CheckpointName {
            run: record.run,
            key: record.key,
        })?;
        self.execute(
            "UPDATE checkpoint SET committed = ?2 WHERE id = ?1",
            params![id, record.outcome == Outcome::Committed],
        )?;
        Ok(())
    }

    fn tombstone(&mut self, checkpoint: CheckpointName, number: u32, reason: &str) -> Result<()> {
        let id = self.checkpoint(checkpoint)?;
        self.execute(
            "UPDATE checkpoint SET tombstone = ?2, reason = ?3 WHERE id = ?1 AND coalesce(tombstone, -1) <= ?2",
            params![id, number, reason],
        )?;
        Ok(())
    }

    fn pin(&mut self, pin: &PinFacts) -> Result<()> {
        match &pin.record {
            Some(record) => self.execute(
                "INSERT OR REPLACE INTO pin VALUES (?1, ?2, ?3, ?4)",
                params![
                    pin.name,
                    run_blob(record.checkpoint.run),
                    record.checkpoint.key.to_string(),
                    to_json(record)
                ],
            )?,
            None => self.execute("DELETE FROM pin WHERE name = ?1", [&pin.name])?,
        };
        Ok(())
    }

    fn stamp(&self, key: &str, value: &[u8]) -> Result<()> {
        if value.is_empty() {
            self.execute("DELETE FROM stamp WHERE key = ?1", [key])?;
        } else {
            self.execute(
                "INSERT OR REPLACE INTO stamp VALUES (?1, ?2)",
                params![key, value],
            )?;
        }
        Ok(())
    }

    fn frames(&mut self, range: &FrameRange) -> Result<()> {
        let run_id = self.keys.run(self.connection, range.run)?;
        let mut writer = fields::WriterState::load(self, run_id, range.writer)?;
        let stored = writer.cursor;
        if stored.ordinal >= range.after.ordinal {
            return Ok(());
        }
        // Another process may have folded the first of these frames: the rest is taken. What it folded was this journal's, which
        // has one author and only grows.
        let overlaps = range.before.ordinal < stored.ordinal;
        if !overlaps && stored != range.before {
            return Err(Error::conflict(format!(
                "frames of writer {} of run {} start at {} (byte {}), the index stands at {} (byte {})",
                range.writer,
                range.run,
                range.before.ordinal,
                range.before.offset,
                stored.ordinal,
                stored.offset
            ))
            .with_hint("read the cursor and the journal again"));
        }
        for frame in &range.frames {
            if frame.ordinal < stored.ordinal {
                continue;
            }
            match &frame.content {
                FrameContent::Event(event) => {
                    fields::event(self, &mut writer, frame.ordinal, event)?;
                }
                FrameContent::Points(batch) => {
                    let attempt_id = self.launch_of(&writer, run_id, range, frame.ordinal)?;
                    for (name, points) in batch.iter() {
                        let newest = points.iter().map(|point| point.timestamp).max();
                        writer.alive = writer.alive.max(newest);
                        let key = self.series_key(attempt_id, writer.id, name)?;
                        self.points.entry(key).or_default().extend(points);
                    }
                }
                FrameContent::Sealed(sealed) => {
                    let attempt_id = self.launch_of(&writer, run_id, range, frame.ordinal)?;
                    writer.alive = writer.alive.max(sealed.newest);
                    for series in &sealed.series {
                        // What another process folded of these frames meanwhile is folded again: each point is the last of its step.
                        let key = self.series_key(attempt_id, writer.id, &series.name)?;
                        let arrived = self.points.entry(key).or_default();
                        arrived.extend(series.points.iter());
                    }
                }
            }
        }
        writer.cursor = range.after;
        writer.store(self)?;
        self.mark_run(run_id)
    }

    fn launch_of(
        &mut self,
        writer: &fields::WriterState,
        run_id: i64,
        range: &FrameRange,
        ordinal: u64,
    ) -> Result<i64> {
        let Some(attempt) = writer.attempt else {
            return Err(Error::corrupt(format!(
                "frame {ordinal} of writer {} of run {} has points, but the writer opened no launch",
                range.writer, range.run
            )));
        };
        self.keys.attempt(self.connection, run_id, attempt)
    }

    fn series_key(
        &mut self,
        attempt_id: i64,
        writer_id: i64,
        name: &SeriesName,
    ) -> Result<SeriesKey> {
        Ok(SeriesKey {
            attempt_id,
            writer_id,
            metric_id: self.keys.name(self.connection, &name.name)?,
            system: name.system,
            rank: name.rank,
        })
    }

    fn write_points(&mut self) -> Result<()> {
        let mut all: Vec<_> = std::mem::take(&mut self.points).into_iter().collect();
        // Neighbouring rows are written one after another.
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (key, arrived) in all {
            let new = Points::from_arrival(arrived);
            points::append(self.connection, &key, &new)?;
            if let (false, Some(&first)) = (key.system, new.steps().first()) {
                self.mark_attempt(key.attempt_id, Step(first))?;
            }
        }
        Ok(())
    }
}

/// The cursor columns of a `writer` row, from the first of them on.
pub(super) fn cursor_at(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<JournalCursor> {
    Ok(JournalCursor {
        offset: row.get::<_, i64>(first)? as u64,
        ordinal: row.get::<_, i64>(first + 1)? as u64,
        hash: row.get::<_, i64>(first + 2)? as u64,
    })
}
