//! Where files lie that somebody else wrote: a directory, or a prefix of a bucket. Both are only read.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use runtree_core::{Error, ErrorKind, Result};
use runtree_store::remote::{RemoteAddress, fetch_object, list_objects};

use super::Sizes;
use super::fetched::{self, Incoming};
use crate::engine::Engine;

/// A directory, or a place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// `s3://bucket/prefix`, `gs://…`, `az://…`.
    Bucket(RemoteAddress),
}

impl Place {
    /// Whether a user named an address rather than a directory.
    pub fn is_address(named: &Path) -> bool {
        named.to_str().is_some_and(RemoteAddress::is_one)
    }

    /// What a user named to be looked into. A bucket is not asked yet.
    ///
    /// # Errors
    /// `Invalid` if it is an address of nothing that is known; `NotFound` if there is no such directory.
    pub fn of(named: &Path) -> Result<Self> {
        if let Some(address) = named.to_str().filter(|text| RemoteAddress::is_one(text)) {
            return address.parse().map(Self::Bucket);
        }
        if !named.is_dir() {
            return Err(no_directory(named));
        }
        Ok(Self::Directory(named.to_owned()))
    }

    /// The last part of its name.
    fn last_part(&self) -> Option<String> {
        match self {
            Self::Directory(path) => {
                // Of `.` and `x/..`, too.
                let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                Some(path.file_name()?.to_str()?.to_owned())
            }
            Self::Bucket(address) => {
                let last = address.prefix.parts().next_back()?;
                Some(last.as_ref().to_owned())
            }
        }
    }

    /// What it lies in; none at the root.
    fn above(&self) -> Option<Self> {
        match self {
            Self::Directory(path) => {
                let path = fs::canonicalize(path).ok()?;
                Some(Self::Directory(path.parent()?.to_owned()))
            }
            Self::Bucket(address) => {
                let count = address.prefix.parts().count().checked_sub(1)?;
                let prefix = address.prefix.parts().take(count).collect();
                Some(Self::Bucket(RemoteAddress {
                    prefix,
                    ..address.clone()
                }))
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(address) => address.fmt(f),
        }
    }
}

/// Something in a directory. Links to directories are not there: what they lead to is found where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) is_directory: bool,
}

/// A place that can be looked into. What a bucket holds was listed once, so that all answers are of one moment.
#[derive(Debug)]
pub(super) struct Files<'e> {
    engine: &'e Engine,
    place: Place,
    listed: Sizes,
}

impl<'e> Files<'e> {
    /// Looks at a place.
    ///
    /// # Errors
    /// `NotFound` if nothing is there; `Denied` if it may not be looked into.
    pub(super) fn open(engine: &'e Engine, place: &Place) -> Result<Self> {
        let mut files = Self {
            engine,
            place: place.clone(),
            listed: Sizes::new(),
        };
        match place {
            Place::Directory(path) if path.is_dir() => {}
            Place::Directory(path) => return Err(no_directory(path)),
            Place::Bucket(address) => {
                files.listed = listed(engine, address)?;
                if files.listed.is_empty() {
                    return Err(Error::not_found(format!("nothing lies below {address}"))
                        .with_hint("check the prefix"));
                }
            }
        }
        Ok(files)
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The last part of its name.
    pub(super) fn last_part(&self) -> Option<String> {
        self.place.last_part()
    }

    /// Whether a directory of this name is in it.
    pub(super) fn has_directory(&self, name: &str) -> bool {
        match &self.place {
            Place::Directory(root) => root.join(name).is_dir(),
            Place::Bucket(_) => self.below(name).next().is_some(),
        }
    }

    /// What is in a directory, sorted by name; of the place itself if `folder` is empty. Names that no text can spell are left out.
    pub(super) fn children(&self, folder: &str) -> Result<Vec<Child>> {
        let mut found = match &self.place {
            Place::Directory(root) => {
                let folder = if folder.is_empty() {
                    root.clone()
                } else {
                    root.join(folder)
                };
                let mut found = Vec::new();
                for (name, path, metadata) in entries(&folder)? {
                    let is_directory = metadata.is_dir();
                    if is_directory || fs::metadata(&path).is_ok_and(|target| !target.is_dir()) {
                        found.push(Child { name, is_directory });
                    }
                }
                found
            }
            Place::Bucket(_) => {
                let mut found: Vec<Child> = Vec::new();
                for (rest, _) in self.below(folder) {
                    let (name, is_directory) = match rest.split_once('/') {
                        Some((name, _)) => (name, true),
                        None => (rest, false),
                    };
                    let child = Child {
                        name: name.to_owned(),
                        is_directory,
                    };
                    if found.last() != Some(&child) {
                        found.push(child);
                    }
                }
                found
            }
        };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup();
        Ok(found)
    }

    /// All files below a directory.
    pub(super) fn sizes(&self, folder: &str) -> Result<Sizes> {
        match &self.place {
            Place::Directory(root) => {
                let mut found = Sizes::new();
                walk(&root.join(folder), "", &mut found)?;
                Ok(found)
            }
            Place::Bucket(_) => Ok(self
                .below(folder)
                .map(|(rest, bytes)| (rest.to_owned(), bytes))
                .collect()),
        }
    }

    /// What is no file, no directory and no link to one inside: it could not be taken in.
    pub(super) fn find_odd(&self, folder: &str) -> Result<Option<String>> {
        match &self.place {
            Place::Directory(root) => {
                let root = root.join(folder);
                let inside = root
                    .canonicalize()
                    .map_err(|error| unreadable(&root, error))?;
                odd_below(&root, "", &inside)
            }
            Place::Bucket(_) => Ok(None),
        }
    }

    /// A small file of it, or of what it lies in; none if it is not there.
    ///
    /// # Errors
    /// `Invalid` if it has more than `most` bytes.
    pub(super) fn read(&self, name: &str, most: u64, beside: Beside) -> Result<Option<Vec<u8>>> {
        let place = match beside {
            Beside::Inside => Some(self.place.clone()),
            Beside::Above => self.place.above(),
        };
        let read = match place {
            None => return Ok(None),
            Some(Place::Directory(root)) => read_small(&root.join(name), most),
            Some(Place::Bucket(address)) => {
                let folder = fetched::Folder::create(self.engine)?;
                let file = folder.path().join("file");
                fetch_object(&address, &self.engine.options.settings, name, &file)
                    .and_then(|_| read_small(&file, most))
            }
        };
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A directory of it to read from, with the files of these sizes; the place itself if `folder` is empty. Of a bucket a copy, until it is dropped.
    pub(super) fn check_out(&self, folder: &str, sizes: &Sizes) -> Result<Incoming> {
        match &self.place {
            Place::Directory(root) if folder.is_empty() => Ok(Incoming::here(root.clone())),
            Place::Directory(root) => Ok(Incoming::here(root.join(folder))),
            Place::Bucket(address) => fetched::fetch(self.engine, address, folder, sizes),
        }
    }

    /// Objects below a directory, by their names in it.
    fn below<'s>(&'s self, folder: &str) -> impl Iterator<Item = (&'s str, u64)> + use<'s, 'e> {
        let prefix = if folder.is_empty() {
            String::new()
        } else {
            format!("{folder}/")
        };
        self.listed
            .range(prefix.clone()..)
            .map_while(move |(name, &bytes)| Some((name.strip_prefix(&prefix)?, bytes)))
    }
}

fn no_directory(path: &Path) -> Error {
    Error::not_found(format!("{} is not a directory", path.display()))
        .with_hint("name the directory that holds the checkpoint's files")
}

/// Where a file is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// In the place.
    Inside,
    /// In what the place lies in.
    Above,
}

