//! Control events become rows. Fields that several writers set keep the largest (lamport, writer, ordinal), whatever the order of
//! folding; config patches are all kept and merged in that order when a run is settled.

use std::collections::BTreeMap;

use runtree_core::event::{Event, Lamport, RunStatus};
use runtree_core::float::JsonFloat;
use runtree_core::{AttemptNumber, Result, Step, Timestamp, WriterId};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::fold::{Fold, cursor_at};
use super::keys::{from_json, sortable, to_json};
use super::{from_sqlite, media};
use crate::item::JournalCursor;

/// Kinds of rows in `field`.
pub(super) mod kind {
    /// Key: empty; value: the name.
    pub(in super::super) const NAME: i64 = 0;
    /// Key: empty; value: the notes.
    pub(in super::super) const NOTES: i64 = 1;
    /// Key: the tag; value: `1` or `0`.
    pub(in super::super) const TAG: i64 = 2;
    /// Key: number of the launch, space, status; empty for a tool. Value: a [`super::StatusColumn`].
    pub(in super::super) const STATUS: i64 = 3;
    /// Key: empty; value: `1` or `0`.
    pub(in super::super) const DELETED: i64 = 4;
    /// Key: save key, newline, metric; value: a JSON float.
    pub(in super::super) const CHECKPOINT_METRIC: i64 = 5;
    /// Key: save key, newline, tag; value: `1` or `0`.
    pub(in super::super) const CHECKPOINT_TAG: i64 = 6;
    /// Key: saver, slash, save key; value: what is hurt, empty once a later launch loaded it.
    pub(in super::super) const CHECKPOINT_DAMAGE: i64 = 7;
}

/// Value of a status field.
#[derive(Serialize, Deserialize)]
pub(super) struct StatusColumn {
    pub(super) status: RunStatus,
    pub(super) reason: Option<String>,
    pub(super) at: Timestamp,
}

/// A row of `writer` while its frames are folded.
pub(super) struct WriterState {
    pub(super) id: i64,
    pub(super) run_id: i64,
    pub(super) attempt: Option<AttemptNumber>,
    pub(super) alive: Option<Timestamp>,
    pub(super) cursor: JournalCursor,
    bits: i64,
    rank: u32,
    world_size: u32,
    opened: Option<Timestamp>,
    closed: Option<Timestamp>,
    process: BTreeMap<String, String>,
    lamport: u64,
}

impl WriterState {
    /// The row of a writer, made if it is new.
    pub(super) fn load(fold: &Fold<'_>, run_id: i64, writer: WriterId) -> Result<Self> {
        let bits = sortable(writer.to_bits());
        let found = fold
            .connection
            .prepare_cached(
                "SELECT id, attempt, rank, world_size, opened, alive, closed, process, lamport, offset, ordinal, hash
                 FROM writer WHERE run_id = ?1 AND writer = ?2",
            )
            .and_then(|mut statement| {
                statement
                    .query_row([run_id, bits], |row| {
                        Ok((
                            Self {
                                id: row.get(0)?,
                                run_id,
                                attempt: row.get::<_, Option<u32>>(1)?.map(AttemptNumber),
                                rank: row.get(2)?,
                                world_size: row.get(3)?,
                                opened: row.get::<_, Option<i64>>(4)?.map(Timestamp),
                                alive: row.get::<_, Option<i64>>(5)?.map(Timestamp),
                                closed: row.get::<_, Option<i64>>(6)?.map(Timestamp),
                                process: BTreeMap::new(),
                                lamport: row.get::<_, i64>(8)? as u64,
                                cursor: cursor_at(row, 9)?,
                                bits,
                            },
                            row.get::<_, Option<String>>(7)?,
                        ))
                    })
                    .optional()
            })
            .map_err(from_sqlite)?;
        if let Some((mut state, process)) = found {
            if let Some(process) = process {
                state.process = from_json(&process, "a writer's process")?;
            }
            return Ok(state);
        }
        let id = fold
            .connection
            .prepare_cached("INSERT INTO writer(run_id, writer) VALUES (?1, ?2)")
            .and_then(|mut statement| statement.insert([run_id, bits]))
            .map_err(from_sqlite)?;
        Ok(Self {
            id,
            run_id,
            attempt: None,
            alive: None,
            cursor: JournalCursor::default(),
            bits,
            rank: 0,
            world_size: 1,
            opened: None,
            closed: None,
            process: BTreeMap::new(),
            lamport: 0,
        })
    }

