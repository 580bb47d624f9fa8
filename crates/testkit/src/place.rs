//! Where the stores of tests are: each in a directory of its own or, beside `scripts/with-s3`, below a fresh prefix of a bucket.
//!
//! One variable decides: the suites run in the bucket that `RUNTREE_TEST_BUCKET` names, with the variables `AWS_…`, and on disk if it is not set. A [`Place`] also
//! reads, damages and removes objects behind the store's back, by their paths in the store, whether they are files or objects of a bucket.
//!
//! A test that can be about a disk alone (times that are set back, a file in the way, a full disk) says so by [`Place::on_disk`]; [`disk_only`] finds those that do, so that
//! a suite can hold them against a list with reasons.

#![expect(
    clippy::unwrap_used,
    reason = "only tests are here: one that can not go on has failed"
)]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::executor::block_on;
use runtree_core::Timestamp;
use runtree_engine::EngineOptions;
use runtree_store::object_store::memory::InMemory;
use runtree_store::object_store::{ObjectStore, ObjectStoreExt as _};
use runtree_store::remote::{self, RemoteAddress, Settings};
use runtree_store::{ObjectPath, Store};
use tempfile::TempDir;

/// What the birth of a store in a bucket says about its time.
const BORN: Timestamp = Timestamp(1_700_000_000_000_000);

/// Where a store of a test is, and a directory for whatever else the test has: caches, exports. Both go away with it (the bucket with its server).
pub struct Place {
    /// The directory.
    pub dir: TempDir,
    location: PathBuf,
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A fresh one: in the bucket if there is one, else on disk.
    pub fn new() -> Self {
        Self::in_bucket().unwrap_or_else(Self::directory)
    }

    /// [`Place::directory`], by a test that can be about a disk alone: [`disk_only`] finds it.
    pub fn on_disk() -> Self {
        Self::directory()
    }

    /// A fresh one on disk, whatever there is.
    pub fn directory() -> Self {
        Self::directory_called("store")
    }

    /// The same, where the store's directory has a name that matters.
    pub fn directory_called(name: &str) -> Self {
        let dir = fresh_directory();
        let location = dir.path().join(name);
        Self {
            dir,
            location,
            bucket: None,
        }
    }

    /// A fresh one in the bucket, if there is one. There is an empty store already: a server may take seconds to answer the questions that are asked when one is made, and
    /// those who make stores are tested elsewhere. Its record is what the product writes into a memory.
    pub fn in_bucket() -> Option<Self> {
        let place = Self::vacant_in_bucket()?;
        let made = Store::create_over(Arc::new(InMemory::new()), BORN).expect("a store in memory");
        let record = "runtree.json";
        let bytes = made
            .read_bytes(&ObjectPath::from(record))
            .expect("a record");
        place.write(record, bytes);
        Some(place)
    }

    /// A fresh one in the bucket, if there is one, and nothing there.
    pub fn vacant_in_bucket() -> Option<Self> {
        let bucket = variable("RUNTREE_TEST_BUCKET")?;
        let dir = fresh_directory();
        let name = dir.path().file_name().and_then(|name| name.to_str());
        let location = format!("{bucket}/{}", name.expect("it was given an ASCII name"));
        let address: RemoteAddress = location.parse().expect("an address of a bucket");
        let objects = remote::connect(&address, &settings()).expect("a bucket");
        Some(Self {
            dir,
            location: location.into(),
            bucket: Some(objects),
        })
    }

    /// Whether it is in a bucket.
    pub fn is_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    /// The store's directory or address.
    pub fn location(&self) -> &Path {
        &self.location
    }

    /// Options of an engine on it that keeps its index in a folder of the directory.
    pub fn options(&self, cache: &str) -> EngineOptions {
        EngineOptions::new(self.location(), self.dir.path().join(cache)).with_settings(settings())
    }

    /// The store's directory.
    ///
    /// # Panics
    /// If there is none: then the test is one that says [`Place::on_disk`].
    pub fn store_dir(&self) -> &Path {
        assert!(!self.is_bucket(), "a test of files says `on_disk`");
        &self.location
    }

