//! Which directories are known to be durable.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use object_store::{Error, Result};

use super::error::{LocalError, fail};

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
    ///
    /// That a directory exists does not mean that it is durable: another process may have made it a moment ago. So each one's parent
    /// is synced once per process, however the directory came to be.
    pub(super) fn sync(&self, directory: &Path) -> Result<()> {
        self.sync_one(directory)?;
        let mut child = directory;
        while child != self.root && !self.lock().anchored.contains(child) {
            let Some(parent) = child.parent() else { break };
            self.sync_one(parent)?;
            child = parent;
        }
        let mut state = self.lock();
        let mut child = directory;
        while child != self.root && state.anchored.insert(child.to_owned()) {
            let Some(parent) = child.parent() else { break };
            child = parent;
        }
        Ok(())
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
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
