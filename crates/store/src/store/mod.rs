//! The handle of a store.

use std::path::Path as FsPath;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{
    Error as ObjectError, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload,
};
use runtree_core::manifest::{MAX_RECORD_BYTES, Record, StoreRecord};
use runtree_core::{ChunkHash, Error, PutId, Result, StoreId};

use crate::error::{from_object, is_definite};
use crate::layout::{ObjectName, ObjectPath};
use crate::local::{DirSync, DirectorySync, LocalStore};
use crate::wait::block_on;

mod listing;
mod open;
mod outline;
mod records;
mod segments;
mod stamp;
mod time;
mod touches;

pub use listing::{ListedJournal, ListedPart};
pub use outline::OutlinedChunk;
pub use records::{Tombstone, parse_part_manifest};
pub use stamp::{RunStamp, RunTrace};
pub use touches::Touches;

/// How often a create whose answer was lost is tried again after reading back.
const CREATE_TRIES: u32 = 4;

/// Most put names remembered by a process: a few hundred bytes each.
const MAX_REMEMBERED: usize = 1 << 16;

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is ever written.
    ReadOnly,
    /// Reads and writes. Opening alone writes nothing.
    ReadWrite,
}

/// What a conditional create found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// The name was free; the object is durable.
    Created,
    /// The same bytes were there already, and are durable now: somebody else wrote the same facts, or an earlier try of ours did.
    ExistsEqual,
    /// Other bytes have the name.
    ExistsOther(Bytes),
}

impl Created {
    /// Success if the object now is what was asked for.
    ///
    /// # Errors
    /// `Conflict` if something else has the name.
    pub fn or_conflict(self, what: impl FnOnce() -> String) -> Result<()> {
        match self {
            Self::Created | Self::ExistsEqual => Ok(()),
            Self::ExistsOther(_) => Err(Error::conflict(what())),
        }
    }
}

/// Where put ids and the store's id come from: 64 random bits per call. Simulations pass a seeded one.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A store. Cheap to clone; every method blocks the calling thread, none needs a runtime.
///
/// Methods take what they need and say what they found; policy (what to delete, what to fork) lives in the engine. All of them may be called
/// from any number of threads and processes at once: names decide, by conditional create, and no lock is needed for correctness.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// Set if the objects are files: journals are appended there.
    local: Option<LocalStore>,
    /// Set if a put is durable only with its directory.
    directories: Option<Arc<dyn DirectorySync>>,
    record: StoreRecord,
    mode: Mode,
    random: Random,
    /// Objects that this process put lately. A hint: used only after a HEAD of the store.
    remembered: Memory,
    /// Objects that served readers whose manifest names another one: cold chunks are re-encoded after their part was written. A hint as well.
    served: Memory,
}

/// Object names by hash, a bounded number of them.
#[derive(Default)]
struct Memory(std::sync::Mutex<std::collections::HashMap<ChunkHash, ObjectName>>);

impl Memory {
    fn get(&self, hash: &ChunkHash) -> Option<ObjectName> {
        self.lock().get(hash).copied()
    }

    fn insert(&self, name: ObjectName) {
        let mut names = self.lock();
        if names.len() >= MAX_REMEMBERED {
            names.clear();
        }
        names.insert(name.hash, name);
    }

    fn remove(&self, hash: &ChunkHash) {
        self.lock().remove(hash);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<ChunkHash, ObjectName>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("id", &self.id())
            .field("objects", &self.inner.objects.to_string())
            .field("mode", &self.inner.mode)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The store's id.
    pub fn id(&self) -> StoreId {
        self.inner.record.id
    }

    /// What the store is.
    pub fn record(&self) -> &StoreRecord {
        &self.inner.record
    }

    /// What it was opened for.
    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// The directory, if the store is one.
    pub fn root(&self) -> Option<&FsPath> {
        self.inner.local.as_ref().map(LocalStore::root)
    }

    /// The objects themselves.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.inner.objects
    }

    pub(crate) fn local(&self) -> Option<&LocalStore> {
        self.inner.local.as_ref()
    }

    pub(crate) fn new_put_id(&self) -> PutId {
        PutId::from_bits((self.inner.random)())
    }

