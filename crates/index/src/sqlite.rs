//! The embedded index: one SQLite file in the user's cache folder, shared by every process of that user.
//!
//! One connection writes, under a mutex and `BEGIN IMMEDIATE`, so that folds of several processes queue up; readers have
//! connections of their own and, in WAL mode, neither wait for a fold nor hold one up. `synchronous = NORMAL`: a power cut may
//! lose the last folds, which are folded again, but never damages the file. A file that is damaged all the same, or of another
//! schema, is moved aside and begun anew: it is a cache. A lock file beside it makes replacing it safe among processes; no
//! lock is needed for correctness of folds, those are transactions.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtree_core::{Error, ErrorKind, Result, RunId, WriterId};
use rusqlite::{Connection, OpenFlags};

use crate::item::{FoldItem, JournalCursor};
use crate::r#trait::{Index, Snapshot};

mod checkpoints;
mod console;
mod family;
mod fields;
mod filter;
mod fold;
mod keys;
mod known;
mod latest;
mod media;
mod names;
mod points;
mod read;
mod runs;
mod schema;
mod series;
mod settle;
#[cfg(feature = "count-statements")]
pub mod statements;
mod stats;
mod status;

/// How long a statement waits for another process's fold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// Statements a connection keeps compiled; more than there are.
const STATEMENTS: usize = 160;
/// Idle read connections that are kept.
const IDLE_READERS: usize = 8;
/// How often a snapshot settles again when folds keep coming between settling and its start.
const SETTLE_ROUNDS: usize = 4;

/// An index in a SQLite file.
#[derive(Debug)]
pub struct SqliteIndex {
    path: PathBuf,
    connections: Mutex<Connections>,
    writer: Mutex<Option<Owned>>,
}

/// Connections to the file that had this identity when they were opened.
#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Owned>,
}

/// A connection and the identity of its file, to notice when the file was deleted or replaced under it.
#[derive(Debug)]
struct Owned {
    connection: Connection,
    file: FileIdentity,
    known: Mutex<known::Known>,
}

type FileIdentity = Option<(u64, u64)>;

impl SqliteIndex {
    /// Opens the index in a folder, which is made if it is not there; makes or replaces the file if need be.
    ///
    /// # Errors
    /// `Unavailable` if the folder or file can not be made or opened.
    pub fn open(folder: &Path) -> Result<Self> {
        let index = Self {
            path: folder.join(schema::FILE_NAME),
            connections: Mutex::default(),
            writer: Mutex::new(None),
        };
        let writer = index.connect()?;
        *lock(&index.writer) = Some(writer);
        Ok(index)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A connection to the file as it is now, made or replaced if need be.
    fn connect(&self) -> Result<Owned> {
        // Not only in `open`: whoever cleans caches takes the folder along.
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                Error::unavailable(format!(
                    "the index folder {} can not be made",
                    folder.display()
                ))
                .with_hint("set XDG_CACHE_HOME to a folder that can be written")
                .with_source(error)
            })?;
        }
        let guard = self.lock_file();
        match self.try_connect() {
            Err(error) if is_damage(&error) => {
                self.move_aside();
                self.try_connect().map_err(|error| self.unavailable(error))
            }
            other => other.map_err(|error| self.unavailable(error)),
        }
        .inspect(|_| drop(guard))
    }

    fn try_connect(&self) -> rusqlite::Result<Owned> {
        #[cfg_attr(not(feature = "count-statements"), expect(unused_mut))]
        let mut connection = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        filter::prepare(&connection)?;
        schema::prepare(&connection)?;
        #[cfg(feature = "count-statements")]
        statements::count(&mut connection)?;
        Ok(Owned {
            connection,
            file: self.identity(),
            known: Mutex::default(),
        })
    }

    /// Held while a file is opened, made or replaced. A file system without locks costs that safety, not the index.
    fn lock_file(&self) -> Option<File> {
        let file = File::create(self.path.with_extension("lock")).ok()?;
        file.lock().ok()?;
        Some(file)
    }

    /// Takes a damaged file out of the way. Its log goes first, so that it can never be replayed into a new file.
    fn move_aside(&self) {
        for suffix in ["-wal", "-shm", ""] {
            let mut from = self.path.clone().into_os_string();
            from.push(suffix);
            let mut to = self.path.clone().into_os_string();
            to.push(".damaged");
            to.push(suffix);
            // What can not be moved is in the way still, and opening it again says so.
            let _ = std::fs::rename(from, to);
        }
    }

    fn identity(&self) -> FileIdentity {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let meta = std::fs::metadata(&self.path).ok()?;
            Some((meta.dev(), meta.ino()))
        }
        #[cfg(not(unix))]
        {
            None
        }
    }

    fn reader(&self) -> Result<Owned> {
        let file = self.identity();
        {
            let mut connections = lock(&self.connections);
            while let Some(owned) = connections.idle.pop() {
                if owned.file == file && file.is_some() {
                    return Ok(owned);
                }
            }
        }
        self.connect()
    }

    fn give_back(&self, owned: Owned) {
        lock(&owned.known).shrink();
        let mut connections = lock(&self.connections);
        if connections.idle.len() < IDLE_READERS {
            connections.idle.push(owned);
        }
    }

    /// Runs `work` in one write transaction; a damaged file is replaced and the caller told to fold again.
    fn write<T>(&self, work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let current = self.identity();
        if writer
            .as_ref()
            .is_none_or(|owned| owned.file != current || current.is_none())
        {
            *writer = Some(self.connect()?);
        }
        let owned = writer.as_mut().expect("BUG: connected above");
        let result = in_transaction(&mut owned.connection, work);
        if let Err(error) = &result
            && error_is_damage(error)
        {
            *writer = None;
            return Err(self.replace());
        }
        result
    }

    /// Moves the damaged file aside unless somebody else did.
    fn replace(&self) -> Error {
        let before = self.identity();
        {
            let _guard = self.lock_file();
            if self.identity() == before {
                self.move_aside();
            }
        }
        Error::conflict(format!(
            "the index {} was damaged and is begun anew",
            self.path.display()
        ))
        .with_hint("fold the store again: runtree reindex")
    }

    fn unavailable(&self, error: rusqlite::Error) -> Error {
        Error::unavailable(format!(
            "the index {} can not be opened",
            self.path.display()
        ))
        .with_hint("set XDG_CACHE_HOME to a folder that can be written")
        .with_source(error)
    }

    fn begin(&self) -> Result<(read::SqliteSnapshot<'_>, bool)> {
        let reader = self.reader()?;
        read::SqliteSnapshot::begin(self, reader).map_err(|error| {
            if error_is_damage(&error) {
                self.replace()
            } else {
                error
            }
        })
    }

    fn settle(&self) -> Result<()> {
        self.write(settle::settle)
    }
}

