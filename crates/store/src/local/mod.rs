//! A local directory as an object store: durable when a put returns, atomic under a name, exclusive when asked.
//!
//! An object is written to a temporary file in its directory, synced, and then published under its name: by a rename that refuses
//! to replace (`renameat2(RENAME_NOREPLACE)`, or a hard link where the file system has no such rename) for [`PutMode::Create`], by a plain
//! rename for [`PutMode::Overwrite`]. So no reader ever sees half an object, and of any number of processes that create one name
//! exactly one wins. Then the directory is synced, and every directory above it that this process has not yet seen synced; a save
//! that puts many objects delays that with [`DirSync::Later`] and calls [`DirectorySync::sync_dirs`] once.
//!
//! A sync that failed is never repeated for the same file: the kernel forgets the error and the second answer would be a lie. The file goes
//! away and the caller writes again; a directory whose sync failed is refused from then on ([`LocalError::poisoned`]).
//!
//! [`PutMode::Create`]: object_store::PutMode::Create
//! [`PutMode::Overwrite`]: object_store::PutMode::Overwrite

use std::fmt;
use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result,
};

mod direct;
mod directories;
mod error;
mod leftovers;
mod list;
mod multipart;
mod publish;
mod read;
mod touched;

pub use error::LocalError;

use directories::Directories;
use error::fail;
use publish::{Replace, TempFile};
pub(crate) use touched::{Entries, Look, Mark, take};

/// When the directory of a new object is synced: put into [`PutOptions::extensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirSync {
    /// Before the put returns (what happens without the extension).
    Now,
    /// When the caller says so, with [`DirectorySync::sync_dirs`]: until then the object may vanish in a power cut.
    Later,
}

/// What makes puts durable that were made with [`DirSync::Later`].
pub trait DirectorySync: fmt::Debug + Send + Sync {
    /// Makes durable whatever was put into the directories of these objects, by whomever.
    ///
    /// # Errors
    /// As the file system says; a directory whose sync failed once is refused for as long as this store is open.
    fn sync_dirs(&self, objects: &mut dyn Iterator<Item = &Path>) -> Result<()>;
}

/// A directory as an object store. Cheap to clone; clones share what they know about synced directories.
#[derive(Clone)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    directories: Directories,
    /// The root's device, if change times say there what was touched; asked once.
    stamping_device: std::sync::OnceLock<Option<u64>>,
}

impl Inner {
    fn stamping_device(&self) -> Option<u64> {
        *self
            .stamping_device
            .get_or_init(|| touched::stamping_device(&self.root))
    }
}

