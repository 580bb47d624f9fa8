//! What must never be missing, counted after every call that could lose it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runtree_core::manifest::{CheckpointName, ChunkRecord, Outcome};
use runtree_core::{ChunkHash, Error, Result, RunId, SaveKey};
use runtree_store::chunk::encoded::MAX_DEPTH;
use runtree_store::{ObjectEncoding, ObjectName, ObjectPath, Store, layout};

use super::saver::all_hashes;

/// What everybody relies on.
#[derive(Debug)]
pub(super) struct Bank {
    /// The store as it is: without turns, without lies.
    store: Store,
    runs: Vec<RunId>,
    /// Deleted checkpoints of each run that collectors leave.
    trash: usize,
    chunks: HashMap<CheckpointName, Vec<ChunkHash>>,
    /// Forks and pins that were told that all is there.
    relied: BTreeMap<CheckpointName, usize>,
    acknowledged: BTreeSet<CheckpointName>,
    journaled: BTreeSet<ChunkHash>,
    loss: Option<String>,
}

type Objects = HashMap<ChunkHash, Vec<ObjectName>>;

impl Bank {
    pub(super) fn new(store: Store, runs: Vec<RunId>, trash: usize) -> Self {
        Self {
            store,
            runs,
            trash,
            chunks: HashMap::new(),
            relied: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            journaled: BTreeSet::new(),
            loss: None,
        }
    }

    /// What was lost first.
    pub(super) fn loss(&self) -> Option<&str> {
        self.loss.as_deref()
    }

    /// Says what an actor stumbled over that can not be.
    pub(super) fn accuse(&mut self, what: String) {
        self.loss.get_or_insert(what);
    }

    pub(super) fn rely(&mut self, name: CheckpointName) {
        *self.relied.entry(name).or_default() += 1;
    }

    pub(super) fn release(&mut self, name: CheckpointName) {
        if let Some(count) = self.relied.get_mut(&name) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn acknowledge(&mut self, name: CheckpointName) {
        self.acknowledged.insert(name);
    }

    pub(super) fn journal<'c>(&mut self, chunks: impl IntoIterator<Item = &'c ChunkRecord>) {
        self.journaled
            .extend(chunks.into_iter().map(|chunk| chunk.hash));
    }

    /// Counts; the first loss stays.
    pub(super) fn count(&mut self, stamp: &dyn Fn(&ObjectPath) -> i64) -> Result<()> {
        if self.loss.is_none()
            && let Err(error) = self.look(stamp)
        {
            self.loss = Some(error.chain());
        }
        match &self.loss {
            None => Ok(()),
            Some(loss) => Err(Error::corrupt(loss.clone())),
        }
    }

    fn look(&mut self, stamp: &dyn Fn(&ObjectPath) -> i64) -> Result<()> {
        let objects = self.objects()?;
        for run in self.runs.clone() {
            let buried = self.buried(run, stamp)?;
            let keys = self.store.list_commits(run)?;
            let mut acknowledged = self.acknowledged.iter();
            if let Some(CheckpointName { key, .. }) =
                acknowledged.find(|name| name.run == run && !keys.contains(&name.key))
            {
                return Err(Error::corrupt(format!(
                    "{run} {key} was acknowledged, and its commit is lost"
                )));
            }
            for key in keys {
                let name = CheckpointName { run, key };
                let is_committed = self
                    .store
                    .read_commit(run, key)?
                    .is_some_and(|commit| commit.outcome == Outcome::Committed);
                if !is_committed && self.acknowledged.contains(&name) {
                    return Err(Error::corrupt(format!(
                        "{run} {key} was acknowledged, and is lost"
                    )));
                }
                let is_kept =
                    is_committed && buried.get(&key).is_none_or(|rank| *rank < self.trash);
                let is_relied = self.relied.get(&name).is_some_and(|count| *count > 0);
                if is_kept || is_relied {
                    self.check(name, &objects)?;
                }
            }
        }
        match self
            .journaled
            .iter()
            .find(|hash| !decodes(&objects, hash, 0))
        {
            Some(hash) => Err(Error::corrupt(format!("a journal lost {hash}"))),
            None => Ok(()),
        }
    }

    fn objects(&self) -> Result<Objects> {
        let mut objects = Objects::new();
        for hash in all_hashes() {
            objects.insert(hash, self.store.list_objects(hash)?);
        }
        Ok(objects)
    }

    fn check(&mut self, name: CheckpointName, objects: &Objects) -> Result<()> {
        if !self.chunks.contains_key(&name) {
            let CheckpointName { run, key } = name;
            let mut chunks = Vec::new();
            let commit = self.store.read_commit(run, key)?;
            for part in commit.into_iter().flat_map(|commit| commit.parts) {
                let manifest = self.store.read_committed_part(run, key, &part)?;
                chunks.extend(manifest.chunks.iter().map(|chunk| chunk.hash));
            }
            self.chunks.insert(name, chunks);
        }
        match self.chunks[&name]
            .iter()
            .find(|hash| !decodes(objects, hash, 0))
        {
            Some(hash) => Err(Error::corrupt(format!(
                "{} {} lost {hash}",
                name.run, name.key
            ))),
            None => Ok(()),
        }
    }

    /// Deleted checkpoints, and how many of the run were deleted after each, ever: with fewer than the trash holds it never left it.
    fn buried(
        &self,
        run: RunId,
        stamp: &dyn Fn(&ObjectPath) -> i64,
    ) -> Result<BTreeMap<SaveKey, usize>> {
        let mut deletions = Vec::new();
        let mut now = Vec::new();
        for (key, highest) in self.store.list_tombstones(run)? {
            for index in (0..=highest).step_by(2) {
                deletions.push(stamp(&layout::tombstone(run, key, index)));
            }
            if layout::is_deleted(highest) {
                now.push((key, stamp(&layout::tombstone(run, key, highest))));
            }
        }
        let after = |at: i64| deletions.iter().filter(|other| **other > at).count();
        Ok(now.into_iter().map(|(key, at)| (key, after(at))).collect())
    }
}

/// Whether a chunk can be read.
fn decodes(objects: &Objects, hash: &ChunkHash, depth: u8) -> bool {
    let mut all = objects.get(hash).into_iter().flatten();
    all.any(|name| match name.encoding {
        ObjectEncoding::Raw | ObjectEncoding::Planes => true,
        ObjectEncoding::Delta(base) => depth < MAX_DEPTH && decodes(objects, &base, depth + 1),
    })
}
