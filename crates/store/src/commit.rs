//! Parts and the one object that decides: publish, look again, confirm, commit.
//!
//! ```text
//! SaveSession ──publish (W3)──▶ PublishedPart ──confirm (W4)──▶ ConfirmedPart ──try_commit (W5)──▶ Decided | Waiting
//! ```
//!
//! Each stage is a type that must be used, so that no stage can be skipped. `commits/<key>` is created by whoever sees all declared parts confirmed, with
//! nothing in it that depends on who writes it: any number of "last" ranks write the same bytes. It is never deleted and never rewritten; that object
//! alone says whether the checkpoint exists. No lock is needed for correctness.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use runtree_core::manifest::{
    ChunkRecord, CommitRecord, CommittedPart, Outcome, PartConfirmation, PartManifest, Record as _,
};
use runtree_core::{ChunkHash, ComponentName, Error, PartHash, Result, RunId, SaveKey};

use crate::layout::{self, ObjectName};
use crate::rounds::Rounds;
use crate::store::{Created, Store};

/// Most parts of a checkpoint that a reader believes in.
const MAX_PARTS: u64 = 1 << 20;

/// A part that has its name, but may not be relied on before its writer looked again.
#[derive(Debug)]
#[must_use = "a published part does not count before it is confirmed"]
pub struct PublishedPart {
    store: Store,
    seen: Rounds,
    manifest: PartManifest,
    hash: PartHash,
    objects: HashMap<ChunkHash, ObjectName>,
}

/// A part that may be committed.
#[derive(Debug)]
#[must_use = "a confirmed part is no checkpoint before its commit is written"]
pub struct ConfirmedPart {
    store: Store,
    manifest: PartManifest,
    hash: PartHash,
    refilled: usize,
    made_commit: AtomicBool,
}

/// How far a save is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitProgress {
    /// It is decided, for ever; the decision is durable.
    Decided(CommitRecord),
    /// Parts are missing or not confirmed yet.
    Waiting {
        /// Confirmed parts.
        present: Vec<(ComponentName, u32)>,
        /// Declared parts that are not.
        missing: Vec<(ComponentName, u32)>,
    },
}

impl CommitProgress {
    /// The checkpoint's parts, if it exists.
    pub fn committed(&self) -> Option<&[CommittedPart]> {
        match self {
            Self::Decided(record) if record.outcome == Outcome::Committed => Some(&record.parts),
            _ => None,
        }
    }
}

