//! The handle on one store: its bytes, its index, a clock and randomness.

use std::path::PathBuf;
use std::sync::Arc;

use runtree_core::{Clock, Error, Result, wire};

use crate::builder::{OsEntropy, SystemClock};

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
    /// The store's directory.
    pub location: PathBuf,
    /// How to open it.
    pub mode: OpenMode,
    /// The user's cache folder for runtree; the index goes into a folder of its own inside.
    pub cache_dir: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl EngineOptions {
    /// Options with the system's clock and randomness, creating the store if it is not there.
    pub fn new(location: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            location: location.into(),
            mode: OpenMode::Create,
            cache_dir: cache_dir.into(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
        }
    }

    /// The same with another mode.
    pub fn with_mode(mut self, mode: OpenMode) -> Self {
        self.mode = mode;
        self
    }
}

/// An open store with its index.
#[derive(Debug)]
pub struct Engine {
    pub(crate) options: EngineOptions,
    store: runtree_store::Store,
    saver: crate::save::Saver,
}

impl Engine {
    /// Opens a store.
    ///
    /// # Errors
    /// `NotFound` if it is not there and may not be made; `Unsupported` if a newer runtree made it.
    pub fn open(options: EngineOptions) -> Result<Arc<Self>> {
        let _ = options;
        Err(Error::internal("not built yet"))
    }

    /// The store.
    pub fn store(&self) -> &runtree_store::Store {
        &self.store
    }

    /// What all saves of this process share.
    pub(crate) fn saver(&self) -> &crate::save::Saver {
        &self.saver
    }

    /// Where the store is, as a user writes it.
    pub fn location(&self) -> String {
        self.options.location.display().to_string()
    }

    /// What the server says about the store.
    pub fn store_info(&self) -> wire::StoreInfo {
        wire::StoreInfo {
            id: String::new(),
            location: self.location(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            writable: self.options.mode != OpenMode::ReadOnly,
        }
    }
}
