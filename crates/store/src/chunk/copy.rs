//! From one store to another: chunks as they are kept there, and the records that name them, so that what is copied exists or does not (W1–W5 at the destination).
//!
//! An object is read and verified at the source by its BLAKE3 before it is put at the destination under a fresh name. It keeps its encoding if it can be decoded there:
//! a difference goes once its base is there and not too deep, else a self-contained encoding, else raw bytes. A part is copied byte for byte, since its commit names its hash.
//!
//! What the destination has is listed once, shard by shard, and remembered: after each publication `gc/` is looked at (W4), and if a collector was at work
//! what is gone is sent again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::PutPayload;
use runtree_core::manifest::{
    BlockChecksums, ChunkRecord, CommitRecord, CommittedPart, FilesRecord, Outcome,
    PartConfirmation, Record as _,
};
use runtree_core::{ChunkHash, Error, ErrorKind, Result, RunId, SaveKey, WriterId};

use super::encoded::{FOOTER_BYTES, MAX_DEPTH};
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::rounds::Rounds;
use crate::store::{Created, Store};

/// Copies into a store. Share it between threads.
#[derive(Debug)]
pub struct Copying {
    from: Store,
    to: Store,
    /// What collectors of the destination wanted when this began (W1).
    seen: Rounds,
    here: Shelves,
    there: Shelves,
}

/// Objects of a store by the first byte of their hash, as they were listed once, and those that were put since.
#[derive(Debug, Default)]
struct Shelves(
    Mutex<HashMap<u8, Arc<Shelf>>>,
    Mutex<HashMap<ChunkHash, Vec<(ObjectName, u64)>>>,
);

type Shelf = HashMap<ChunkHash, Vec<(ObjectName, u64)>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelves {
    fn objects(&self, store: &Store, hash: ChunkHash) -> Result<Vec<(ObjectName, u64)>> {
        let shard = hash.as_bytes()[0];
        let known = lock(&self.0).get(&shard).cloned();
        let shelf = if let Some(shelf) = known {
            shelf
        } else {
            let shelf = Arc::new(list_shelf(store, hash)?);
            lock(&self.0).insert(shard, Arc::clone(&shelf));
            shelf
        };
        let mut objects = shelf.get(&hash).cloned().unwrap_or_default();
        objects.extend(lock(&self.1).get(&hash).into_iter().flatten());
        Ok(objects)
    }

    fn note(&self, name: ObjectName, bytes: u64) {
        lock(&self.1)
            .entry(name.hash)
            .or_default()
            .push((name, bytes));
    }

    fn forget(&self) {
        lock(&self.0).clear();
        lock(&self.1).clear();
    }
}

/// The objects of every hash that begins as this one does.
fn list_shelf(store: &Store, hash: ChunkHash) -> Result<Shelf> {
    let mut shelf = Shelf::new();
    for meta in store.objects_below(&layout::chunk_shard(hash))? {
        let file_name = meta.location.filename();
        if let Some(name) = file_name.and_then(|name| name.parse::<ObjectName>().ok()) {
            shelf.entry(name.hash).or_default().push((name, meta.size));
        }
    }
    Ok(shelf)
}

impl Copying {
    /// Begins to copy (W1).
    ///
    /// # Errors
    /// `Denied` if the destination is open for reading only; else as the stores say.
    pub fn begin(from: &Store, to: &Store) -> Result<Self> {
        to.check_writable()?;
        Ok(Self {
            seen: to.list_rounds()?,
            from: from.clone(),
            to: to.clone(),
            here: Shelves::default(),
            there: Shelves::default(),
        })
    }

    /// Where from.
    pub fn from(&self) -> &Store {
        &self.from
    }

    /// Where to.
    pub fn to(&self) -> &Store {
        &self.to
    }

    /// Whether the destination has an object of a chunk that decodes, as far as names and sizes tell, through objects that nobody wants to delete.
    ///
    /// # Errors
    /// As the destination says.
    pub fn has(&self, hash: ChunkHash, bytes: u64) -> Result<bool> {
        Ok(self.depth_there(hash, bytes, 0)?.is_some())
    }

