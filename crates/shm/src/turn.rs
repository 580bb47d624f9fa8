//! Locks, and whose turn it is to sweep a shelf.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, fcntl_lock};

const POLL: Duration = Duration::from_millis(5);

/// Shelves that this process sweeps: the lock of the file would be granted to any of its threads.
static SWEEPING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn sweeping() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    SWEEPING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    shelf: PathBuf,
    file: Option<File>,
}

impl Turn {
    /// Takes the turn if nobody has it.
    pub(crate) fn try_take(shelf: &Path) -> Result<Option<Self>> {
        if !sweeping().insert(shelf.to_owned()) {
            return Ok(None);
        }
        let mut turn = Self {
            shelf: shelf.to_owned(),
            file: None,
        };
        let file = open(&shelf.join("turn"))?;
        if !try_lock(&file)? {
            return Ok(None);
        }
        turn.file = Some(file);
        Ok(Some(turn))
    }

    /// Waits for the turn for as long as somebody has it: whoever dies loses it.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing but looking again waits for a lock of another process and of this one's threads"
    )]
    pub(crate) fn take(shelf: &Path) -> Result<Self> {
        loop {
            match Self::try_take(shelf)? {
                Some(turn) => return Ok(turn),
                None => std::thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // First the lock: another thread of this process must not take it for its own.
        drop(self.file.take());
        sweeping().remove(&self.shelf);
    }
}

/// Opens a file to be locked.
pub(crate) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Whether the lock is this process's now; it stays so until `file` is closed.
pub(crate) fn try_lock(file: &File) -> Result<bool> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
