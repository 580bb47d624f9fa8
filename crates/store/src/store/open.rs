//! Creating and opening stores.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::Path as FsPath;
use std::sync::Arc;

use futures::future::ready;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Error as ObjectError, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
};
use runtree_core::manifest::{Record as _, StoreRecord};
use runtree_core::{Error, Result, StoreId, Timestamp};

use super::{Created, Inner, Memory, Mode, Random, Store};
use crate::error::from_object;
use crate::layout::{self, ObjectPath};
use crate::local::{DirectorySync, LocalStore};
use crate::remote::{self, RemoteAddress, Settings};
use crate::wait::block_on;

/// Writers list the chunks that journals name below `files/` of the run, so that collectors need not read journals; and closed rounds may be removed.
const FILE_LISTS: &str = "file-lists";

/// Features of a store that this build understands. A store that requires another one is refused.
const KNOWN_FEATURES: &[&str] = &[FILE_LISTS];

/// Racers of the probe: enough that a store that decides by "look, then write" lets two of them win.
const PROBE_RACERS: usize = 8;

/// What may lie in a directory that becomes a store: what an interrupted creation left, and what file systems put there.
const HARMLESS: &[&str] = &[".gitignore", "lost+found", ".DS_Store"];

/// What only a store has. A directory that holds one of them and no `runtree.json` lost it.
const DIRECTORIES: &[&str] = &["chunks", "runs", "projects", "gc"];

fn system_random() -> Random {
    Arc::new(crate::random::system_random)
}

impl Store {
    /// Makes `path` a store, or opens the store that it is. `now` goes into the new store's record.
    ///
    /// Several processes may do this at once: they end up with the same store.
    ///
    /// # Errors
    /// `Invalid` if the directory holds something else; `Unsupported` if conditional creates are not atomic there; `Denied`, `Unavailable` as the
    /// disk says.
    pub fn create(path: &FsPath, now: Timestamp) -> Result<Self> {
        Self::create_with(path, now, system_random())
    }

