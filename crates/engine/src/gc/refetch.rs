//! What is damaged or missing here and whole in another store: chunks, and the records that name them.
//!
//! Every object is immutable and either named by its hash or by a commit that holds it, so what another store has under the same name is the same thing, and whatever comes is
//! verified before it is put. Damaged chunk objects are condemned before (`repair`), so that a copy does not count on them.

use std::collections::HashSet;

use runtree_core::manifest::{ChunkRecord, CommitRecord, Outcome};
use runtree_core::{ChunkHash, ErrorKind, Result, RunId, SaveKey};
use runtree_store::{Copying, Store, layout};

use crate::engine::Engine;

/// What was read, if it is there and whole. A store that does not answer is an error: nobody knows what it has.
fn whole<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Engine {
    /// Puts commits and parts right that can not be read here and can be read there; says how many.
    pub(super) fn refetch_records(&self, from: &Store, dry_run: bool) -> Result<u64> {
        let store = self.store();
        let mut count = 0;
        for run in store.list_runs()? {
            for key in store.list_commits(run)? {
                let commit = if let Some(commit) = whole(store.read_commit(run, key))? {
                    commit
                } else {
                    let theirs = whole(from.read_commit(run, key))?.flatten();
                    if theirs.is_some() {
                        let path = layout::commit(run, key);
                        if !dry_run {
                            store.overwrite_bytes(&path, from.read_bytes(&path)?)?;
                        }
                        count += 1;
                    }
                    theirs
                };
                if let Some(commit) = commit {
                    count += self.refetch_parts(from, &commit, dry_run)?;
                }
            }
        }
        Ok(count)
    }

    fn refetch_parts(&self, from: &Store, commit: &CommitRecord, dry_run: bool) -> Result<u64> {
        let (store, run, key): (_, RunId, SaveKey) = (self.store(), commit.run, commit.key);
        let mut count = 0;
        if commit.outcome != Outcome::Committed {
            return Ok(count);
        }
        for part in &commit.parts {
            if whole(store.read_committed_part(run, key, part))?.is_none()
                && whole(from.read_committed_part(run, key, part))?.is_some()
            {
                if !dry_run {
                    let path = layout::part(run, key, &part.component, part.rank);
                    store.overwrite_bytes(&path, from.read_bytes(&path)?)?;
                }
                count += 1;
            }
        }
        Ok(count)
    }

    /// Fetches chunks that no object holds here; says which are whole now or, if nothing is to be done, would be.
    pub(super) fn refetch_chunks(
        &self,
        from: &Store,
        lost: &[&ChunkRecord],
        dry_run: bool,
    ) -> Result<HashSet<ChunkHash>> {
        let mut healed = HashSet::new();
        if dry_run {
            for chunk in lost {
                if !from.verify_chunk(chunk)?.healthy.is_empty() {
                    healed.insert(chunk.hash);
                }
            }
            return Ok(healed);
        }
        let copying = Copying::begin(from, self.store())?;
        for chunk in lost {
            whole(copying.put_back(chunk))?;
        }
        // A difference is whole again with its base; and what was sent is read as everything is.
        for chunk in lost {
            if !self.store().verify_chunk(chunk)?.healthy.is_empty() {
                healed.insert(chunk.hash);
            }
        }
        Ok(healed)
    }
}
