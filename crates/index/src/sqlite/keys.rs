//! How ids stand in columns, and the interned row numbers of what items mention.

use std::collections::HashMap;

use runtree_core::lineage::AttemptId;
use runtree_core::{AttemptNumber, Error, Result, RunId, WriterId};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::from_sqlite;

/// A run id as a blob: big-endian, so that blobs sort as ids do.
pub(super) fn run_blob(run: RunId) -> [u8; 16] {
    run.to_bits().to_be_bytes()
}

/// A run id from a column.
pub(super) fn run_of(blob: [u8; 16]) -> RunId {
    RunId::from_bits(u128::from_be_bytes(blob))
}

/// 64 unsigned bits as an integer that sorts as they do.
pub(super) fn sortable(bits: u64) -> i64 {
    (bits ^ (1 << 63)) as i64
}

/// The bits of a [`sortable`] integer.
pub(super) fn unsorted(integer: i64) -> u64 {
    integer as u64 ^ (1 << 63)
}

/// A writer id from a column.
pub(super) fn writer_of(integer: i64) -> WriterId {
    WriterId::from_bits(unsorted(integer))
}

/// A JSON column.
pub(super) fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("BUG: rows have string keys and no failing serializer")
}

/// Reads a JSON column that this crate wrote.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        Error::corrupt(format!("{what} in the index is damaged")).with_source(error)
    })
}

/// Row numbers found or made during one transaction.
#[derive(Default)]
pub(super) struct Keys {
    runs: HashMap<RunId, i64>,
    attempts: HashMap<(i64, u32), i64>,
    names: HashMap<String, i64>,
}

impl Keys {
    /// The row of a run, made if nothing mentioned it before.
    pub(super) fn run(&mut self, connection: &Connection, run: RunId) -> Result<i64> {
        if let Some(&id) = self.runs.get(&run) {
            return Ok(id);
        }
        let id = match find_run(connection, run)? {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO run(run) VALUES (?1)")
                .and_then(|mut statement| statement.insert([run_blob(run)]))
                .map_err(from_sqlite)?,
        };
        self.runs.insert(run, id);
        Ok(id)
    }

    /// The row of a launch, made if nothing mentioned it before.
    pub(super) fn attempt(
        &mut self,
        connection: &Connection,
        run_id: i64,
        number: AttemptNumber,
    ) -> Result<i64> {
        if let Some(&id) = self.attempts.get(&(run_id, number.0)) {
            return Ok(id);
        }
        let found = connection
            .prepare_cached("SELECT id FROM attempt WHERE run_id = ?1 AND number = ?2")
            .and_then(|mut statement| {
                statement
                    .query_row(params![run_id, number.0], |row| row.get(0))
                    .optional()
            })
            .map_err(from_sqlite)?;
        let id = match found {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO attempt(run_id, number) VALUES (?1, ?2)")
                .and_then(|mut statement| statement.insert(params![run_id, number.0]))
                .map_err(from_sqlite)?,
        };
        self.attempts.insert((run_id, number.0), id);
        Ok(id)
    }

    /// The row of a metric name or config key, made if it is new.
    pub(super) fn name(&mut self, connection: &Connection, text: &str) -> Result<i64> {
        if let Some(&id) = self.names.get(text) {
            return Ok(id);
        }
        let id = match find_name(connection, text)? {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO name(text) VALUES (?1)")
                .and_then(|mut statement| statement.insert([text]))
                .map_err(from_sqlite)?,
        };
        self.names.insert(text.to_owned(), id);
        Ok(id)
    }
}

/// The row of a run, if something mentioned it.
pub(super) fn find_run(connection: &Connection, run: RunId) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM run WHERE run = ?1")
        .and_then(|mut statement| {
            statement
                .query_row([run_blob(run)], |row| row.get(0))
                .optional()
        })
        .map_err(from_sqlite)
}

/// The row of a launch, if something mentioned it.
pub(super) fn find_attempt(connection: &Connection, id: AttemptId) -> Result<Option<i64>> {
    connection
        .prepare_cached(
            "SELECT attempt.id FROM run JOIN attempt ON attempt.run_id = run.id
             WHERE run.run = ?1 AND attempt.number = ?2",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![run_blob(id.run), id.attempt.0], |row| row.get(0))
                .optional()
        })
        .map_err(from_sqlite)
}

/// The row of a name, if anything has it.
pub(super) fn find_name(connection: &Connection, text: &str) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM name WHERE text = ?1")
        .and_then(|mut statement| statement.query_row([text], |row| row.get(0)).optional())
        .map_err(from_sqlite)
}