    /// [`Store::create`] with a source of randomness.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_with(path: &FsPath, now: Timestamp, random: Random) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| {
            let message = format!("can not create the store {}", path.display());
            io_error(message, error)
        })?;
        let local = LocalStore::new(path)
            .map_err(|error| from_object(error, &format!("open the store {}", path.display())))?;
        let objects: Arc<dyn ObjectStore> = Arc::new(local.clone());
        let record = if let Some(record) = read_store_record(&objects)? {
            record
        } else {
            check_empty(&local, path)?;
            let record = initialise(&objects, Some(&local), now, &random)?;
            sync_parent(local.root())?;
            record
        };
        Self::assemble(objects, Some(local), record, Mode::ReadWrite, random)
    }

    /// Opens the store at `path`. Writes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no store; `Unsupported` if this build lacks a feature that it requires.
    pub fn open(path: &FsPath, mode: Mode) -> Result<Self> {
        Self::open_wrapped(path, mode, |objects| objects)
    }

    /// Opens the store at `path` with a wrapper around its objects: a [`Meter`](crate::wrappers::Meter), a fault of a test.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_wrapped(
        path: &FsPath,
        mode: Mode,
        wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Result<Self> {
        let local = match LocalStore::new(path) {
            Ok(local) => local,
            Err(ObjectError::NotFound { .. }) => return Err(no_store(&path.display())),
            Err(error) => {
                let what = format!("open the store {}", path.display());
                return Err(from_object(error, &what));
            }
        };
        let objects = wrap(Arc::new(local.clone()));
        let Some(record) = read_store_record(&objects)? else {
            let holds = DIRECTORIES
                .iter()
                .find(|name| local.root().join(name).is_dir());
            return Err(match holds {
                Some(name) => lost_identity(path, name),
                None => no_store(&path.display()),
            });
        };
        Self::assemble(objects, Some(local), record, mode, system_random())
    }

    /// Makes an address in a bucket a store, or opens the one that is there. The bucket must exist.
    ///
    /// # Errors
    /// `NotFound` if the bucket is not there, `Denied` if it may not be written to; `Invalid` if the address holds something else; `Unsupported` if the server
    /// ignores conditions on writes, or lets two of them win.
    pub fn create_remote(
        address: &RemoteAddress,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Self> {
        let objects = remote::connect(address, settings)?;
        let record = if let Some(record) = read_remote_record(&objects, address)? {
            record
        } else {
            check_nothing_else(&objects, address)?;
            initialise(&objects, None, now, &system_random())
                .map_err(|error| error.in_context(format!("{address} can not become a store")))?
        };
        Self::assemble(objects, None, record, Mode::ReadWrite, system_random())
    }

    /// Opens the store at an address in a bucket. Writes nothing.
    ///
    /// # Errors
    /// `NotFound`, that says whether the bucket is missing, the address empty, or something else there; `Denied`; `Unsupported` if this build lacks a feature that
    /// the store requires.
    pub fn open_remote(address: &RemoteAddress, settings: &Settings, mode: Mode) -> Result<Self> {
        let objects = remote::connect(address, settings)?;
        let Some(record) = read_remote_record(&objects, address)? else {
            return Err(match first_object(&objects, address)? {
                None => Error::not_found(format!("{address} is empty: there is no runtree store"))
                    .with_hint("push to it, or start a run with it as its store, to make one"),
                Some(other) => Error::not_found(format!(
                    "{address} holds no runtree store, but something else: {other}"
                ))
                .with_hint("check the prefix; runtree import reads what other systems wrote"),
            });
        };
        Self::assemble(objects, None, record, mode, system_random())
    }

    /// Makes a store over any objects, or opens the one that is there.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_over(objects: Arc<dyn ObjectStore>, now: Timestamp) -> Result<Self> {
        Self::create_over_with(objects, now, system_random())
    }

    /// [`Store::create_over`] with a source of randomness.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_over_with(
        objects: Arc<dyn ObjectStore>,
        now: Timestamp,
        random: Random,
    ) -> Result<Self> {
        let record = match read_store_record(&objects)? {
            Some(record) => record,
            None => initialise(&objects, None, now, &random)?,
        };
        Self::assemble(objects, None, record, Mode::ReadWrite, random)
    }

    /// Opens a store over any objects.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_over(objects: Arc<dyn ObjectStore>, mode: Mode) -> Result<Self> {
        let record = read_store_record(&objects)?.ok_or_else(|| no_store(&objects))?;
        Self::assemble(objects, None, record, mode, system_random())
    }

    /// Opens a store over objects that are durable only when their directories were synced: a disk whose power a simulation cuts.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_over_disk(
        objects: Arc<dyn ObjectStore>,
        directories: Arc<dyn DirectorySync>,
        random: Random,
    ) -> Result<Self> {
        let record = read_store_record(&objects)?.ok_or_else(|| no_store(&objects))?;
        let mut inner = Self::inner(objects, None, record, Mode::ReadWrite, random)?;
        inner.directories = Some(directories);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether everybody who writes to this store lists what journals name ([`Store::list_file_lists`]), and knows that closed rounds may be gone. Stores of before do not
    /// ask it of their writers.
    pub fn has_file_lists(&self) -> bool {
        let required = &self.record().required_to_write;
        required.iter().any(|feature| feature == FILE_LISTS)
    }

    fn assemble(
        objects: Arc<dyn ObjectStore>,
        local: Option<LocalStore>,
        record: StoreRecord,
        mode: Mode,
        random: Random,
    ) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(Self::inner(objects, local, record, mode, random)?),
        })
    }

    fn inner(
        objects: Arc<dyn ObjectStore>,
        local: Option<LocalStore>,
        record: StoreRecord,
        mode: Mode,
        random: Random,
    ) -> Result<Inner> {
        check_features(&record, mode, KNOWN_FEATURES)?;
        let directories = local.clone().map(|local| Arc::new(local) as Arc<_>);
        Ok(Inner {
            objects,
            local,
            directories,
            record,
            mode,
            random,
            remembered: Memory::default(),
            served: Memory::default(),
        })
    }
}

fn lost_identity(path: &FsPath, name: &str) -> Error {
    Error::corrupt(format!(
        "{} holds {name}/ but no runtree.json: it is a store whose identity is lost",
        path.display()
    ))
    .with_hint("restore runtree.json from a copy of the store")
}

fn no_store(at: &dyn std::fmt::Display) -> Error {
    Error::not_found(format!("there is no runtree store at {at}"))
        .with_hint("set RUNTREE_STORE to a store, or start a run to make one")
}

fn io_error(message: String, error: std::io::Error) -> Error {
    let mapped = match error.kind() {
        IoErrorKind::PermissionDenied | IoErrorKind::ReadOnlyFilesystem => Error::denied(message),
        IoErrorKind::NotADirectory | IoErrorKind::AlreadyExists => Error::invalid(message),
        _ => Error::unavailable(message),
    };
    mapped.with_source(error)
}

