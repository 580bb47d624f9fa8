//! The handle on one store: its bytes, its index, a clock and randomness.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::{Clock, Error, Result, RunId, Timestamp, WriterId, wire};
use runtree_index::{Index, Liveness, Snapshot, SqliteIndex};
use runtree_store::remote::{RemoteAddress, Settings};
use runtree_store::{Mode, SettingsCache, Store};

use crate::builder::{OsEntropy, SystemClock};
use crate::fold::FoldState;

/// A launch that was not heard of for longer, and never said goodbye, is lost.
pub(crate) const LOST_AFTER_MICROS: i64 = 60_000_000;

/// A source of randomness, passed in so that tests can repeat themselves.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// 128 random bits.
    fn bits(&self) -> u128;
}

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Writes nothing into the store.
    ReadOnly,
    /// The store must exist.
    ReadWrite,
    /// Makes the store if it is not there.
    Create,
}

/// What [`Engine::open`] needs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The store's directory, or the address of a bucket (`s3://bucket/prefix`).
    pub location: PathBuf,
    /// How buckets are accessed: what the environment says (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    pub settings: Settings,
    /// How to open it.
    pub mode: OpenMode,
    /// The user's cache folder for runtree; the index goes into a folder of its own inside.
    pub cache_dir: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Whether live runs encode their cold checkpoints in the background.
    pub encode: bool,
    /// Bytes of a journal after which a live run seals them in the background; it then also seals when it finishes, and what an earlier launch left.
    pub seal: Option<u64>,
    /// How a refresh of the index goes through the store.
    pub scan: ScanOptions,
}

/// How a refresh of the index goes through the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// A store of at most this many runs is looked at closely as a whole, however busy the machine: what another process wrote is seen at once.
    pub small_store: usize,
    /// Runs of a larger store that each refresh looks at closely: 8 questions each, some milliseconds in all.
    pub round: usize,
    /// A refresh of a larger store that took `t` is not repeated within this many `t`, and half a minute.
    pub throttle: u32,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            small_store: 256,
            round: 250,
            throttle: 8,
        }
    }
}

impl EngineOptions {
    /// Options with the system's clock and randomness, creating the store if it is not there.
    pub fn new(location: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            location: location.into(),
            settings: Settings::new(),
            mode: OpenMode::Create,
            cache_dir: cache_dir.into(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            encode: false,
            seal: None,
            scan: ScanOptions::default(),
        }
    }

    /// The same for a trainer: what it saves is encoded in the background when it is cold.
    pub fn with_encoder(mut self) -> Self {
        self.encode = true;
        self
    }

    /// The same for a trainer: what it logs is sealed in the background.
    pub fn with_sealer(mut self) -> Self {
        self.seal = Some(crate::seal::SEAL_BYTES);
        self
    }

    /// The same with what is needed to access buckets.
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The same with another mode.
    pub fn with_mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }
}

