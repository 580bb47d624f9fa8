//! What deleting checkpoints would free, before anything is deleted.

use std::collections::BTreeSet;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result};
use runtree_store::layout;

use super::needed::{Differences, Prefixes, prefix, walk};
use super::roots::TrashBound;
use super::survey::{Bounds, survey};
use crate::engine::Engine;

impl Engine {
    /// Bytes that would be freed if exactly these checkpoints were gone: of objects that only they need, bases of differences included. Pins and forks of these are not
    /// asked: who may delete is another question.
    ///
    /// # Errors
    /// `NotFound` if one of them does not exist; `Corrupt` if it can not be told what is needed.
    pub fn reclaimable(&self, checkpoints: &[CheckpointName]) -> Result<u64> {
        let store = self.store();
        let without: BTreeSet<CheckpointName> = checkpoints.iter().copied().collect();
        let bounds = Bounds {
            all: TrashBound::default(),
            of_run: None,
            bytes: None,
        };
        let mut remembered = self.gc.lock();
        let found = survey(store, &mut remembered, &bounds, &without)?;
        let mut dead = Prefixes::default();
        for &name in &without {
            let (_, parts) = found.gone.get(&name).ok_or_else(|| {
                Error::not_found(format!(
                    "checkpoint {} of run {} is not in this store",
                    name.key, name.run
                ))
            })?;
            dead.extend(&remembered.chunks_of(store, name, parts)?.hashes);
        }
        drop(remembered);
        let mut needed = found.needed;
        let mut differences = Differences::default();
        let mut needless = Vec::new();
        walk(
            store,
            |names| {
                for name in names {
                    differences.note(name);
                    if !needed.contains(&prefix(&name.hash)) {
                        needless.push(*name);
                    }
                }
            },
            &mut |_| {},
        )?;
        differences.close(&mut needed);
        differences.close(&mut dead);
        let mut bytes = 0;
        for name in needless {
            let hash = prefix(&name.hash);
            if dead.contains(&hash)
                && !needed.contains(&hash)
                && let Some(meta) = store.head(&layout::chunk_object(&name))?
            {
                bytes += meta.size;
            }
        }
        Ok(bytes)
    }
}