fn read_store_record(objects: &Arc<dyn ObjectStore>) -> Result<Option<StoreRecord>> {
    let path = layout::store_record();
    let read = async { objects.get(&path).await?.bytes().await };
    match block_on(read) {
        Ok(bytes) => StoreRecord::load(&bytes, path.as_ref()).map(Some),
        Err(ObjectError::NotFound { .. }) => Ok(None),
        Err(error) => Err(from_object(error, &format!("read {path} in {objects}"))),
    }
}

fn read_remote_record(
    objects: &Arc<dyn ObjectStore>,
    address: &RemoteAddress,
) -> Result<Option<StoreRecord>> {
    let path = layout::store_record();
    let read = async { objects.get(&path).await?.bytes().await };
    match block_on(read) {
        Ok(bytes) => StoreRecord::load(&bytes, &format!("{address}/{path}")).map(Some),
        Err(error) => match (remote::explain(&error, address), &error) {
            (Some(explained), _) => Err(explained.with_source(error)),
            (None, ObjectError::NotFound { .. }) => Ok(None),
            (None, _) => Err(from_object(error, &format!("read {path} in {address}"))),
        },
    }
}

/// The name of something at an address.
fn first_object(
    objects: &Arc<dyn ObjectStore>,
    address: &RemoteAddress,
) -> Result<Option<ObjectPath>> {
    let first = block_on(async {
        let mut objects = objects
            .list(None)
            .try_filter(|meta| ready(!is_folder(meta)));
        objects.next().await.transpose()
    });
    match first {
        Ok(meta) => Ok(meta.map(|meta| meta.location)),
        Err(error) => Err(match remote::explain(&error, address) {
            Some(explained) => explained.with_source(error),
            None => from_object(error, &format!("list {address}")),
        }),
    }
}

/// Whether an object stands for the folder that the address names: consoles make such, and some servers keep them when a folder is emptied.
fn is_folder(meta: &ObjectMeta) -> bool {
    meta.location.as_ref().is_empty()
}

/// An address that holds something else never becomes a store.
fn check_nothing_else(objects: &Arc<dyn ObjectStore>, address: &RemoteAddress) -> Result<()> {
    let listed = block_on(objects.list_with_delimiter(None))
        .map_err(|error| from_object(error, &format!("list {address}")))?;
    let files = listed.objects.iter().filter(|meta| !is_folder(meta));
    let files = files.map(|meta| meta.location.as_ref());
    let directories = listed.common_prefixes.iter().map(AsRef::as_ref);
    for name in files.chain(directories) {
        if DIRECTORIES.contains(&name) {
            return Err(Error::corrupt(format!(
                "{address} holds {name}/ but no runtree.json: it is a store whose identity is lost"
            ))
            .with_hint("restore runtree.json from a copy of the store"));
        }
        if !name.starts_with("probe-") {
            return Err(Error::invalid(format!(
                "{address} is not a runtree store and not empty (it holds {name:?})"
            ))
            .with_hint("name a new or empty prefix"));
        }
    }
    Ok(())
}

/// A directory that holds the remains of a store is never given a new identity, and one that holds something else never becomes a store.
fn check_empty(local: &LocalStore, path: &FsPath) -> Result<()> {
    let names = local
        .names(&ObjectPath::ROOT)
        .map_err(|error| from_object(error, &format!("list {}", path.display())))?;
    for (name, _) in names {
        if DIRECTORIES.contains(&name.as_str()) {
            // Another process may have created the store since we looked, and be at work.
            if local.root().join("runtree.json").exists() {
                return Ok(());
            }
            return Err(lost_identity(path, &name));
        }
        if !HARMLESS.contains(&name.as_str())
            && !name.starts_with("probe-")
            && name != "runtree.json"
        {
            return Err(Error::invalid(format!(
                "{} is not a runtree store and not empty (it holds {name:?})",
                path.display()
            ))
            .with_hint("name a new or empty directory"));
        }
    }
    Ok(())
}

