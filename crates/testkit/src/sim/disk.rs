//! A disk whose power is cut: what was put and whose directory was not synced since may be there afterwards, or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtree_store::object_store::memory::InMemory;
use runtree_store::object_store::{ObjectStoreExt as _, Result};
use runtree_store::{DirectorySync, ObjectPath as Path};

use super::{Dice, Fault};

/// Names that are not durable yet, by directory.
#[derive(Debug)]
pub(super) struct Disk {
    volatile: Mutex<BTreeMap<String, BTreeSet<Path>>>,
    fault: Fault,
}

fn directory_of(path: &Path) -> String {
    let text = path.as_ref();
    text.rsplit_once('/')
        .map_or("", |(start, _)| start)
        .to_owned()
}

impl Disk {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            volatile: Mutex::default(),
            fault,
        }
    }

    fn volatile(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Path>>> {
        self.volatile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name was given, and its directory not synced: it is to be later, or whoever gave it was killed.
    pub(super) fn named(&self, path: &Path) {
        let mut volatile = self.volatile();
        volatile
            .entry(directory_of(path))
            .or_default()
            .insert(path.clone());
    }

    pub(super) fn sync_directory_of(&self, path: &Path) {
        self.volatile().remove(&directory_of(path));
    }

    /// What the dice say is gone.
    pub(super) async fn cut(&self, objects: &InMemory, dice: &mut Dice) -> Result<()> {
        let volatile = std::mem::take(&mut *self.volatile());
        for path in volatile.into_values().flatten() {
            if dice.once_in(2) {
                objects.delete(&path).await?;
            }
        }
        Ok(())
    }
}

impl DirectorySync for Disk {
    fn sync_dirs(&self, objects: &mut dyn Iterator<Item = &Path>) -> Result<()> {
        for path in objects {
            let is_skipped = match self.fault {
                Fault::SkippedDirectorySync => true,
                Fault::VolatileTombstones => path.as_ref().contains("/tombstones/"),
                _ => false,
            };
            if !is_skipped {
                self.sync_directory_of(path);
            }
        }
        Ok(())
    }
}