    /// Writes the row back.
    pub(super) fn store(&self, fold: &Fold<'_>) -> Result<()> {
        fold.execute(
            "UPDATE writer SET attempt = ?2, rank = ?3, world_size = ?4, opened = ?5, alive = ?6, closed = ?7, process = ?8,
               lamport = ?9, offset = ?10, ordinal = ?11, hash = ?12 WHERE id = ?1",
            params![
                self.id,
                self.attempt.map(|attempt| attempt.0),
                self.rank,
                self.world_size,
                self.opened.map(|at| at.0),
                self.alive.map(|at| at.0),
                self.closed.map(|at| at.0),
                to_json(&self.process),
                self.lamport as i64,
                self.cursor.offset as i64,
                self.cursor.ordinal as i64,
                self.cursor.hash as i64,
            ],
        )?;
        Ok(())
    }

    fn sign(&mut self, at: Timestamp) {
        self.alive = self.alive.max(Some(at));
    }
}

/// Folds one event of a journal.
pub(super) fn event(
    fold: &mut Fold<'_>,
    writer: &mut WriterState,
    ordinal: u64,
    event: &Event,
) -> Result<()> {
    let run_id = writer.run_id;
    match event {
        Event::Opened {
            attempt,
            rank,
            world_size,
            at,
            process,
        } => {
            writer.attempt = *attempt;
            (writer.rank, writer.world_size) = (*rank, *world_size);
            // Precedence between writers is decided by the first time.
            writer.opened = writer.opened.or(Some(*at));
            writer.process.clone_from(process);
            writer.sign(*at);
        }
        Event::Alive { at } => writer.sign(*at),
        Event::Loaded { run, key, at } => {
            writer.sign(*at);
            set_damage(fold, writer, ordinal, &format!("{run}/{key}"), None)?;
        }
        Event::Damaged { run, key, what, at } => {
            writer.sign(*at);
            set_damage(fold, writer, ordinal, &format!("{run}/{key}"), Some(what))?;
        }
        Event::Closed { at } => {
            writer.sign(*at);
            writer.closed = Some(*at);
        }
        Event::StartLowered { first } => {
            if let Some(attempt) = writer.attempt {
                let id = fold.keys.attempt(fold.connection, run_id, attempt)?;
                fold.execute(
                    "UPDATE attempt SET lowered = min(coalesce(lowered, ?2), ?2) WHERE id = ?1",
                    [id, first.0],
                )?;
                fold.mark_attempt(id, Step::MIN)?;
            }
        }
        Event::Name { lamport, name } => {
            set(fold, writer, ordinal, *lamport, kind::NAME, "", name)?;
        }
        Event::Notes { lamport, notes } => {
            set(fold, writer, ordinal, *lamport, kind::NOTES, "", notes)?;
        }
        Event::Tags {
            lamport,
            add,
            remove,
        } => {
            for (tags, value) in [(remove, "0"), (add, "1")] {
                for tag in tags {
                    set(fold, writer, ordinal, *lamport, kind::TAG, tag, value)?;
                }
            }
        }
        Event::Config { lamport, patch } => {
            writer.lamport = writer.lamport.max(lamport.0);
            fold.execute(
                "INSERT OR REPLACE INTO patch VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    run_id,
                    sortable(lamport.0),
                    writer.bits,
                    ordinal as i64,
                    to_json(patch)
                ],
            )?;
        }
        Event::Status {
            lamport,
            attempt,
            status,
            reason,
            at,
        } => {
            // The last word of each kind is kept: one rank's failure outlives the goodbye of another.
            let key = attempt.map_or(String::new(), |attempt| {
                format!("{attempt} {}", status.as_str())
            });
            let value = to_json(&StatusColumn {
                status: *status,
                reason: reason.clone(),
                at: *at,
            });
            writer.sign(*at);
            set(fold, writer, ordinal, *lamport, kind::STATUS, &key, &value)?;
        }
        Event::CheckpointMetrics {
            lamport,
            key,
            metrics,
        } => {
            for (metric, &value) in metrics {
                let name = format!("{key}\n{metric}");
                let value = to_json(&JsonFloat(value));
                set(
                    fold,
                    writer,
                    ordinal,
                    *lamport,
                    kind::CHECKPOINT_METRIC,
                    &name,
                    &value,
                )?;
            }
        }
        Event::CheckpointTags {
            lamport,
            key,
            add,
            remove,
        } => {
            for (tags, value) in [(remove, "0"), (add, "1")] {
                for tag in tags {
                    let name = format!("{key}\n{tag}");
                    set(
                        fold,
                        writer,
                        ordinal,
                        *lamport,
                        kind::CHECKPOINT_TAG,
                        &name,
                        value,
                    )?;
                }
            }
        }
        Event::Deleted {
            lamport, deleted, ..
        } => {
            let value = if *deleted { "1" } else { "0" };
            set(fold, writer, ordinal, *lamport, kind::DELETED, "", value)?;
        }
        Event::Console { stream, at, lines } => {
            writer.sign(*at);
            fold.execute(
                "INSERT OR REPLACE INTO console VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    run_id,
                    writer.attempt.map_or(0, |attempt| attempt.0),
                    at.0,
                    writer.bits,
                    ordinal as i64,
                    stream,
                    to_json(lines)
                ],
            )?;
        }
        Event::File {
            name,
            bytes,
            chunks,
            at,
        } => {
            writer.sign(*at);
            fold.execute(
                "INSERT INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
                   at = excluded.at, writer = excluded.writer, ordinal = excluded.ordinal,
                   bytes = excluded.bytes, chunks = excluded.chunks
                 WHERE (excluded.at, excluded.writer, excluded.ordinal) >= (file.at, file.writer, file.ordinal)",
                params![
                    run_id,
                    name,
                    at.0,
                    writer.bits,
                    ordinal as i64,
                    *bytes as i64,
                    to_json(chunks)
                ],
            )?;
        }
        Event::Media { at, .. } => {
            writer.sign(*at);
            if let Some(attempt) = writer.attempt {
                let attempt_id = fold.keys.attempt(fold.connection, run_id, attempt)?;
                let order = (writer.opened, writer.bits, ordinal);
                media::keep(fold, attempt_id, order, event)?;
            }
        }
        Event::Alert {
            title,
            text,
            level,
            step,
            at,
        } => {
            writer.sign(*at);
            fold.execute(
                "INSERT OR REPLACE INTO alert VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    run_id,
                    at.0,
                    writer.bits,
                    ordinal as i64,
                    writer.attempt.map(|attempt| attempt.0),
                    writer.rank,
                    step.map(|step| step.0),
                    level.as_str(),
                    title,
                    text
                ],
            )?;
        }
        Event::Environment { facts, at } => {
            writer.sign(*at);
            writer.process.extend(facts.clone());
        }
        Event::Lost { reason, points, at } => {
            writer.sign(*at);
            fold.execute(
                "INSERT OR REPLACE INTO lost VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    run_id,
                    at.0,
                    writer.bits,
                    ordinal as i64,
                    writer.attempt.map(|attempt| attempt.0),
                    reason,
                    to_json(points)
                ],
            )?;
        }
        // `Saved` is a hint to read a commit, which comes as an item of its own. Kinds of a newer runtree say nothing here.
        _ => {}
    }
    Ok(())
}