    /// 64 bits that nobody else draws.
    pub(crate) fn random_bits(&self) -> u64 {
        (self.inner.random)()
    }

    pub(crate) fn remembered(&self, hash: &ChunkHash) -> Option<ObjectName> {
        self.inner.remembered.get(hash)
    }

    pub(crate) fn remember(&self, name: ObjectName) {
        self.inner.remembered.insert(name);
    }

    pub(crate) fn forget(&self, hash: &ChunkHash) {
        self.inner.remembered.remove(hash);
    }

    pub(crate) fn served(&self, hash: &ChunkHash) -> Option<ObjectName> {
        self.inner.served.get(hash)
    }

    pub(crate) fn remember_served(&self, name: ObjectName) {
        self.inner.served.insert(name);
    }

    /// Refuses to write through a handle that was opened for reading.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.inner.mode {
            Mode::ReadWrite => Ok(()),
            Mode::ReadOnly => Err(Error::denied(format!(
                "the store {} is open for reading only",
                self.inner.objects
            ))),
        }
    }

    /// Makes what was put into the directories of these objects durable, by whomever. Nothing to do where a put is durable by itself.
    ///
    /// # Errors
    /// As the disk says; `NotFound` if there is no such directory.
    pub fn sync_dirs<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectPath>) -> Result<()> {
        match &self.inner.directories {
            Some(directories) => directories
                .sync_dirs(&mut objects.into_iter())
                .map_err(|error| from_object(error, "make objects durable")),
            None => Ok(()),
        }
    }

    /// Reads a whole object of at most 1 GiB.
    ///
    /// # Errors
    /// `NotFound` if it is not there; `Corrupt` if it is larger than any record.
    pub fn read_bytes(&self, path: &ObjectPath) -> Result<Bytes> {
        self.try_read_bytes(path)?
            .ok_or_else(|| Error::not_found(format!("{path} is not in the store")))
    }

    /// Reads a whole object of at most 1 GiB, if it is there.
    ///
    /// # Errors
    /// `Corrupt` if it is larger than any record.
    pub fn try_read_bytes(&self, path: &ObjectPath) -> Result<Option<Bytes>> {
        let read = async {
            let result = self.inner.objects.get(path).await?;
            if result.meta.size > MAX_RECORD_BYTES {
                return Ok(Err(Error::corrupt(format!(
                    "{path} has {} bytes, no record has more than {MAX_RECORD_BYTES}",
                    result.meta.size
                ))));
            }
            let size = result.meta.size;
            let bytes = match result.payload {
                GetResultPayload::File(file, _) => read_file(&file, size, path)?,
                payload @ GetResultPayload::Stream(_) => {
                    object_store::GetResult { payload, ..result }
                        .bytes()
                        .await?
                }
            };
            Ok(Ok(bytes))
        };
        match block_on(read) {
            Ok(bytes) => bytes.map(Some),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_object(error, &format!("read {path}"))),
        }
    }

    /// Creates an object if its name is free; it is durable when this returns.
    ///
    /// After an answer that leaves open whether the object was written (a timeout of a bucket), it is read back and compared. A local
    /// disk leaves nothing open: its error is the answer.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the store says.
    pub fn create_bytes(&self, path: &ObjectPath, bytes: Bytes) -> Result<Created> {
        self.check_writable()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let options = PutOptions::from(PutMode::Create);
            let put = self
                .inner
                .objects
                .put_opts(path, bytes.clone().into(), options);
            let Err(error) = block_on(put) else {
                return Ok(Created::Created);
            };
            if !matches!(error, ObjectError::AlreadyExists { .. }) && is_definite(&error) {
                return Err(from_object(error, &format!("create {path}")));
            }
            match self.try_read_bytes(path)? {
                Some(there) if there == bytes => {
                    // Its writer may not have come to sync the directory yet, and our caller will say that it is durable.
                    self.sync_dirs([path])?;
                    return Ok(Created::ExistsEqual);
                }
                Some(there) => return Ok(Created::ExistsOther(there)),
                None if tries < CREATE_TRIES => {}
                None => return Err(from_object(error, &format!("create {path}"))),
            }
        }
    }

    /// Writes an object whatever is there. For pins, the only objects that change.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the store says.
    pub fn overwrite_bytes(&self, path: &ObjectPath, bytes: Bytes) -> Result<()> {
        self.check_writable()?;
        block_on(self.inner.objects.put(path, bytes.into()))
            .map(drop)
            .map_err(|error| from_object(error, &format!("write {path}")))
    }

    /// Deletes an object; one that is not there is deleted already. For pins and leftovers: chunks are deleted by gc rounds alone.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the store says.
    pub fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.check_writable()?;
        match block_on(self.inner.objects.delete(path)) {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(error) => Err(from_object(error, &format!("delete {path}"))),
        }
    }

    /// Deletes chunk objects, many at a time: a directory is made durable once for many of them.
    pub(crate) fn delete_objects(&self, objects: &[ObjectName]) -> Result<()> {
        self.check_writable()?;
        let paths: Vec<_> = objects
            .iter()
            .map(|object| Ok(crate::layout::chunk_object(object)))
            .collect();
        let paths = futures::stream::iter(paths).boxed();
        let mut deleted = self.inner.objects.delete_stream(paths);
        while let Some(result) = block_on(deleted.next()) {
            match result {
                Ok(_) | Err(ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(from_object(error, "delete chunk objects")),
            }
        }
        Ok(())
    }

    /// Bytes that are free where the store is; `None` if it is not on a local disk.
    pub fn free_bytes(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(self.root()?).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Removes temporary files of chunks that nobody has written to for `idle`, as killed writers leave them; returns how many, and their bytes. Nothing is
    /// removed from a store that is not on a local disk.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; else as the disk says.
    pub fn remove_leftovers(&self, idle: std::time::Duration) -> Result<(u64, u64)> {
        self.check_writable()?;
        self.inner.local.as_ref().map_or(Ok((0, 0)), |local| {
            local
                .remove_leftovers(idle)
                .map_err(|error| from_object(error, "remove leftover files"))
        })
    }

    /// Whether an object is there, and how large it is.
    ///
    /// # Errors
    /// As the store says.
    pub fn head(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        match block_on(self.inner.objects.head(path)) {
            Ok(meta) => Ok(Some(meta)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_object(error, &format!("look for {path}"))),
        }
    }

    /// Puts a chunk object under a fresh name, not durable before [`Store::sync_dirs`].
    pub(crate) fn put_chunk_object(
        &self,
        path: &ObjectPath,
        bytes: PutPayload,
    ) -> Result<(), ObjectError> {
        let mut options = PutOptions::from(PutMode::Create);
        options.extensions.insert(DirSync::Later);
        block_on(self.inner.objects.put_opts(path, bytes, options)).map(drop)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if it is not such a record; `Unsupported` if it is of a newer version.
    pub fn read_record<T: Record>(&self, path: &ObjectPath) -> Result<T> {
        T::load(&self.read_bytes(path)?, path.as_ref())
    }

    /// Reads a record, if it is there.
    ///
    /// # Errors
    /// As [`Store::read_record`], but for `NotFound`.
    pub fn try_read_record<T: Record>(&self, path: &ObjectPath) -> Result<Option<T>> {
        self.try_read_bytes(path)?
            .map(|bytes| T::load(&bytes, path.as_ref()))
            .transpose()
    }

    /// Creates a record if its name is free: see [`Store::create_bytes`].
    ///
    /// # Errors
    /// As [`Store::create_bytes`].
    pub fn create_record<T: Record>(&self, path: &ObjectPath, record: &T) -> Result<Created> {
        self.create_bytes(path, record.to_bytes().into())
    }
}

fn read_file(file: &std::fs::File, size: u64, path: &ObjectPath) -> Result<Bytes, ObjectError> {
    use std::os::unix::fs::FileExt as _;
    let mut buffer = vec![0; size as usize];
    file.read_exact_at(&mut buffer, 0)
        .map_err(|error| ObjectError::Generic {
            store: "local",
            source: format!("read {path}: {error}").into(),
        })?;
    Ok(buffer.into())
}