    /// The path of each object below a path of the store, sorted; on disk, of each file.
    ///
    /// # Panics
    /// As all that follow, if the store does not answer.
    pub fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = match &self.bucket {
            Some(objects) => {
                let below = Some(object(Path::new(below))).filter(|path| !path.as_ref().is_empty());
                let listed: Vec<_> = block_on(objects.list(below.as_ref()).try_collect()).unwrap();
                listed
                    .into_iter()
                    .map(|object| PathBuf::from(object.location.as_ref()))
                    .collect()
            }
            None => files_below(&self.location.join(below))
                .iter()
                .map(|path| path.strip_prefix(&self.location).unwrap().to_owned())
                .collect(),
        };
        found.sort();
        found
    }

    /// Bytes of all chunk objects.
    pub fn chunk_bytes(&self) -> u64 {
        match &self.bucket {
            Some(objects) => {
                let below = ObjectPath::from("chunks");
                let listed: Vec<_> = block_on(objects.list(Some(&below)).try_collect()).unwrap();
                listed.iter().map(|object| object.size).sum()
            }
            None => self
                .files("chunks")
                .iter()
                .map(|path| self.size(path))
                .sum(),
        }
    }

    /// Bytes of an object.
    pub fn size(&self, path: impl AsRef<Path>) -> u64 {
        match &self.bucket {
            Some(objects) => block_on(objects.head(&object(path.as_ref()))).unwrap().size,
            None => self.file(path.as_ref()).metadata().unwrap().len(),
        }
    }

    /// Whether an object is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        match &self.bucket {
            Some(objects) => block_on(objects.head(&object(path.as_ref()))).is_ok(),
            None => self.file(path.as_ref()).exists(),
        }
    }

    /// What an object holds.
    pub fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        match &self.bucket {
            Some(objects) => {
                let path = object(path.as_ref());
                let read = async { objects.get(&path).await?.bytes().await };
                block_on(read).unwrap().to_vec()
            }
            None => std::fs::read(self.file(path.as_ref())).unwrap(),
        }
    }

    /// Makes an object hold this: a file in place, as a failing disk would.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        let (path, bytes) = (path.as_ref(), bytes.into());
        if let Some(objects) = &self.bucket {
            block_on(objects.put(&object(path), bytes.into())).unwrap();
        } else {
            let file = self.file(path);
            let _ = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644));
            std::fs::write(file, bytes).unwrap();
        }
    }

    /// Changes an object.
    pub fn damage(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(&path);
        change(&mut bytes);
        self.write(path, bytes);
    }

    /// Makes an object hold what another does.
    pub fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        self.write(to, self.read(from));
    }

    /// Removes an object.
    pub fn remove(&self, path: impl AsRef<Path>) {
        match &self.bucket {
            Some(objects) => block_on(objects.delete(&object(path.as_ref()))).unwrap(),
            None => std::fs::remove_file(self.file(path.as_ref())).unwrap(),
        }
    }

    /// Removes all objects below a path; on disk, the folder with them.
    pub fn remove_below(&self, path: impl AsRef<Path>) {
        if self.is_bucket() {
            let below = path.as_ref().to_str().unwrap();
            for path in self.files(below) {
                self.remove(path);
            }
        } else {
            std::fs::remove_dir_all(self.file(path.as_ref())).unwrap();
        }
    }

    fn file(&self, path: &Path) -> PathBuf {
        self.location.join(path)
    }
}

fn object(path: &Path) -> ObjectPath {
    ObjectPath::parse(path.to_str().unwrap()).unwrap()
}

/// How many cases a test of random ones looks at: a request to a server takes longer than a system call, and what differs between the two is not found by the hundredth case.
pub fn cases(on_disk: u32, in_a_bucket: u32) -> u32 {
    match variable("RUNTREE_TEST_BUCKET") {
        Some(_) => in_a_bucket,
        None => on_disk,
    }
}

/// Every file below a directory, sorted.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// How buckets are accessed, as the environment says.
pub fn settings() -> Settings {
    std::env::vars()
        .filter(|(name, _)| name.starts_with("AWS_"))
        .collect()
}

/// Functions of a suite that say [`Place::on_disk`], as `module::function`.
///
/// # Panics
/// If the files can not be read.
pub fn disk_only(suite: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files_below(suite) {
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut function = "";
        for line in text.lines() {
            let words = line.trim_start().trim_start_matches("pub(crate) ");
            if let Some(rest) = words.strip_prefix("fn ") {
                function = rest.split(['(', '<']).next().unwrap_or("");
            }
            if line.contains("::on_disk(") && function != "on_disk" {
                found.insert(format!("{module}::{function}"));
            }
        }
    }
    found
}

fn fresh_directory() -> TempDir {
    let named = tempfile::Builder::new().prefix("runtree-").tempdir();
    named.expect("a temporary directory")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the script that starts the server says where it is"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