    /// Differences below the best object of a chunk at the destination; none if it has no usable object.
    fn depth_there(&self, hash: ChunkHash, bytes: u64, level: u8) -> Result<Option<u8>> {
        if level > MAX_DEPTH {
            return Ok(None);
        }
        let mut least: Option<u8> = None;
        for (name, size) in self.there.objects(&self.to, hash)? {
            if self.seen.condemns(&name) {
                continue;
            }
            let depth = match name.encoding {
                ObjectEncoding::Raw => (size == bytes).then_some(0),
                ObjectEncoding::Planes => (size > FOOTER_BYTES as u64).then_some(0),
                // A difference is as long as its base.
                ObjectEncoding::Delta(base) => self
                    .depth_there(base, bytes, level + 1)?
                    .map(|depth| depth + 1),
            };
            least = [least, depth].into_iter().flatten().min();
        }
        Ok(least.filter(|&depth| depth <= MAX_DEPTH))
    }

    /// Bytes that sending a chunk takes: of the smallest object that the destination could decode if it had all bases; 0 if it is there.
    ///
    /// # Errors
    /// As the stores say.
    pub fn cost(&self, chunk: &ChunkRecord) -> Result<u64> {
        if self.has(chunk.hash, chunk.bytes)? {
            return Ok(0);
        }
        let objects = self.here.objects(&self.from, chunk.hash)?;
        Ok(objects
            .iter()
            .map(|(_, size)| *size)
            .min()
            .unwrap_or(chunk.bytes))
    }

    /// Has a chunk at the destination; returns the bytes that were sent, 0 if it was there.
    ///
    /// # Errors
    /// `NotFound` if no object of it is at the source, `Corrupt` if none can be decoded there; else as the stores say.
    pub fn send(&self, chunk: &ChunkRecord) -> Result<u64> {
        if self.has(chunk.hash, chunk.bytes)? {
            return Ok(0);
        }
        let mut objects = self.here.objects(&self.from, chunk.hash)?;
        objects.sort_by_key(|(_, size)| *size);
        for (name, _) in objects {
            if let Some(bytes) = self.fetch(&name, chunk)? {
                return self.put(chunk, name.encoding, &bytes);
            }
        }
        let raw = self.from.read_chunk(chunk).map_err(|error| {
            error.in_context(format!(
                "chunk {} can not be copied from {}",
                chunk.hash,
                self.from.objects()
            ))
        })?;
        if ChunkHash::of(&raw) != chunk.hash {
            return Err(Error::corrupt(format!(
                "chunk {} of {} has other bytes than its name says",
                chunk.hash,
                self.from.objects()
            ))
            .with_hint("runtree verify there"));
        }
        self.put(chunk, ObjectEncoding::Raw, &raw.into())
    }

    /// [`Copying::send`], durable at once: for a chunk that a checkpoint of the destination has lost.
    ///
    /// # Errors
    /// As [`Copying::send`].
    pub fn put_back(&self, chunk: &ChunkRecord) -> Result<u64> {
        let sent = self.send(chunk)?;
        self.to
            .sync_dirs([&layout::chunk_shard(chunk.hash).join("any")])?;
        Ok(sent)
    }

    /// An object's bytes, each sent once, and verified by the chunk's BLAKE3; `None` if it would not serve at the destination, or is damaged. A raw file is none of these:
    /// it is read in place.
    fn fetch(&self, name: &ObjectName, chunk: &ChunkRecord) -> Result<Option<PutPayload>> {
        let is_local = |store: &Store| store.root().is_some();
        if name.encoding == ObjectEncoding::Raw {
            if is_local(&self.from) {
                return Ok(None);
            }
            let fetched = self.from.fetch(name)?;
            return Ok(fetched
                .filter(|(_, hash)| *hash == chunk.hash)
                .map(|(bytes, _)| bytes));
        }
        if !self.could_decode(name, chunk.bytes)? {
            return Ok(None);
        }
        let Some(bytes) = self.from.try_read_bytes(&layout::chunk_object(name))? else {
            return Ok(None);
        };
        // Both have the base: the one that has it here need not be sent it to look.
        let bases = if is_local(&self.to) {
            &self.to
        } else {
            &self.from
        };
        let decodes = bases.decodes_bytes(name, &bytes, chunk)?;
        Ok(decodes.then(|| bytes.into()))
    }

