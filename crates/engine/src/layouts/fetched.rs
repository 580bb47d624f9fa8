//! What was fetched from a bucket to be imported: a folder in the user's cache, which is on a disk where a temporary folder may be in memory.
//!
//! It goes away with its handle. What a process left that was killed is removed by the next one that fetches: each folder stands beside a file that its owner has locked
//! for as long as it lives.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use runtree_core::{Error, Result};
use runtree_store::remote::{RemoteAddress, fetch_object};
use rustix::fs::{FlockOperation, flock};

use super::Sizes;
use crate::engine::Engine;
use crate::parallel::work_off;

/// Objects that are fetched at a time.
const AT_ONCE: usize = 8;
const LOCK: &str = "lock";

/// A directory that can be imported.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    /// Keeps what was fetched.
    _folder: Option<Folder>,
}

impl Incoming {
    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn here(path: PathBuf) -> Self {
        Self {
            path,
            _folder: None,
        }
    }
}

/// A folder that is removed with this.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(crate) fn create(engine: &Engine) -> Result<Self> {
        let above = engine.options.cache_dir.join("fetched");
        let failed = |path: &Path, error| {
            Error::unavailable(format!("can not create {}", path.display())).with_source(error)
        };
        fs::create_dir_all(&above).map_err(|error| failed(&above, error))?;
        remove_abandoned(&above);
        let path = above.join(format!("{:032x}", engine.options.entropy.bits()));
        let lock_path = path.with_extension(LOCK);
        let lock = File::create_new(&lock_path).map_err(|error| failed(&lock_path, error))?;
        // Where a file system has no locks, nothing is taken for abandoned either.
        let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        let folder = Self {
            path,
            lock_path,
            _lock: lock,
        };
        fs::create_dir(&folder.path).map_err(|error| failed(&folder.path, error))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can not be removed now is what the next one finds abandoned.
        if fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes folders whose owners are gone. One that is just made and not locked yet loses its lock's name by this and never its folder.
fn remove_abandoned(above: &Path) {
    let Ok(entries) = fs::read_dir(above) else {
        return;
    };
    for lock_path in entries.flatten().map(|entry| entry.path()) {
        if lock_path
            .extension()
            .is_none_or(|extension| extension != LOCK)
        {
            continue;
        }
        let Ok(lock) = File::open(&lock_path) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(lock_path.with_extension(""));
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// A copy of what lies below `folder` of an address, alone.
///
/// # Errors
/// `Invalid` if a name in the bucket would leave it; else as the bucket says.
pub(super) fn fetch(
    engine: &Engine,
    address: &RemoteAddress,
    folder: &str,
    sizes: &Sizes,
) -> Result<Incoming> {
    let root = Folder::create(engine)?;
    let below = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let mut wanted = Vec::with_capacity(sizes.len());
    for name in sizes.keys() {
        check_inside(name, address, &below)?;
        let file = root.path().join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(|error| {
                Error::unavailable(format!("can not create {}", parent.display()))
                    .with_source(error)
            })?;
        }
        wanted.push((format!("{below}{name}"), file));
    }
    let settings = &engine.options.settings;
    work_off(
        wanted,
        AT_ONCE,
        "fetching",
        || (),
        |(), (name, file)| fetch_object(address, settings, &name, &file).map(drop),
    )?;
    Ok(Incoming {
        path: root.path().to_owned(),
        _folder: Some(root),
    })
}

fn check_inside(name: &str, address: &RemoteAddress, below: &str) -> Result<()> {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains(|c: char| c == '\\' || c.is_control())
    };
    if name.split('/').all(is_plain) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{:?} is no name of a file below its directory",
        format!("{address}/{below}{name}")
    ))
    .with_hint("nothing of it was written"))
}
