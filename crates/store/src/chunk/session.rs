//! One save: putting chunks so that no collector can take them away (W1, W2), and publishing the part (W3).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::{Error as ObjectError, PutPayload};
use runtree_core::manifest::{ChunkRecord, MAX_CHUNK_BYTES, PartManifest};
use runtree_core::{ChunkHash, Error, Result};

use super::{ChunkSum, encoded};
use crate::commit::PublishedPart;
use crate::error::{from_object, is_local};
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::rounds::Rounds;
use crate::store::Store;

/// Puts of one chunk before its error is the caller's: a fresh put id each, because a failed sync is never repeated for the same file. A disk that fails twice is broken; a
/// server may be busy for a while.
const PUT_TRIES: u32 = 2;
const PUT_TRIES_OF_A_SERVER: u32 = 6;

/// A chunk that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutChunk {
    /// What the manifest says of it.
    pub record: ChunkRecord,
    /// Bytes that were written; 0 if an object of the hash was there.
    pub written: u64,
}

/// A save under way: the chunks it put or found. Share it between threads; one session makes one part.
///
/// It begins by reading which collectors are at work (W1): what they condemned does not exist for it. Nothing it puts is durable, and nothing it found is
/// safe, before [`SaveSession::publish`] and [`PublishedPart::confirm`].
#[derive(Debug)]
pub struct SaveSession {
    pub(crate) store: Store,
    pub(crate) rounds: Rounds,
    /// Per hash the object that the part will reference. Its own lock per hash: two threads with the same bytes write them once.
    placed: Mutex<HashMap<ChunkHash, Slot>>,
    /// Listings of `chunks/<2 hex>` made since W1. What was put since by others is missed, which costs a duplicate and no safety.
    shards: Mutex<HashMap<u8, Arc<Shard>>>,
}

type Slot = Arc<Mutex<Option<(ObjectName, ChunkRecord)>>>;
type Shard = HashMap<ChunkHash, Vec<ObjectName>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Begins a save (W1).
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; `Corrupt` if a collector's round can not be read.
    pub fn begin_save(&self) -> Result<SaveSession> {
        self.check_writable()?;
        Ok(SaveSession {
            rounds: self.list_rounds()?,
            store: self.clone(),
            placed: Mutex::default(),
            shards: Mutex::default(),
        })
    }
}

impl SaveSession {
    /// Makes a chunk part of this save: finds an object of it in the store, or puts its raw bytes (W2).
    ///
    /// # Errors
    /// `Invalid` if it is empty or larger than 64 MiB; else as the store says.
    pub fn put_chunk(&self, data: Bytes, sum: ChunkSum) -> Result<PutChunk> {
        let bytes = data.len() as u64;
        if bytes == 0 || bytes > MAX_CHUNK_BYTES {
            return Err(Error::invalid(format!(
                "a chunk has 1 to {MAX_CHUNK_BYTES} bytes, this one {bytes}"
            )));
        }
        let slot = self.slot(sum.hash);
        let mut placed = lock(&slot);
        if let Some((_, record)) = placed.as_ref() {
            return Ok(PutChunk {
                record: record.clone(),
                written: 0,
            });
        }
        let (name, written) = match self.find(sum.hash, bytes)? {
            Some(name) => (name, 0),
            None => (self.store.put_raw(sum.hash, &data)?, bytes),
        };
        let record = ChunkRecord {
            hash: sum.hash,
            bytes,
            crc64: sum.crc64,
            object: name.to_string(),
        };
        *placed = Some((name, record.clone()));
        Ok(PutChunk { record, written })
    }

    /// Makes a chunk that another part references part of this save, without its bytes: `None` if no object of it is here that a save may rely on.
    ///
    /// # Errors
    /// As the store says.
    pub fn reference(&self, chunk: &ChunkRecord) -> Result<Option<ChunkRecord>> {
        let slot = self.slot(chunk.hash);
        let mut placed = lock(&slot);
        if let Some((_, record)) = placed.as_ref() {
            return Ok(Some(record.clone()));
        }
        let Some(name) = self.find(chunk.hash, chunk.bytes)? else {
            return Ok(None);
        };
        let record = ChunkRecord {
            object: name.to_string(),
            ..chunk.clone()
        };
        *placed = Some((name, record.clone()));
        Ok(Some(record))
    }

    /// Makes every chunk of this save durable, without anything that names them: they are another object of what is needed already.
    ///
    /// # Errors
    /// As the disk says.
    pub fn make_durable(&self) -> Result<()> {
        let placed = self.placed();
        let paths: Vec<_> = placed
            .iter()
            .map(|(name, _)| layout::chunk_object(name))
            .collect();
        self.store.sync_dirs(&paths)
    }

    /// Every chunk of this save, with the object that stands for it.
    pub(super) fn placed(&self) -> Vec<(ObjectName, ChunkRecord)> {
        let slots: Vec<Slot> = lock(&self.placed).values().cloned().collect();
        slots.iter().filter_map(|slot| lock(slot).clone()).collect()
    }