    fn could_decode(&self, name: &ObjectName, bytes: u64) -> Result<bool> {
        match name.encoding {
            ObjectEncoding::Raw | ObjectEncoding::Planes => Ok(true),
            ObjectEncoding::Delta(base) => {
                let depth = self.depth_there(base, bytes, 0)?;
                Ok(depth.is_some_and(|depth| depth < MAX_DEPTH))
            }
        }
    }

    fn put(
        &self,
        chunk: &ChunkRecord,
        encoding: ObjectEncoding,
        bytes: &PutPayload,
    ) -> Result<u64> {
        let name = self.to.put_object(chunk.hash, encoding, bytes)?;
        let size = bytes.content_length() as u64;
        self.there.note(name, size);
        Ok(size)
    }

    /// Copies a part whose chunks were all sent: publishes it (W3), looks again (W4), and confirms it if its checkpoint has others.
    ///
    /// # Errors
    /// `Conflict` if the destination has another part of this name; `Corrupt` if it is not the one that was committed.
    pub fn part(
        &self,
        run: RunId,
        key: SaveKey,
        part: &CommittedPart,
        others: bool,
    ) -> Result<u64> {
        let manifest = self.from.read_committed_part(run, key, part)?;
        let path = layout::part(run, key, &part.component, part.rank);
        let bytes = self.from.read_bytes(&path)?;
        let size = bytes.len() as u64;
        let again = self.publish(&path, bytes, &manifest.chunks, |chunk| {
            // Raw, whatever is there: of what is in a round nothing may be relied on.
            let raw = self.from.read_chunk(chunk)?;
            self.put(chunk, ObjectEncoding::Raw, &raw.into())
        })?;
        if others {
            let confirmed = layout::part_confirmation(run, key, &part.component, part.rank);
            self.to
                .create_record(&confirmed, &PartConfirmation { hash: part.hash })?
                .or_conflict(|| format!("{confirmed} confirms another part"))?;
        }
        Ok(size + again)
    }

    /// Copies a list of chunks that journals name, and first the chunks (W2–W4); returns the bytes that were sent.
    ///
    /// # Errors
    /// As [`Copying::send`] and [`Copying::part`].
    pub fn file_list(&self, run: RunId, (writer, number): (WriterId, u64)) -> Result<u64> {
        let path = layout::file_list(run, writer, number);
        let bytes = self.from.read_bytes(&path)?;
        let size = bytes.len() as u64;
        let mut chunks = Vec::new();
        let mut sent = 0;
        for hash in FilesRecord::load(&bytes, path.as_ref())?.chunks {
            let (chunk, bytes) = self.send_listed(hash)?;
            chunks.push(chunk);
            sent += bytes;
        }
        let again = self.publish(&path, bytes, &chunks, |chunk| {
            Ok(self.send_listed(chunk.hash)?.1)
        })?;
        Ok(size + sent + again)
    }