fn set(
    fold: &Fold<'_>,
    writer: &mut WriterState,
    ordinal: u64,
    lamport: Lamport,
    kind: i64,
    key: &str,
    value: &str,
) -> Result<()> {
    writer.lamport = writer.lamport.max(lamport.0);
    fold.execute(
        "INSERT INTO field VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
           lamport = excluded.lamport, writer = excluded.writer, ordinal = excluded.ordinal, value = excluded.value
         WHERE (excluded.lamport, excluded.writer, excluded.ordinal) >= (field.lamport, field.writer, field.ordinal)",
        params![
            writer.run_id,
            kind,
            key,
            sortable(lamport.0),
            writer.bits,
            ordinal as i64,
            value
        ],
    )?;
    Ok(())
}

/// Damage outlives what other ranks of the same launch loaded, and ends with the load of a later one.
fn set_damage(
    fold: &Fold<'_>,
    writer: &mut WriterState,
    ordinal: u64,
    key: &str,
    what: Option<&str>,
) -> Result<()> {
    let attempt = writer.attempt.map_or(0, |attempt| u64::from(attempt.0));
    let order = Lamport(attempt * 2 + u64::from(what.is_some()));
    let value = what.unwrap_or_default();
    // Its order is no Lamport count: the writer's stays.
    let lamport = writer.lamport;
    let kind = kind::CHECKPOINT_DAMAGE;
    set(fold, writer, ordinal, order, kind, key, value)?;
    writer.lamport = lamport;
    Ok(())
}