    /// Publishes the part (W3): first everything it references is made durable, hits included, because a hit may be a moment old itself. Then its name is
    /// taken: equal content is success, other content a conflict, and the first stays.
    ///
    /// Before calling it the writer's journal must be durable through every point logged before the save.
    ///
    /// # Errors
    /// `Invalid` if the manifest is wrong or references a chunk that this session did not place; `Conflict` if the part exists with other content or another
    /// declared part set; else as the store says.
    pub fn publish(self, manifest: PartManifest) -> Result<PublishedPart> {
        manifest
            .check()
            .map_err(|error| Error::invalid("the part can not be published").with_source(error))?;
        let mut objects = HashMap::new();
        for chunk in &manifest.chunks {
            let slot = self.slot(chunk.hash);
            let placed = lock(&slot);
            let Some((name, _)) = placed.as_ref() else {
                return Err(Error::invalid(format!(
                    "chunk {} of the part was neither put nor found by this save",
                    chunk.hash
                )));
            };
            objects.insert(chunk.hash, *name);
        }
        let paths: Vec<_> = objects.values().map(layout::chunk_object).collect();
        self.store.sync_dirs(&paths)?;
        PublishedPart::create(self.store, self.rounds, manifest, objects)
    }

    fn slot(&self, hash: ChunkHash) -> Slot {
        Arc::clone(lock(&self.placed).entry(hash).or_default())
    }

    /// An object of the hash that is in the store (by HEAD or LIST of the store itself), decodable, and in no open round.
    fn find(&self, hash: ChunkHash, bytes: u64) -> Result<Option<ObjectName>> {
        if let Some(name) = self.store.remembered(&hash) {
            if self.store.is_hit(&name, bytes, &self.rounds)? {
                return Ok(Some(name));
            }
            self.store.forget(&hash);
        }
        let shard = self.shard(hash)?;
        self.store
            .first_hit(shard.get(&hash).into_iter().flatten(), bytes, &self.rounds)
    }

    fn shard(&self, hash: ChunkHash) -> Result<Arc<Shard>> {
        let index = hash.as_bytes()[0];
        if let Some(shard) = lock(&self.shards).get(&index) {
            return Ok(Arc::clone(shard));
        }
        let mut shard = Shard::new();
        for (name, is_directory) in self.store.names(&layout::chunk_shard(hash))? {
            if let (false, Ok(name)) = (is_directory, name.parse::<ObjectName>()) {
                shard.entry(name.hash).or_default().push(name);
            }
        }
        for objects in shard.values_mut() {
            objects.sort_by_key(|name| (name.encoding, name.put));
        }
        let shard = Arc::new(shard);
        lock(&self.shards).insert(index, Arc::clone(&shard));
        Ok(shard)
    }
}

impl Store {
    /// Whether a save that saw `rounds` may rely on an object: it is there, could hold the chunk, and nobody wants to delete it.
    pub(crate) fn is_hit(&self, name: &ObjectName, bytes: u64, rounds: &Rounds) -> Result<bool> {
        if rounds.condemns(name) {
            return Ok(false);
        }
        let Some(meta) = self.head(&layout::chunk_object(name))? else {
            return Ok(false);
        };
        Ok(match name.encoding {
            // A file that was cut short is no copy of the chunk.
            ObjectEncoding::Raw => meta.size == bytes,
            ObjectEncoding::Planes => meta.size > encoded::FOOTER_BYTES as u64,
            // It stands and falls with its base, which a look at it alone does not show.
            ObjectEncoding::Delta(_) => false,
        })
    }

    pub(crate) fn first_hit<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ObjectName>,
        bytes: u64,
        rounds: &Rounds,
    ) -> Result<Option<ObjectName>> {
        for name in names {
            if self.is_hit(name, bytes, rounds)? {
                return Ok(Some(*name));
            }
        }
        Ok(None)
    }

    /// Puts raw bytes under a fresh name; durable after [`Store::sync_dirs`].
    pub(crate) fn put_raw(&self, hash: ChunkHash, data: &Bytes) -> Result<ObjectName> {
        self.put_object(hash, ObjectEncoding::Raw, &data.clone().into())
    }

    /// Puts an object of a chunk under a fresh name; durable after [`Store::sync_dirs`].
    pub(crate) fn put_object(
        &self,
        hash: ChunkHash,
        encoding: ObjectEncoding,
        data: &PutPayload,
    ) -> Result<ObjectName> {
        let mut tries = 0;
        loop {
            tries += 1;
            let name = ObjectName {
                hash,
                put: self.new_put_id(),
                encoding,
            };
            let path = layout::chunk_object(&name);
            match self.put_chunk_object(&path, data.clone()) {
                Ok(()) => {
                    if encoding == ObjectEncoding::Raw {
                        self.remember(name);
                    }
                    return Ok(name);
                }
                // Whatever became of it: the next try has another name, so nothing depends on the answer.
                Err(error) if tries < tries_of(&error) && is_worth_another(&error) => {}
                // Nobody else can have the name: it is its own, sent twice, or a server that says so when it is busy.
                Err(error @ ObjectError::AlreadyExists { .. }) => {
                    return Err(Error::unavailable(format!(
                        "can not write {path}: the server says each time that it exists"
                    ))
                    .with_source(error));
                }
                Err(error) => return Err(from_object(error, &format!("write {path}"))),
            }
        }
    }
}

fn tries_of(error: &ObjectError) -> u32 {
    if is_local(error) {
        PUT_TRIES
    } else {
        PUT_TRIES_OF_A_SERVER
    }
}

fn is_worth_another(error: &ObjectError) -> bool {
    matches!(
        error,
        ObjectError::Generic { .. }
            | ObjectError::AlreadyExists { .. }
            // The temporary file was swept away as a leftover.
            | ObjectError::NotFound { .. }
    )
}
