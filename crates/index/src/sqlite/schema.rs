//! The tables. Bump [`VERSION`] with any change: there are no migrations, another version is another file.
//!
//! Ids of 128 bits are blobs in big-endian order, ids of 64 bits integers with the sign bit flipped, so that both sort as they
//! should. Row numbers (`id`) depend on the order of folding: no answer shows them or is ordered by them.

use rusqlite::{Connection, TransactionBehavior};

/// Version of the schema, in `PRAGMA user_version` and in the file's name.
const VERSION: i32 = 4;
/// A process of another version has another file: both work at once.
pub(super) const FILE_NAME: &str = "index-v4.db";

/// Facts as they were read, then what is derived from them by `settle`.
const TABLES: &str = "
CREATE TABLE stamp(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- Metric names and config keys.
CREATE TABLE name(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

-- A run that something mentions; `project` is null until its birth record is folded, `shown` then 0, or 1 if deleted.
CREATE TABLE run(
  id INTEGER PRIMARY KEY, run BLOB NOT NULL UNIQUE,
  project TEXT, number INTEGER, display_id TEXT, key TEXT, created INTEGER, owner BLOB, declared BLOB,
  shown INTEGER, name TEXT, folded_name TEXT, status TEXT, sign INTEGER, last_activity INTEGER, last_step INTEGER,
  attempt INTEGER, root BLOB);
CREATE INDEX run_by_created ON run(shown, project, created, run);
CREATE INDEX run_by_birth ON run(shown, created, run);
CREATE INDEX run_by_activity ON run(shown, project, last_activity, status, sign);
CREATE INDEX run_by_status ON run(shown, status, project, created, run);
CREATE INDEX run_by_folded_name ON run(shown, project, folded_name);
CREATE INDEX run_by_number ON run(shown, project, number);
CREATE INDEX run_by_last_step ON run(shown, project, last_step);
CREATE INDEX run_by_name ON run(name);
CREATE INDEX run_by_key ON run(key) WHERE key IS NOT NULL;
CREATE INDEX run_by_display_id ON run(display_id);
CREATE INDEX run_by_owner ON run(owner) WHERE owner IS NOT NULL;
CREATE INDEX run_by_declared ON run(declared) WHERE declared IS NOT NULL;
CREATE INDEX run_by_root ON run(root);
-- The wide part of a run.
CREATE TABLE detail(
  run_id INTEGER PRIMARY KEY, record TEXT NOT NULL, notes TEXT, tags TEXT, config TEXT, reason TEXT,
  checkpoints INTEGER, nonfinite_metric TEXT, nonfinite_step INTEGER, last_good INTEGER, lamport INTEGER);
CREATE TABLE search(run_id INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE tag(tag TEXT NOT NULL, run_id INTEGER NOT NULL, PRIMARY KEY(tag, run_id)) WITHOUT ROWID;
CREATE INDEX tag_by_run ON tag(run_id);
CREATE TABLE config(
  run_id INTEGER NOT NULL, key_id INTEGER NOT NULL, number REAL, text TEXT NOT NULL,
  PRIMARY KEY(run_id, key_id)) WITHOUT ROWID;
CREATE INDEX config_by_key ON config(key_id, number, text, run_id);
-- Latest effective values of users' metrics, NaN is null, and the extremes among the finite ones.
CREATE TABLE latest(
  run_id INTEGER NOT NULL, metric_id INTEGER NOT NULL, step INTEGER NOT NULL, value REAL,
  min REAL, min_step INTEGER, max REAL, max_step INTEGER,
  PRIMARY KEY(run_id, metric_id)) WITHOUT ROWID;
CREATE INDEX latest_by_value ON latest(metric_id, value, run_id);
CREATE INDEX latest_by_min ON latest(metric_id, min, run_id);
CREATE INDEX latest_by_max ON latest(metric_id, max, run_id);

-- A launch that something mentions; `record` is null until it is folded. `inherited` is derived.
CREATE TABLE attempt(
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, number INTEGER NOT NULL, record TEXT, created INTEGER,
  base INTEGER, base_step INTEGER, lowered INTEGER, inherited BLOB,
  checkpoint_run BLOB, checkpoint_key TEXT,
  UNIQUE(run_id, number));
CREATE INDEX attempt_by_base ON attempt(base) WHERE base IS NOT NULL;
CREATE INDEX attempt_by_checkpoint ON attempt(checkpoint_run) WHERE checkpoint_run IS NOT NULL;

CREATE TABLE writer(
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, writer INTEGER NOT NULL,
  attempt INTEGER, rank INTEGER NOT NULL DEFAULT 0, world_size INTEGER NOT NULL DEFAULT 1,
  opened INTEGER, alive INTEGER, closed INTEGER, process TEXT,
  offset INTEGER NOT NULL DEFAULT 0, ordinal INTEGER NOT NULL DEFAULT 0, hash INTEGER NOT NULL DEFAULT 0,
  lamport INTEGER NOT NULL DEFAULT 0,
  UNIQUE(run_id, writer));
-- Fields that several writers set: the largest (lamport, writer, ordinal) wins.
CREATE TABLE field(
  run_id INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,
  lamport INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY(run_id, kind, key)) WITHOUT ROWID;
CREATE TABLE patch(
  run_id INTEGER NOT NULL, lamport INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL, patch TEXT NOT NULL,
  PRIMARY KEY(run_id, lamport, writer, ordinal)) WITHOUT ROWID;
CREATE TABLE console(
  run_id INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  stream TEXT NOT NULL, lines TEXT NOT NULL, PRIMARY KEY(run_id, attempt, at, writer, ordinal)) WITHOUT ROWID;
CREATE TABLE file(
  run_id INTEGER NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  bytes INTEGER NOT NULL, chunks TEXT NOT NULL, PRIMARY KEY(run_id, name)) WITHOUT ROWID;
-- What a launch logged besides numbers: of several with one (name, rank, step) the largest (opened, writer, ordinal). Items are wide, so what
-- is listed and counted stands in an index of its own. Rank -1: none.
CREATE TABLE media(
  id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL, name_id INTEGER NOT NULL, rank INTEGER NOT NULL, step INTEGER NOT NULL,
  opened INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, items TEXT NOT NULL);
CREATE UNIQUE INDEX media_by_step ON media(attempt_id, name_id, rank, step);
CREATE TABLE alert(
  run_id INTEGER NOT NULL, at INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  attempt INTEGER, rank INTEGER NOT NULL, step INTEGER, level TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY(run_id, at, writer, ordinal)) WITHOUT ROWID;
CREATE TABLE lost(
  run_id INTEGER NOT NULL, at INTEGER NOT NULL, writer INTEGER NOT NULL, ordinal INTEGER NOT NULL,
  attempt INTEGER, reason TEXT NOT NULL, points TEXT NOT NULL, PRIMARY KEY(run_id, at, writer, ordinal)) WITHOUT ROWID;

CREATE TABLE checkpoint(
  id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, attempt INTEGER NOT NULL, step INTEGER NOT NULL, k INTEGER NOT NULL,
  checkpoint INTEGER NOT NULL, committed INTEGER, tombstone INTEGER, reason TEXT,
  complete INTEGER GENERATED ALWAYS AS (committed IS 1 AND (tombstone IS NULL OR tombstone % 2 = 1)) VIRTUAL,
  UNIQUE(run_id, attempt, step, k));
CREATE INDEX checkpoint_by_id ON checkpoint(checkpoint);
CREATE TABLE part(
  checkpoint_id INTEGER NOT NULL, component TEXT NOT NULL, rank INTEGER NOT NULL, confirmed INTEGER NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY(checkpoint_id, component, rank)) WITHOUT ROWID;
CREATE TABLE pin(name TEXT PRIMARY KEY, run BLOB NOT NULL, key TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX pin_by_run ON pin(run);

-- What one writer logged of one metric in one launch. Full blocks hold 4096 points each, `tail` rows the rest: 0 the packed
-- rest of the last merge, then one per fold. Row numbers of both are (series << 20) + number.
CREATE TABLE series(
  id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL, metric_id INTEGER NOT NULL, system INTEGER NOT NULL,
  rank INTEGER NOT NULL, writer_id INTEGER NOT NULL,
  stats BLOB NOT NULL, closed BLOB, blocks INTEGER NOT NULL, tail_rows INTEGER NOT NULL, tail_points INTEGER NOT NULL,
  UNIQUE(attempt_id, metric_id, system, rank, writer_id));
CREATE TABLE block_summary(id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, summary BLOB NOT NULL);
CREATE TABLE block(id INTEGER PRIMARY KEY, payload BLOB NOT NULL);
CREATE TABLE tail(id INTEGER PRIMARY KEY, payload BLOB NOT NULL);

-- What `settle` has to look at: launches from the lowest changed step on, and runs.
CREATE TABLE dirty_attempt(attempt_id INTEGER PRIMARY KEY, from_step INTEGER NOT NULL);
CREATE TABLE dirty_run(run_id INTEGER PRIMARY KEY);
";

/// Sets a connection up and makes the tables if the file is new. Fails with `NotADatabase` if the file is of another schema, which
/// makes the caller replace it.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == VERSION {
        return Ok(());
    }
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if version != 0 || tables != 0 {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
            Some(format!("schema {version} with {tables} tables")),
        ));
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction =
        rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let version: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Empties every table.
pub(super) fn clear(connection: &Connection) -> rusqlite::Result<()> {
    let tables: Vec<String> = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for table in tables {
        connection.execute(&format!("DELETE FROM {table}"), [])?;
    }
    Ok(())
}
