//! An actor's handle on the objects: every call waits for its turn, and is counted where it could lose something.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use runtree_store::object_store::memory::InMemory;
use runtree_store::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use runtree_store::{DirSync, ObjectPath as Path};

use super::bank::Bank;
use super::disk::Disk;
use super::lies::Lies;
use super::stage::{Stage, Turn};
use super::weather::Weather;

/// What all actors share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) objects: Arc<InMemory>,
    pub(super) disk: Arc<Disk>,
    pub(super) stage: Arc<Stage>,
    pub(super) bank: Mutex<Bank>,
    /// When each object was put, in puts of the world: the store's clock.
    stamps: Mutex<HashMap<Path, i64>>,
    clock: AtomicI64,
}

impl Shared {
    pub(super) fn new(objects: Arc<InMemory>, disk: Disk, stage: Arc<Stage>, bank: Bank) -> Self {
        Self {
            objects,
            disk: Arc::new(disk),
            stage,
            bank: Mutex::new(bank),
            stamps: Mutex::default(),
            clock: AtomicI64::new(1),
        }
    }

    /// Counts the bank; after a loss nobody moves any more.
    pub(super) fn count(&self) {
        let mut bank = self.bank.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = |path: &Path| self.stamp_of(path);
        if bank.count(&stamp).is_err() {
            self.stage.end();
        }
    }

    fn stamp_of(&self, path: &Path) -> i64 {
        let stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.get(path).copied().unwrap_or_default()
    }

    fn stamp(&self, path: &Path) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.insert(path.clone(), now);
    }
}

/// One actor's handle.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) me: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) lies: Lies,
    pub(super) weather: Weather,
}

fn killed() -> Error {
    Error::Generic {
        store: "simulation",
        source: "the actor was killed".into(),
    }
}

impl Seat {
    fn turn(&self) -> Result<Turn> {
        match self.shared.stage.turn(self.me) {
            Turn::Dead => Err(killed()),
            turn => Ok(turn),
        }
    }

    /// The answer of a call, unless the actor was killed before it heard it.
    fn hear<T>(turn: Turn, answer: Result<T>) -> Result<T> {
        if turn == Turn::Last {
            Err(killed())
        } else {
            answer
        }
    }

    async fn delete_one(&self, path: Path) -> Result<Path> {
        let turn = self.turn()?;
        self.weather.before()?;
        self.lies.before_delete(&self.shared.objects, &path).await?;
        let deleted = self.shared.objects.delete(&path).await;
        self.shared.count();
        self.weather.after(Self::hear(turn, deleted.map(|()| path)))
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {}", self.me)
    }
}

#[async_trait]
impl ObjectStore for Seat {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let turn = self.turn()?;
        self.weather.before()?;
        self.weather.conflict(&options.mode, location.as_ref())?;
        let (objects, disk) = (&self.shared.objects, &self.shared.disk);
        // Whoever is killed meanwhile has not come to sync anything.
        let is_synced = turn == Turn::Go && options.extensions.get() != Some(&DirSync::Later);
        let put = match self
            .lies
            .put(objects, location, &payload, &mut options)
            .await?
        {
            Some(lie) => Ok(lie),
            None => objects.put_opts(location, payload, options).await,
        };
        if put.is_ok() {
            if is_synced {
                disk.sync_directory_of(location);
            } else {
                disk.named(location);
            }
            self.shared.stamp(location);
            self.lies.after_put(objects, location).await?;
            if !location.as_ref().starts_with("chunks/") {
                self.shared.count();
            }
        }
        self.weather.after(Self::hear(turn, put))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.shared
            .objects
            .put_multipart_opts(location, options)
            .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let turn = self.turn()?;
        self.weather.before()?;
        let objects = self.lies.source(&self.shared.objects, location);
        let mut got = match self.lies.get(location) {
            Some(lie) => {
                let other = InMemory::new();
                other.put(location, lie.into()).await?;
                other.get_opts(location, options).await
            }
            None => objects.get_opts(location, options).await,
        };
        if let Ok(result) = &mut got {
            let stamp = self.shared.stamp_of(location);
            result.meta.last_modified = DateTime::from_timestamp(stamp, 0).unwrap_or_default();
        }
        self.weather.body(Self::hear(turn, got)?).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let turn = self.turn()?;
        self.weather.before()?;
        Self::hear(turn, self.shared.objects.get_ranges(location, ranges).await)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let seat = Self {
            me: self.me,
            shared: Arc::clone(&self.shared),
            lies: self.lies.clone(),
            weather: self.weather.another(),
        };
        let seat = Arc::new(seat);
        locations
            .then(move |location| {
                let seat = Arc::clone(&seat);
                async move { seat.delete_one(location?).await }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.shared.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let directory = prefix.map(AsRef::as_ref).unwrap_or_default();
        if directory.starts_with("chunks/") {
            // Most directories of chunks are empty here. Nothing is learnt from one that is empty on both sides of a turn.
            let listed = self.shared.objects.list_with_delimiter(prefix).await?;
            if listed.objects.is_empty() {
                return Ok(listed);
            }
        }
        let turn = self.turn()?;
        self.weather.before()?;
        let objects = self
            .lies
            .source(&self.shared.objects, prefix.unwrap_or(&Path::ROOT));
        let mut listed = objects.list_with_delimiter(prefix).await;
        if let Ok(listed) = &mut listed {
            self.lies.list(directory, listed);
        }
        Self::hear(turn, listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.shared.objects.copy_opts(from, to, options).await
    }
}
