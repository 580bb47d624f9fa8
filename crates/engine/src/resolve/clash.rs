//! Runs that share a display id or a key: after a copy from another store, where both were given anew.
//!
//! A bare one means the run whose it is in this store, which holds the claim (`projects/<project>/numbers`, `keys`). The other one is addressed by where it came from:
//! `MMP-42.<store>`, the first characters of that store's id.

use runtree_core::{DisplayId, ProjectName, Result, RunId};
use runtree_index::{RunLookup, Snapshot};

use crate::engine::Engine;

/// Characters of a store's id that are shown: enough to tell a few stores apart.
const SHOWN: usize = 8;

impl Engine {
    /// Of runs that a display id or a key finds, the one that has it in this store; none if none of them has, or several, of projects with the same letters.
    pub(super) fn owner(&self, lookup: &RunLookup, found: &[RunId]) -> Result<Option<RunId>> {
        let mut owners = Vec::new();
        for &run in found {
            let Some(record) = self.store.try_read_run(run)? else {
                continue;
            };
            let holder = match lookup {
                RunLookup::DisplayId(id) => self.store.find_number(&record.project, id.number())?,
                RunLookup::Key(key) => self.store.find_key(&record.project, key)?,
                RunLookup::Name(_) | RunLookup::Prefix(_) => None,
            };
            if holder == Some(run) {
                owners.push(run);
            }
        }
        Ok(match owners[..] {
            [owner] => Some(owner),
            _ => None,
        })
    }

    /// The run that `MMP-42.<store>` means, if that is what the text is, and there is exactly one.
    pub(super) fn find_by_store(
        &self,
        snapshot: &dyn Snapshot,
        text: &str,
        scope: Option<&ProjectName>,
    ) -> Result<Option<RunId>> {
        let Some((id, store)) = text.rsplit_once('.') else {
            return Ok(None);
        };
        let Ok(id) = id.to_ascii_uppercase().parse::<DisplayId>() else {
            return Ok(None);
        };
        let store = store.to_ascii_lowercase();
        let mut matching = Vec::new();
        for run in snapshot.find_runs(scope, &RunLookup::DisplayId(id))? {
            let origins = self.origins(run)?;
            if !store.is_empty() && origins.iter().any(|origin| origin.starts_with(&store)) {
                matching.push(run);
            }
        }
        Ok(match matching[..] {
            [only] => Some(only),
            _ => None,
        })
    }

    /// How a run that shares its display id is addressed.
    pub(super) fn address_of(&self, id: DisplayId, run: RunId) -> String {
        let origins = self.origins(run).unwrap_or_default();
        let origin = origins
            .first()
            .map_or("", |origin| origin.get(..SHOWN).unwrap_or(origin));
        format!("{id}.{origin}")
    }

    /// The ids of the stores that a run was copied from; this store's own if it was born here.
    fn origins(&self, run: RunId) -> Result<Vec<String>> {
        let origins = self.store.list_origins(run)?;
        if origins.is_empty() {
            return Ok(vec![self.store.id().to_string()]);
        }
        Ok(origins.iter().map(ToString::to_string).collect())
    }
}