impl PublishedPart {
    /// Takes the part's name. Everything it references is durable.
    pub(crate) fn create(
        store: Store,
        seen: Rounds,
        manifest: PartManifest,
        objects: HashMap<ChunkHash, ObjectName>,
    ) -> Result<Self> {
        check_declared(&manifest)?;
        let bytes = Bytes::from(manifest.to_bytes());
        let hash = PartHash::of(&bytes);
        let path = layout::part(
            manifest.run,
            manifest.key,
            &manifest.component,
            manifest.rank,
        );
        // Another rank's idea of who takes part is found here, before this part adds to the confusion, and once more at the commit.
        check_same_declaration(&store, &manifest)?;
        if let Created::ExistsOther(other) = store.create_bytes(&path, bytes)? {
            return Err(part_conflict(&manifest, &other, path.as_ref()));
        }
        Ok(Self {
            store,
            seen,
            manifest,
            hash,
            objects,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &PartManifest {
        &self.manifest
    }

    /// Looks again (W4) and confirms. Between the dedup hits and the publication a collector may have decided: if there is a round that the session did not
    /// see, every referenced name is checked, and what is absent or condemned is put again from `refill`, which is asked for the chunk's raw bytes.
    ///
    /// # Errors
    /// `LostData` if a chunk is gone and `refill` does not have it; else as the store says.
    pub fn confirm(
        self,
        mut refill: impl FnMut(&ChunkRecord) -> Result<Option<Bytes>>,
    ) -> Result<ConfirmedPart> {
        let chunks = &self.manifest.chunks;
        let refilled = self
            .store
            .look_again(&self.seen, chunks, &self.objects, &mut refill)?;
        let confirmed = ConfirmedPart {
            refilled,
            store: self.store,
            manifest: self.manifest,
            hash: self.hash,
            made_commit: AtomicBool::new(false),
        };
        // The only part of a checkpoint is confirmed by its commit: its writer counts its own look.
        if confirmed.declared().len() > 1 {
            confirmed.write_confirmation()?;
        }
        Ok(confirmed)
    }
}

impl ConfirmedPart {
    /// The manifest.
    pub fn manifest(&self) -> &PartManifest {
        &self.manifest
    }

    /// BLAKE3 of its stored bytes.
    pub fn hash(&self) -> PartHash {
        self.hash
    }

    /// Chunks whose object had to be replaced because a collector was at work.
    pub fn refilled(&self) -> usize {
        self.refilled
    }

    /// Commits if all declared parts are confirmed (W5). Call it again while it says [`CommitProgress::Waiting`]; after `Decided` nothing changes any more.
    ///
    /// # Errors
    /// `Conflict` if parts declare different part sets; `Corrupt` if one is damaged; else as the store says.
    pub fn try_commit(&self) -> Result<CommitProgress> {
        let own = (
            (self.manifest.component.clone(), self.manifest.rank),
            self.hash,
        );
        let (progress, made) = decide(
            &self.store,
            self.manifest.run,
            self.manifest.key,
            &self.manifest.parts,
            Some(own),
        )?;
        if made == Made::ByUs {
            self.made_commit.store(true, Ordering::Relaxed);
        }
        Ok(progress)
    }

    /// Whether it was this writer's create that made the commit: of all parts of a checkpoint, at most one can say so.
    pub fn made_commit(&self) -> bool {
        self.made_commit.load(Ordering::Relaxed)
    }

    fn declared(&self) -> Vec<(ComponentName, u32)> {
        declared(&self.manifest.parts)
    }

    fn write_confirmation(&self) -> Result<()> {
        let path = layout::part_confirmation(
            self.manifest.run,
            self.manifest.key,
            &self.manifest.component,
            self.manifest.rank,
        );
        let confirmation = PartConfirmation { hash: self.hash };
        self.store
            .create_record(&path, &confirmation)?
            .or_conflict(|| format!("{path} confirms another part"))
    }
}

impl Store {
    /// Commits a save whose parts are all confirmed, for whoever died before doing so. A save of one part has no confirmation and is left to its writer.
    ///
    /// # Errors
    /// `NotFound` if the save has no part; else as [`ConfirmedPart::try_commit`].
    pub fn help_commit(&self, run: RunId, key: SaveKey) -> Result<CommitProgress> {
        if let Some(record) = self.acknowledged_commit(run, key)? {
            return Ok(CommitProgress::Decided(record));
        }
        let first = self.list_parts(run, key)?.into_iter().next();
        let first = first.ok_or_else(|| {
            Error::not_found(format!("save {key} of run {run} has no parts here"))
        })?;
        let path = layout::part(run, key, &first.component, first.rank);
        let (_, declaration) = read_declaration(self, &path)?;
        Ok(decide(self, run, key, &declaration, None)?.0)
    }

    /// Decides that a pending save never becomes a checkpoint. Returns what is decided, which is `Committed` if that was there first.
    ///
    /// # Errors
    /// As the store says.
    pub fn abandon(&self, run: RunId, key: SaveKey) -> Result<CommitRecord> {
        if let Some(record) = self.acknowledged_commit(run, key)? {
            return Ok(record);
        }
        let record = CommitRecord {
            run,
            key,
            outcome: Outcome::Abandoned,
            parts: Vec::new(),
        };
        Ok(create_commit(self, record)?.0)
    }

    /// What was decided about a save, made durable: its writer may not have come to sync the directory, and who acknowledges a checkpoint must not lose it.
    ///
    /// # Errors
    /// As [`Store::read_commit`].
    pub fn acknowledged_commit(&self, run: RunId, key: SaveKey) -> Result<Option<CommitRecord>> {
        let record = self.read_commit(run, key)?;
        if record.is_some() {
            self.sync_dirs([&layout::commit(run, key)])?;
        }
        Ok(record)
    }
}

fn declared(parts: &BTreeMap<ComponentName, u32>) -> Vec<(ComponentName, u32)> {
    parts
        .iter()
        .flat_map(|(component, ranks)| (0..*ranks).map(|rank| (component.clone(), rank)))
        .collect()
}

fn describe(parts: &BTreeMap<ComponentName, u32>) -> String {
    let ranks: Vec<String> = parts
        .iter()
        .map(|(component, ranks)| format!("{component}: {ranks}"))
        .collect();
    format!("{{{}}}", ranks.join(", "))
}

fn check_declared(manifest: &PartManifest) -> Result<()> {
    let ranks = manifest.parts.get(&manifest.component).copied();
    if ranks.is_none_or(|ranks| manifest.rank >= ranks) {
        return Err(Error::invalid(format!(
            "{} rank {} is not among the declared parts {}",
            manifest.component,
            manifest.rank,
            describe(&manifest.parts)
        )));
    }
    check_part_count(&manifest.parts)
}

fn check_part_count(parts: &BTreeMap<ComponentName, u32>) -> Result<()> {
    let count: u64 = parts.values().map(|ranks| u64::from(*ranks)).sum();
    if (1..=MAX_PARTS).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a checkpoint has 1 to {MAX_PARTS} parts, not {count}"
    )))
}