/// A whole file.
///
/// # Errors
/// `Invalid` if it has more than `most` bytes; `NotFound`, `Denied`, `Unavailable`.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error| unreadable(path, error);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > most {
        return Err(Error::invalid(format!(
            "{} has {bytes} bytes, at most {most} are expected",
            path.display()
        )));
    }
    let mut read = Vec::new();
    file.take(most).read_to_end(&mut read).map_err(failed)?;
    Ok(read)
}

/// A file or directory that can not be read: what may not be looked into is not empty.
pub(crate) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("can not read {}", path.display())).with_source(error)
}

/// What lies below an address. An empty object that has the name of a folder is how some tools write the folder, and no file.
fn listed(engine: &Engine, address: &RemoteAddress) -> Result<Sizes> {
    let all: Sizes = list_objects(address, &engine.options.settings)?
        .into_iter()
        .collect();
    let is_folder = |name: &str| {
        let inside = format!("{name}/");
        let next = all.range(inside.clone()..).next();
        next.is_some_and(|(next, _)| next.starts_with(&inside))
    };
    let files = all
        .iter()
        .filter(|&(name, &bytes)| bytes > 0 || !is_folder(name));
    Ok(files.map(|(name, &bytes)| (name.clone(), bytes)).collect())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, Metadata)>> {
    let failed = |error| unreadable(folder, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Removed meanwhile: it is not there.
        if let Ok(metadata) = entry.metadata() {
            found.push((name, entry.path(), metadata));
        }
    }
    Ok(found)
}

/// All files below a directory, links to files among them, and their bytes.
pub(crate) fn walk(folder: &Path, prefix: &str, found: &mut Sizes) -> Result<()> {
    for (name, path, metadata) in entries(folder)? {
        let name = format!("{prefix}{name}");
        if metadata.is_dir() {
            walk(&path, &format!("{name}/"), found)?;
        } else if let Ok(target) = fs::metadata(&path)
            && !target.is_dir()
        {
            found.insert(name, target.len());
        }
    }
    Ok(())
}

/// What is no file, no directory and no link to one inside, in words.
pub(crate) fn odd_below(folder: &Path, prefix: &str, inside: &Path) -> Result<Option<String>> {
    for (name, path, metadata) in entries(folder)? {
        let name = format!("{prefix}{name}");
        let kind = metadata.file_type();
        let odd = if kind.is_dir() {
            odd_below(&path, &format!("{name}/"), inside)?
        } else if kind.is_symlink() {
            let leads_in = path
                .canonicalize()
                .is_ok_and(|target| target.starts_with(inside));
            (!leads_in).then(|| format!("{name} is a link that leads nowhere, or out"))
        } else {
            (!kind.is_file()).then(|| format!("{name} is no file"))
        };
        if odd.is_some() {
            return Ok(odd);
        }
    }
    Ok(None)
}