    /// Has a chunk at the destination of which only the hash is known. Raw bytes are verified by it; an encoded object goes as it is, and is verified by who reads it with what the
    /// journal says.
    fn send_listed(&self, hash: ChunkHash) -> Result<(ChunkRecord, u64)> {
        let mut objects = self.here.objects(&self.from, hash)?;
        objects.sort_by_key(|(name, _)| name.encoding);
        for (name, size) in objects {
            let Some(bytes) = self.from.raw_bytes(&name, size)? else {
                continue;
            };
            let chunk = ChunkRecord {
                hash,
                bytes,
                crc64: BlockChecksums(Vec::new()),
                object: String::new(),
            };
            if self.has(hash, bytes)? {
                return Ok((chunk, 0));
            }
            let Some(object) = self.from.try_read_bytes(&layout::chunk_object(&name))? else {
                continue;
            };
            if name.encoding == ObjectEncoding::Raw && ChunkHash::of(&object) != hash {
                continue;
            }
            let mut sent = 0;
            if let Some(base) = self.from.base_record(&name)? {
                sent += self.send(&base)?;
            }
            sent += self.put(&chunk, name.encoding, &object.into())?;
            return Ok((chunk, sent));
        }
        Err(Error::not_found(format!(
            "chunk {hash} has no whole object in {}",
            self.from.objects()
        ))
        .with_hint("runtree verify there tells what else is missing"))
    }

    /// Publishes what names chunks (W3) and looks again (W4); returns the bytes that had to be sent again.
    fn publish(
        &self,
        path: &layout::ObjectPath,
        bytes: Bytes,
        chunks: &[ChunkRecord],
        send_again: impl Fn(&ChunkRecord) -> Result<u64>,
    ) -> Result<u64> {
        let shards: HashSet<u8> = chunks
            .iter()
            .map(|chunk| chunk.hash.as_bytes()[0])
            .collect();
        let shards: Vec<_> = shards
            .into_iter()
            .map(|shard| layout::chunk_shard_of(shard).join("any"))
            .collect();
        self.to.sync_dirs(&shards)?;
        self.to
            .create_bytes(path, bytes)?
            .or_conflict(|| format!("{path} is another one in {}", self.to.objects()))?;
        let now = self.to.list_rounds()?;
        if self.seen.has_all_of(&now) {
            return Ok(0);
        }
        // What was listed before that round may be gone.
        self.there.forget();
        let lost: HashSet<ChunkHash> = self.to.lost_chunks(chunks, &now)?.into_iter().collect();
        let mut again = 0;
        for chunk in chunks.iter().filter(|chunk| lost.contains(&chunk.hash)) {
            again += send_again(chunk)?;
        }
        self.to.sync_dirs(&shards)?;
        Ok(again)
    }

    /// Copies the commit of a checkpoint whose parts were all copied (W5).
    ///
    /// # Errors
    /// `Conflict` if the destination has decided otherwise.
    pub fn commit(&self, commit: &CommitRecord) -> Result<()> {
        if commit.outcome != Outcome::Committed {
            return Err(Error::internal("a save that was given up is not copied"));
        }
        let path = layout::commit(commit.run, commit.key);
        match self.to.create_record(&path, commit)? {
            Created::Created | Created::ExistsEqual => Ok(()),
            Created::ExistsOther(_) => Err(Error::conflict(format!(
                "save {} of run {} was decided otherwise in {}",
                commit.key,
                commit.run,
                self.to.objects()
            ))),
        }
    }

    /// Notes at the destination that a run was born elsewhere, unless it is there already: before its birth record is copied.
    ///
    /// # Errors
    /// As the destination says.
    pub fn note_origin(&self, run: RunId) -> Result<()> {
        if self.to.try_read_run(run)?.is_some() {
            return Ok(());
        }
        let path = layout::copied_from(run, self.from.id());
        self.to
            .create_bytes(&path, Bytes::new())?
            .or_conflict(|| format!("{path} holds something"))
    }

    /// Copies an immutable object that names no chunk, if it is not there; returns its bytes, 0 if it was. `None` if another one has its name.
    ///
    /// # Errors
    /// As the stores say.
    pub fn object(&self, path: &layout::ObjectPath) -> Result<Option<u64>> {
        let bytes = match self.from.read_bytes(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(0)),
            bytes => bytes?,
        };
        let size = bytes.len() as u64;
        Ok(match self.to.create_bytes(path, bytes)? {
            Created::Created => Some(size),
            Created::ExistsEqual => Some(0),
            Created::ExistsOther(_) => None,
        })
    }
}