/// An open store with its index.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) store: Store,
    saver: crate::save::Saver,
    encoder: crate::encode::Encoder,
    sealer: crate::seal::Sealer,
    retainer: crate::retain::Retainer,
    pub(crate) gc: crate::gc::Memory,
    pub(crate) index: SqliteIndex,
    pub(crate) fold: FoldState,
    pub(crate) settings: SettingsCache,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("location", &self.options.location)
            .field("mode", &self.options.mode)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a store.
    ///
    /// # Errors
    /// `NotFound` if it is not there and may not be made; `Unsupported` if a newer runtree made it.
    pub fn open(options: EngineOptions) -> Result<Arc<Self>> {
        let now = options.clock.now();
        let store = open_store(&options.location, &options.settings, options.mode, now)?;
        Self::over(store, options)
    }

    /// Opens a store that is already there as a handle: one with a meter or faults around its objects.
    ///
    /// # Errors
    /// `Unavailable` if the index can not be opened.
    pub fn over(store: Store, options: EngineOptions) -> Result<Arc<Self>> {
        let index = SqliteIndex::open(&index_dir(&store, &options))?;
        Ok(Arc::new(Self {
            options,
            store,
            saver: crate::save::Saver::new(None),
            encoder: crate::encode::Encoder::default(),
            sealer: crate::seal::Sealer::default(),
            retainer: crate::retain::Retainer::default(),
            gc: crate::gc::Memory::default(),
            index,
            fold: FoldState::default(),
            settings: SettingsCache::default(),
        }))
    }

    /// The store's bytes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What all saves of this process share.
    pub(crate) fn saver(&self) -> &crate::save::Saver {
        &self.saver
    }

    /// What encodes in the background.
    pub(crate) fn encoder(&self) -> &crate::encode::Encoder {
        &self.encoder
    }

    /// What seals in the background.
    pub(crate) fn sealer(&self) -> &crate::seal::Sealer {
        &self.sealer
    }

    /// What prunes in the background.
    pub(crate) fn retainer(&self) -> &crate::retain::Retainer {
        &self.retainer
    }

    /// Where the store is, as a user writes it.
    pub fn location(&self) -> String {
        self.options.location.display().to_string()
    }

    /// What the server says about the store.
    pub fn store_info(&self) -> wire::StoreInfo {
        wire::StoreInfo {
            id: self.store.id().to_string(),
            location: self.location(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            writable: self.is_writable(),
        }
    }

    /// Whether this handle may write into the store.
    pub fn is_writable(&self) -> bool {
        self.options.mode != OpenMode::ReadOnly
    }

    /// Folder of the caches that belong to this store at this place: its index, materialised checkpoints.
    pub fn cache_dir(&self) -> PathBuf {
        index_dir(&self.store, &self.options)
    }

    /// Where staging memory of this store at this place lies.
    pub(crate) fn shelf(&self) -> String {
        place_name(&self.store, &self.options)
    }

    pub(crate) fn require_writable(&self) -> Result<()> {
        if self.is_writable() {
            return Ok(());
        }
        Err(Error::denied(format!(
            "store {} was opened for reading only",
            self.location()
        )))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(crate) fn new_run_id(&self) -> RunId {
        let millis = u64::try_from(self.now().0 / 1000).unwrap_or(0);
        RunId::from_parts(millis, self.options.entropy.bits())
    }

    pub(crate) fn new_writer_id(&self) -> WriterId {
        WriterId::from_bits(self.options.entropy.bits() as u64)
    }

    pub(crate) fn liveness(&self) -> Liveness {
        Liveness {
            now: self.now(),
            lost_after_micros: LOST_AFTER_MICROS,
        }
    }

    /// One consistent view of what is folded. Callers refresh first.
    pub(crate) fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>> {
        self.index.snapshot()
    }
}

/// Opens the store at a place: a directory, or the address of a bucket.
///
/// # Errors
/// As [`Store::open`], [`Store::create`] and their like for buckets.
pub fn open_store(
    location: &Path,
    settings: &Settings,
    mode: OpenMode,
    now: Timestamp,
) -> Result<Store> {
    let Some(address) = address_of(location)? else {
        return match mode {
            OpenMode::ReadOnly => Store::open(location, Mode::ReadOnly),
            OpenMode::ReadWrite => Store::open(location, Mode::ReadWrite),
            OpenMode::Create => Store::create(location, now),
        };
    };
    match mode {
        OpenMode::ReadOnly => Store::open_remote(&address, settings, Mode::ReadOnly),
        OpenMode::ReadWrite => Store::open_remote(&address, settings, Mode::ReadWrite),
        OpenMode::Create => Store::create_remote(&address, settings, now),
    }
}

/// The bucket that a place is in, if it is in one.
pub(crate) fn address_of(location: &Path) -> Result<Option<RemoteAddress>> {
    match location.to_str() {
        Some(text) if RemoteAddress::is_one(text) => text.parse().map(Some),
        _ => Ok(None),
    }
}

/// `<cache>/<store id>-<hash of location>`: two copies of one store never share an index.
fn index_dir(store: &Store, options: &EngineOptions) -> PathBuf {
    options.cache_dir.join(place_name(store, options))
}

/// What this store at this place is called where several are kept apart: a copy of a store has its id.
fn place_name(store: &Store, options: &EngineOptions) -> String {
    let location = match address_of(&options.location) {
        Ok(Some(address)) => PathBuf::from(address.to_string()),
        Ok(None) | Err(_) => std::fs::canonicalize(&options.location)
            .or_else(|_| std::path::absolute(&options.location))
            .unwrap_or_else(|_| options.location.clone()),
    };
    let digest = blake3::hash(location.as_os_str().as_encoded_bytes());
    format!("{}-{}", store.id(), &digest.to_hex()[..16])
}