impl LocalStore {
    /// A store over `root`, which must be a directory; nothing is written.
    ///
    /// # Errors
    /// As the file system says.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let root = root
            .canonicalize()
            .map_err(|error| fail("open", &root, error))?;
        Ok(Self {
            inner: Arc::new(Inner {
                directories: Directories::new(root.clone()),
                root,
                stamping_device: std::sync::OnceLock::new(),
            }),
        })
    }

    /// The directory.
    pub fn root(&self) -> &FsPath {
        &self.inner.root
    }

    /// Where an object is on disk.
    ///
    /// # Errors
    /// `NotSupported` for the name of a temporary file.
    pub fn file_path(&self, location: &Path) -> Result<PathBuf> {
        let hidden = location
            .parts()
            .any(|part| part.as_ref().starts_with(crate::layout::TEMPORARY_PREFIX));
        if hidden || location.is_root() {
            return Err(Error::NotSupported {
                source: format!("{location:?} can not be the name of an object").into(),
            });
        }
        Ok(self.inner.root.join(location.as_ref()))
    }

    /// Names in a directory, unsorted, without asking for their sizes; `true` stands for a directory. Empty if it does not exist.
    ///
    /// # Errors
    /// As the file system says.
    pub fn names(&self, directory: &Path) -> Result<Vec<(String, bool)>> {
        list::names(&self.inner.root.join(directory.as_ref()))
    }

    /// Begins a file that its writer appends to: it has its name, and `header`, but nothing of it is durable yet.
    pub(crate) fn begin_file(&self, location: &Path, header: &[u8]) -> Result<(File, PathBuf)> {
        let target = self.file_path(location)?;
        let mut temp = TempFile::create_in(&self.staging(location, &target))?;
        temp.write_all(&header.to_vec().into())?;
        self.touch(location);
        Ok((temp.name(&target, location)?, target))
    }

    /// Where an object is written before it has its name.
    ///
    /// What comes to lie in a run's folder, however deep, is staged in that folder itself. The rename that publishes it takes an entry away there, so
    /// in the same transaction the folder's change time says that something below is new: one question tells that nothing is.
    fn staging(&self, location: &Path, target: &FsPath) -> PathBuf {
        let folder = crate::layout::run_folder_of(location);
        folder.map_or_else(
            || parent_of(target).to_owned(),
            |folder| self.inner.root.join(folder),
        )
    }

    /// Says that something is about to be published into a run, if `location` is a run's: whoever saw the file of `touched/` before looks at the run again.
    ///
    /// Nothing depends on it but how soon others see it, so what fails here fails nothing.
    fn touch(&self, location: &Path) {
        let Some(run) = crate::layout::run_of(location) else {
            return;
        };
        let directory = self.inner.root.join(crate::layout::all_touched().as_ref());
        let place = crate::layout::touched_place(run);
        let file = directory.join(crate::layout::touched_name(place));
        if !touched::touch(&file) && std::fs::create_dir_all(&directory).is_ok() {
            // Made by another process meanwhile, it is touched by that.
            let _ = File::options().append(true).create(true).open(&file);
            touched::touch(&file);
        }
    }

    /// What a directory or a file looks like now.
    pub(crate) fn mark(&self, path: &Path) -> Mark {
        std::fs::metadata(self.inner.root.join(path.as_ref()))
            .map_or_else(|_| Mark::default(), |metadata| Mark::of(&metadata))
    }

    /// The entries of a directory; none if it can not be opened.
    pub(crate) fn entries(&self, directory: &Path) -> Option<Entries> {
        Entries::of(&self.inner.root.join(directory.as_ref()))
    }

    fn put_blocking(
        &self,
        location: &Path,
        payload: &PutPayload,
        replace: Replace,
        sync: DirSync,
    ) -> Result<PutResult> {
        let target = self.file_path(location)?;
        let mut temp = TempFile::create_in(&self.staging(location, &target))?;
        temp.write_all(payload)?;
        let result = temp.publish(&target, location, replace, || self.touch(location))?;
        if sync == DirSync::Now {
            self.inner.directories.sync(parent_of(&target))?;
        }
        Ok(result)
    }

    fn copy_blocking(&self, from: &Path, to: &Path, mode: CopyMode) -> Result<()> {
        let target = self.file_path(to)?;
        let (mut source, _) = read::open(&self.file_path(from)?, from)?;
        let mut temp = TempFile::create_in(&self.staging(to, &target))?;
        temp.copy_from(&mut source)?;
        let replace = match mode {
            CopyMode::Overwrite => Replace::Yes,
            CopyMode::Create => Replace::No,
        };
        temp.publish(&target, to, replace, || self.touch(to))?;
        self.inner.directories.sync(parent_of(&target))
    }

    fn rename_blocking(&self, from: &Path, to: &Path, mode: RenameTargetMode) -> Result<()> {
        let (source, target) = (self.file_path(from)?, self.file_path(to)?);
        let replace = match mode {
            RenameTargetMode::Overwrite => Replace::Yes,
            RenameTargetMode::Create => Replace::No,
        };
        read::open(&source, from)?;
        self.touch(to);
        publish::rename(&source, &target, to, replace)?;
        self.inner.directories.sync(parent_of(&target))?;
        self.inner.directories.sync(parent_of(&source))
    }

    fn delete_blocking(&self, locations: Vec<Result<Path>>) -> Vec<Result<Path>> {
        let mut touched = std::collections::BTreeSet::new();
        let mut results: Vec<Result<Path>> = locations
            .into_iter()
            .map(|location| {
                let location = location?;
                let target = self.file_path(&location)?;
                match std::fs::remove_file(&target) {
                    Ok(()) => {
                        touched.insert(parent_of(&target).to_owned());
                        Ok(location)
                    }
                    // As buckets do: what is not there is deleted.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(location),
                    Err(error) => Err(fail("delete", &target, error)),
                }
            })
            .collect();
        for directory in touched {
            if let Err(error) = self.inner.directories.sync(&directory) {
                results.push(Err(error));
            }
        }
        results
    }
}

impl DirectorySync for LocalStore {
    fn sync_dirs(&self, objects: &mut dyn Iterator<Item = &Path>) -> Result<()> {
        let mut directories = std::collections::BTreeSet::new();
        for object in objects {
            directories.insert(parent_of(&self.file_path(object)?).to_owned());
        }
        self.inner.directories.sync_all(directories)
    }
}

fn parent_of(target: &FsPath) -> &FsPath {
    target
        .parent()
        .expect("BUG: every object lies below the root")
}

/// Does blocking work without blocking an executor: inline on a thread that may block, else on tokio's blocking threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if crate::wait::blocking_is_allowed() {
        return work();
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalStore").field(&self.inner.root).finish()
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner.root.display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for LocalStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let replace = match options.mode {
            PutMode::Overwrite => Replace::Yes,
            PutMode::Create => Replace::No,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "PutMode::Update".to_owned(),
                    implementer: "the local store".to_owned(),
                });
            }
        };
        let sync = options
            .extensions
            .get::<DirSync>()
            .copied()
            .unwrap_or(DirSync::Now);
        let (store, location) = (self.clone(), location.clone());
        blocking(move || store.put_blocking(&location, &payload, replace, sync)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (store, location) = (self.clone(), location.clone());
        let upload = blocking(move || multipart::Upload::begin(&store, &location)).await?;
        Ok(Box::new(upload))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let target = self.file_path(location)?;
        let location = location.clone();
        blocking(move || read::get(&target, &location, &options)).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[std::ops::Range<u64>],
    ) -> Result<Vec<bytes::Bytes>> {
        let target = self.file_path(location)?;
        let (location, ranges) = (location.clone(), ranges.to_vec());
        blocking(move || read::get_ranges(&target, &location, &ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .ready_chunks(256)
            .then(move |batch| {
                let store = store.clone();
                async move {
                    let results = blocking(move || Ok(store.delete_blocking(batch))).await;
                    futures::stream::iter(results.unwrap_or_else(|error| vec![Err(error)]))
                }
            })
            .flatten()
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        list::recursive(&self.inner.root, prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        list::recursive(&self.inner.root, prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (root, prefix) = (self.inner.root.clone(), prefix.cloned());
        blocking(move || list::directory(&root, prefix.as_ref())).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (store, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || store.copy_blocking(&from, &to, options.mode)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (store, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || store.rename_blocking(&from, &to, options.target_mode)).await
    }
}