impl Index for SqliteIndex {
    fn apply(&self, items: &[FoldItem]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.write(|transaction| fold::apply(transaction, items))
    }

    fn cursor(&self, run: RunId, writer: WriterId) -> Result<JournalCursor> {
        let reader = self.reader()?;
        let cursor = fold::cursor(&reader.connection, run, writer);
        self.give_back(reader);
        cursor
    }

    fn closed_writers(&self, run: RunId) -> Result<BTreeSet<WriterId>> {
        let reader = self.reader()?;
        let closed = fold::closed_writers(&reader.connection, run);
        self.give_back(reader);
        closed
    }

    fn mentioned_runs(&self) -> Result<HashSet<RunId>> {
        let reader = self.reader()?;
        let runs = fold::mentioned_runs(&reader.connection);
        self.give_back(reader);
        runs
    }

    fn stamp(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let reader = self.reader()?;
        let stamp = fold::stamp(&reader.connection, key);
        self.give_back(reader);
        stamp
    }

    fn stamps(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let reader = self.reader()?;
        let stamps = fold::stamps(&reader.connection, prefix);
        self.give_back(reader);
        stamps
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>> {
        for _ in 0..SETTLE_ROUNDS {
            let (snapshot, settled) = self.begin()?;
            if settled {
                return Ok(Box::new(snapshot));
            }
            drop(snapshot);
            self.settle()?;
        }
        // Folds keep coming in between: what is derived is as old as the last round, a moment.
        let (snapshot, _) = self.begin()?;
        Ok(Box::new(snapshot))
    }

    fn clear(&self) -> Result<()> {
        match self.write(|transaction| schema::clear(transaction).map_err(from_sqlite)) {
            // Damaged, and so begun anew: that is empty as well.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(from_sqlite)?;
    let value = work(&transaction)?;
    transaction.commit().map_err(from_sqlite)?;
    Ok(value)
}

/// A poisoned lock guards a connection whose transaction was rolled back when the panic dropped it: it can be used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What SQLite says, in runtree's kinds.
pub(crate) fn from_sqlite(error: rusqlite::Error) -> Error {
    let text = match &error {
        rusqlite::Error::SqliteFailure(failure, _)
            if matches!(
                failure.code,
                rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked
            ) =>
        {
            "the index is locked by another process for too long"
        }
        _ if is_damage(&error) => "the index is damaged",
        _ => "the index failed",
    };
    let damaged = is_damage(&error);
    let error = Error::unavailable(text).with_source(error);
    if damaged {
        error.with_hint("fold the store again: runtree reindex")
    } else {
        error
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if matches!(
        failure.code,
        rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
    ))
}

fn error_is_damage(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<rusqlite::Error>())
        .is_some_and(is_damage)
}