fn declaration_conflict(
    run: RunId,
    key: SaveKey,
    one: &BTreeMap<ComponentName, u32>,
    other: &BTreeMap<ComponentName, u32>,
) -> Error {
    Error::conflict(format!(
        "save {key} of run {run} is declared with the parts {} and {}",
        describe(one),
        describe(other)
    ))
    .with_hint("pass the same parts= on every process")
}

fn part_conflict(manifest: &PartManifest, other: &[u8], path: &str) -> Error {
    match PartManifest::load(other, path) {
        Ok(other) if other.parts != manifest.parts => {
            declaration_conflict(manifest.run, manifest.key, &manifest.parts, &other.parts)
        }
        Ok(_) => Error::conflict(format!("{path} exists with other content"))
            .with_hint("save on rank 0 only, or pass sharded=True"),
        Err(error) => {
            Error::conflict(format!("{path} exists and can not be read")).with_source(error)
        }
    }
}

/// Reads only who takes part, from a manifest that may have millions of other fields; and its hash.
fn read_declaration(
    store: &Store,
    path: &layout::ObjectPath,
) -> Result<(PartHash, BTreeMap<ComponentName, u32>)> {
    #[derive(serde::Deserialize)]
    struct Declaration {
        format: String,
        version: u32,
        parts: BTreeMap<ComponentName, u32>,
    }
    let bytes = store.read_bytes(path)?;
    let corrupt = || Error::corrupt(format!("{path} is not a {} record", PartManifest::FORMAT));
    let declaration: Declaration =
        serde_json::from_slice(&bytes).map_err(|error| corrupt().with_source(error))?;
    if declaration.format != PartManifest::FORMAT {
        return Err(corrupt());
    }
    if declaration.version > PartManifest::VERSION {
        return Err(Error::unsupported(format!(
            "{path} has version {}, this runtree reads up to {}",
            declaration.version,
            PartManifest::VERSION
        ))
        .with_hint("upgrade runtree: pip install -U runtree"));
    }
    check_part_count(&declaration.parts).map_err(|error| corrupt().with_source(error))?;
    Ok((PartHash::of(&bytes), declaration.parts))
}

