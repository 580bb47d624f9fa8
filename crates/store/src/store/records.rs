//! Typed reads and writes of the records of a store.

use runtree_core::manifest::{
    AttemptRecord, CommitRecord, CommittedPart, PartManifest, PinRecord, Record, RunRecord,
    TombstoneRecord,
};
use runtree_core::{AttemptNumber, ComponentName, Error, PartHash, Result, RunId, SaveKey};

use super::{Created, Store};
use crate::layout::{self, PinName};

/// What a tombstone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// The checkpoint is deleted.
    Deleted,
    /// It is not any more.
    Restored,
}

fn check_same(what: &str, same: bool) -> Result<()> {
    if same {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{what} speaks of something else than its path says"
    )))
}

impl Store {
    /// A run's birth record.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub fn read_run(&self, run: RunId) -> Result<RunRecord> {
        let path = layout::run(run);
        let record: RunRecord = self.read_record(&path)?;
        check_same(path.as_ref(), record.run == run)?;
        Ok(record)
    }

    /// A run's birth record, if it has one.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported`.
    pub fn try_read_run(&self, run: RunId) -> Result<Option<RunRecord>> {
        match self.read_run(run) {
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => Ok(None),
            result => result.map(Some),
        }
    }

    /// Writes a run's birth record.
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn create_run(&self, record: &RunRecord) -> Result<Created> {
        self.create_record(&layout::run(record.run), record)
    }

    /// A launch.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub fn read_attempt(&self, run: RunId, attempt: AttemptNumber) -> Result<AttemptRecord> {
        let path = layout::attempt(run, attempt);
        let record: AttemptRecord = self.read_record(&path)?;
        check_same(
            path.as_ref(),
            (record.run, record.attempt) == (run, attempt),
        )?;
        Ok(record)
    }

    /// Writes a launch. `ExistsOther` means that somebody else launched under this number: read it and join or take the next.
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn create_attempt(&self, record: &AttemptRecord) -> Result<Created> {
        self.create_record(&layout::attempt(record.run, record.attempt), record)
    }

    /// A part manifest, checked, and the hash of its bytes. Whether the checkpoint exists is for its commit to say.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub fn read_part(
        &self,
        run: RunId,
        key: SaveKey,
        component: &ComponentName,
        rank: u32,
    ) -> Result<(PartManifest, PartHash)> {
        let path = layout::part(run, key, component, rank);
        let bytes = self.read_bytes(&path)?;
        let manifest = parse_part_manifest(&bytes, path.as_ref())?;
        let named = (
            manifest.run,
            manifest.key,
            &manifest.component,
            manifest.rank,
        );
        check_same(path.as_ref(), named == (run, key, component, rank))?;
        Ok((manifest, PartHash::of(&bytes)))
    }

    /// A part that a commit names.
    ///
    /// # Errors
    /// `Corrupt` if it is missing or its bytes are not those that were committed.
    pub fn read_committed_part(
        &self,
        run: RunId,
        key: SaveKey,
        part: &CommittedPart,
    ) -> Result<PartManifest> {
        let path = layout::part(run, key, &part.component, part.rank);
        let bytes = self.try_read_bytes(&path)?.ok_or_else(|| {
            Error::corrupt(format!(
                "{path} is missing, and its checkpoint is committed"
            ))
        })?;
        // The hash first: a flipped bit is reported as what it is, not as the parse error it leads to.
        let hash = PartHash::of(&bytes);
        if hash != part.hash {
            return Err(Error::corrupt(format!(
                "{path} has the hash {hash}, its commit says {}",
                part.hash
            )));
        }
        let manifest = parse_part_manifest(&bytes, path.as_ref())?;
        let named = (
            manifest.run,
            manifest.key,
            &manifest.component,
            manifest.rank,
        );
        check_same(
            path.as_ref(),
            named == (run, key, &part.component, part.rank),
        )?;
        Ok(manifest)
    }

    /// What was decided about a save; `None` while it is pending.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported`.
    pub fn read_commit(&self, run: RunId, key: SaveKey) -> Result<Option<CommitRecord>> {
        let path = layout::commit(run, key);
        let Some(bytes) = self.try_read_bytes(&path)? else {
            return Ok(None);
        };
        let record = CommitRecord::load(&bytes, path.as_ref())?;
        check_same(path.as_ref(), (record.run, record.key) == (run, key))?;
        // Nothing above a commit has its hash. Its one spelling shows the bits that parsing would forgive; the others lead to a part that is not there.
        if record.to_bytes() != bytes {
            return Err(Error::corrupt(format!(
                "{path} is not written as runtree writes it"
            )));
        }
        Ok(Some(record))
    }

    /// A pin.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub fn read_pin(&self, name: &PinName) -> Result<PinRecord> {
        self.read_record(&layout::pin(name))
    }

    /// Sets a pin, whatever it was before. Pins are the one kind of record that changes: a lease is a pin that its holder rewrites.
    ///
    /// # Errors
    /// As [`Store::overwrite_bytes`].
    pub fn write_pin(&self, name: &str, pin: &PinRecord) -> Result<()> {
        self.overwrite_bytes(&layout::pin(&PinName::of(name)), pin.to_bytes().into())
    }

    /// Removes a pin; one that is not there is removed already.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn delete_pin(&self, name: &str) -> Result<()> {
        self.delete(&layout::pin(&PinName::of(name)))
    }

    /// Says that a checkpoint is deleted, or restored. `false` if it was so already.
    ///
    /// # Errors
    /// As [`Store::create_bytes`]; `Conflict` if others keep changing it.
    pub fn write_tombstone(&self, says: Tombstone, record: &TombstoneRecord) -> Result<bool> {
        const TRIES: u32 = 16;
        let (run, key) = (record.checkpoint.run, record.checkpoint.key);
        for _ in 0..TRIES {
            let highest = self
                .list_tombstones(run)?
                .into_iter()
                .find(|(listed, _)| *listed == key)
                .map(|(_, index)| index);
            let deleted = highest.is_some_and(layout::is_deleted);
            if deleted == (says == Tombstone::Deleted) {
                return Ok(false);
            }
            let next = match highest {
                None => 0,
                Some(highest) => highest
                    .checked_add(1)
                    .ok_or_else(|| Error::corrupt(format!("tombstones of {key} are used up")))?,
            };
            let path = layout::tombstone(run, key, next);
            match self.create_record(&path, record)? {
                Created::Created => return Ok(true),
                // Somebody else said something meanwhile: look again.
                Created::ExistsEqual | Created::ExistsOther(_) => {}
            }
        }
        Err(Error::conflict(format!(
            "checkpoint {key} of run {run} is being deleted and restored by others"
        )))
    }
}

/// Parses and checks the bytes of a part manifest. Exposed for the fuzzer.
///
/// # Errors
/// `Corrupt`; `Unsupported`.
pub fn parse_part_manifest(bytes: &[u8], what: &str) -> Result<PartManifest> {
    let manifest = PartManifest::load(bytes, what)?;
    manifest.check()?;
    Ok(manifest)
}
