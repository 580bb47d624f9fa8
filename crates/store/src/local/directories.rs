//! Which directories are known to be durable.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use object_store::{Error, Result};

use super::error::{LocalError, fail};

/// Directories that are synced at once.
const MAX_THREADS: usize = 8;

/// Directories below a root: whose entry in its parent is durable, and whose sync failed.
pub(super) struct Directories {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Directories whose own entry, and those of all above them, this process has seen synced.
    anchored: HashSet<PathBuf>,
    poisoned: HashSet<PathBuf>,
}

impl Directories {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: Mutex::default(),
        }
    }

    /// Makes the entries of `directory` durable, and the directory itself.
    pub(super) fn sync(&self, directory: &Path) -> Result<()> {
        self.sync_all(BTreeSet::from([directory.to_owned()]))
    }

    /// Makes the entries of directories durable, and the directories themselves.
    ///
    /// That a directory exists does not mean that it is durable: another process may have made it a moment ago. So each one's parent
    /// is synced once per process, however the directory came to be; and once for all its children here.
    pub(super) fn sync_all(&self, directories: BTreeSet<PathBuf>) -> Result<()> {
        let mut anchored = Vec::new();
        let mut level = directories;
        while !level.is_empty() {
            let mut parents = BTreeSet::new();
            self.sync_level(&level)?;
            for directory in level {
                if directory != self.root && !self.lock().anchored.contains(&directory) {
                    parents.extend(directory.parent().map(ToOwned::to_owned));
                    anchored.push(directory);
                }
            }
            level = parents;
        }
        self.lock().anchored.extend(anchored);
        Ok(())
    }

    /// Syncs several directories at once: a journaling file system commits all of them together, and answers each.
    fn sync_level(&self, level: &BTreeSet<PathBuf>) -> Result<()> {
        let queue = Mutex::new(level.iter());
        let work = || -> Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(directory) = next else { return Ok(()) };
                self.sync_one(directory)?;
            }
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..level.len().min(MAX_THREADS))
                .filter_map(|_| {
                    // Without a helper the others do its share.
                    std::thread::Builder::new().spawn_scoped(scope, work).ok()
                })
                .collect();
            let own = work();
            helpers.into_iter().fold(own, |result, helper| {
                // A panic of a helper is one of ours.
                let theirs = helper
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result.and(theirs)
            })
        })
    }

    fn sync_one(&self, directory: &Path) -> Result<()> {
        if self.lock().poisoned.contains(directory) {
            return Err(Error::Generic {
                store: "local",
                source: Box::new(LocalError::poisoned(directory)),
            });
        }
        let file = File::open(directory).map_err(|error| fail("open", directory, error))?;
        file.sync_all().map_err(|error| {
            self.lock().poisoned.insert(directory.to_owned());
            fail("sync", directory, error)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