fn check_same_declaration(store: &Store, manifest: &PartManifest) -> Result<()> {
    let (run, key) = (manifest.run, manifest.key);
    // One is enough: each of the others was compared when it came, and the commit compares all.
    let Some(part) = store.list_parts(run, key)?.into_iter().next() else {
        return Ok(());
    };
    let path = layout::part(run, key, &part.component, part.rank);
    let (_, other) = read_declaration(store, &path)?;
    if other != manifest.parts {
        return Err(declaration_conflict(run, key, &manifest.parts, &other));
    }
    Ok(())
}

fn decide(
    store: &Store,
    run: RunId,
    key: SaveKey,
    parts: &BTreeMap<ComponentName, u32>,
    own: Option<((ComponentName, u32), PartHash)>,
) -> Result<(CommitProgress, Made)> {
    if let Some(record) = store.acknowledged_commit(run, key)? {
        return Ok((CommitProgress::Decided(record), Made::BySomebody));
    }
    let own_name = own.as_ref().map(|(name, _)| name);
    let confirmed: BTreeSet<(ComponentName, u32)> = store
        .list_parts(run, key)?
        .into_iter()
        .map(|part| (part.confirmed, (part.component, part.rank)))
        .filter(|(confirmed, name)| *confirmed || Some(name) == own_name)
        .map(|(_, name)| name)
        .collect();
    let (present, missing): (Vec<_>, Vec<_>) = declared(parts)
        .into_iter()
        .partition(|name| confirmed.contains(name));
    if !missing.is_empty() {
        let waiting = CommitProgress::Waiting { present, missing };
        return Ok((waiting, Made::BySomebody));
    }
    let mut committed = Vec::with_capacity(present.len());
    for (component, rank) in present {
        let hash = match &own {
            Some((name, hash)) if *name == (component.clone(), rank) => *hash,
            _ => confirmed_hash(store, run, key, &component, rank, parts)?,
        };
        committed.push(CommittedPart {
            component,
            rank,
            hash,
        });
    }
    committed.sort();
    let record = CommitRecord {
        run,
        key,
        outcome: Outcome::Committed,
        parts: committed,
    };
    let (record, made) = create_commit(store, record)?;
    Ok((CommitProgress::Decided(record), made))
}

/// The hash of another writer's confirmed part, whose declaration must be ours.
fn confirmed_hash(
    store: &Store,
    run: RunId,
    key: SaveKey,
    component: &ComponentName,
    rank: u32,
    parts: &BTreeMap<ComponentName, u32>,
) -> Result<PartHash> {
    let path = layout::part(run, key, component, rank);
    let (hash, declaration) = read_declaration(store, &path)?;
    if declaration != *parts {
        return Err(declaration_conflict(run, key, parts, &declaration));
    }
    let ok = layout::part_confirmation(run, key, component, rank);
    let confirmation: PartConfirmation = store.read_record(&ok)?;
    if confirmation.hash != hash {
        return Err(Error::corrupt(format!(
            "{path} has the hash {hash}, its writer confirmed {}",
            confirmation.hash
        )));
    }
    Ok(hash)
}

/// Whose create made a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    ByUs,
    /// Somebody's, or nobody's yet. Ours too, if the answer to it was lost.
    BySomebody,
}

/// Writes the decision, or finds the one that was first. One name, one winner.
fn create_commit(store: &Store, record: CommitRecord) -> Result<(CommitRecord, Made)> {
    let path = layout::commit(record.run, record.key);
    match store.create_record(&path, &record)? {
        Created::Created => Ok((record, Made::ByUs)),
        Created::ExistsEqual => Ok((record, Made::BySomebody)),
        Created::ExistsOther(winner) => {
            let winner = CommitRecord::load(&winner, path.as_ref())?;
            store.sync_dirs([&path])?;
            Ok((winner, Made::BySomebody))
        }
    }
}