fn initialise(
    objects: &Arc<dyn ObjectStore>,
    local: Option<&LocalStore>,
    now: Timestamp,
    random: &Random,
) -> Result<StoreRecord> {
    probe_conditional_create(objects, random)?;
    let record = StoreRecord {
        id: StoreId::from_bits(u128::from(random()) << 64 | u128::from(random())),
        created: now,
        required_to_read: Vec::new(),
        required_to_write: vec![FILE_LISTS.to_owned()],
        conditional_create: true,
    };
    if let Some(local) = local {
        // So that nobody commits a store of checkpoints to git by accident. What a user wrote there stays.
        let ignore = local.root().join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n")
                .map_err(|error| io_error(format!("can not write {}", ignore.display()), error))?;
        }
    }
    // The record is written last: what has one is whole. A handle is needed to create it, so a provisional one is made.
    let store = Store::assemble(
        Arc::clone(objects),
        local.cloned(),
        record.clone(),
        Mode::ReadWrite,
        Arc::clone(random),
    )?;
    match store.create_record(&layout::store_record(), &record)? {
        Created::Created | Created::ExistsEqual => Ok(record),
        Created::ExistsOther(winner) => StoreRecord::load(&winner, layout::store_record().as_ref()),
    }
}

/// Finds out whether a create that must not replace is atomic here: without it two ranks could both decide about one checkpoint.
///
/// First one after the other, which a server that ignores the condition betrays for certain; then all at once, for one that looks and then writes.
fn probe_conditional_create(objects: &Arc<dyn ObjectStore>, random: &Random) -> Result<()> {
    let path = ObjectPath::parse(format!("probe-{:016x}", random()))
        .expect("BUG: a probe's name is letters and digits");
    let outcome = creates_again(objects, &path).and_then(|again| {
        if again {
            return Ok(PROBE_RACERS);
        }
        winners_of_race(objects, &path)
    });
    let cleaned = block_on(objects.delete(&path))
        .map_err(|error| from_object(error, &format!("delete {path}")));
    // Who may not write may not delete either: the first answer is the one that counts.
    let winners = outcome?;
    cleaned?;
    if winners == 1 {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "{objects} does not create objects atomically: {winners} of {PROBE_RACERS} creations of one name won"
    ))
    .with_hint("put the store on a local disk, or in a bucket that honours If-None-Match"))
}

/// Whether a name that is taken can be created again. The name is free afterwards.
fn creates_again(objects: &Arc<dyn ObjectStore>, path: &ObjectPath) -> Result<bool> {
    let create = |byte: u8| {
        let options = PutOptions::from(PutMode::Create);
        block_on(objects.put_opts(path, vec![byte].into(), options))
    };
    let failed = |error| from_object(error, "probe conditional creation");
    create(0).map_err(failed)?;
    match create(1) {
        Ok(_) => Ok(true),
        Err(ObjectError::AlreadyExists { .. }) => {
            block_on(objects.delete(path)).map_err(failed)?;
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}

/// How many of many at once make a name theirs.
fn winners_of_race(objects: &Arc<dyn ObjectStore>, path: &ObjectPath) -> Result<usize> {
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..PROBE_RACERS)
            .map(|racer| {
                let objects = Arc::clone(objects);
                scope.spawn(move || {
                    let options = PutOptions::from(PutMode::Create);
                    block_on(objects.put_opts(path, vec![racer as u8].into(), options))
                })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            match racer.join().expect("BUG: a racer only puts") {
                Ok(_) => winners += 1,
                Err(ObjectError::AlreadyExists { .. }) => {}
                Err(error) => return Err(from_object(error, "probe conditional creation")),
            }
        }
        Ok(winners)
    })
}

/// Refuses a store that needs what this build does not know.
fn check_features(record: &StoreRecord, mode: Mode, known: &[&str]) -> Result<()> {
    let unknown = |required: &[String]| -> Vec<String> {
        required
            .iter()
            .filter(|feature| !known.contains(&feature.as_str()))
            .cloned()
            .collect()
    };
    let (verb, missing) = match (unknown(&record.required_to_read), mode) {
        (missing, _) if !missing.is_empty() => ("read", missing),
        (_, Mode::ReadOnly) => return Ok(()),
        (_, Mode::ReadWrite) => ("written", unknown(&record.required_to_write)),
    };
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the store can be {verb} only with the features {}, which this runtree does not know",
        missing.join(", ")
    ))
    .with_hint("upgrade runtree: pip install -U runtree"))
}

/// The new directory's own entry.
fn sync_parent(root: &FsPath) -> Result<()> {
    let Some(parent) = root.parent() else {
        return Ok(());
    };
    match fs::File::open(parent).and_then(|directory| directory.sync_all()) {
        Ok(()) => Ok(()),
        // A parent that we may not even open was not made by us.
        Err(error) if error.kind() == IoErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(io_error(
            format!("can not make {} durable", root.display()),
            error,
        )),
    }
}
