//! A directory that appears whole or not at all: written beside its place under a temporary name, synced, renamed.

use std::fs::{self, File};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use runtree_core::{Error, ErrorKind, Result};

use super::members::{Body, Member};
use crate::engine::Engine;
use crate::load::LoadedManifest;
use crate::load::stream::windows;
use crate::parallel::work_off;
use crate::save::threads;

/// Files from this size on are written by several threads.
const LARGE_BYTES: u64 = 8 << 20;
/// What each of them reads, verifies and writes at a time: it stays in the processor's cache in between. A multiple of what is verified at once.
const COPY_BYTES: u64 = 1 << 20;

/// Whether what was published may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Permission bits as they were saved.
    AsSaved,
    /// The same without any write bit: a cache that others rely on.
    ReadOnly,
}

/// Whether what was published must be there after a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It is synced before it gets its name.
    Durable,
    /// It is of a job that a power cut ends, too.
    Fleeting,
}

/// Refuses a target that holds anything: what is there is somebody else's.
///
/// # Errors
/// `Conflict` if the directory is not empty, or something else has its name.
pub(crate) fn check_target(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", target, error)),
        Ok(metadata) if metadata.is_dir() => {
            let mut entries =
                fs::read_dir(target).map_err(|error| failed("read", target, error))?;
            if entries.next().is_none() {
                Ok(())
            } else {
                Err(
                    Error::conflict(format!("directory {} is not empty", target.display()))
                        .with_hint("export into a directory that does not exist yet"),
                )
            }
        }
        Ok(_) => Err(Error::conflict(format!(
            "{} is there and is not a directory",
            target.display()
        ))),
    }
}

/// Writes `members` and publishes them as `target`. Says how many files and bytes were written.
///
/// # Errors
/// What reading the checkpoint or writing returned; nothing is left behind then. `Conflict` if `target` came to be meanwhile.
pub(crate) fn write(
    engine: &Engine,
    manifest: &LoadedManifest,
    members: &[Member],
    target: &Path,
    access: Access,
    durability: Durability,
) -> Result<(u64, u64)> {
    let name = target
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| {
            Error::invalid(format!(
                "{} can not be a directory's name",
                target.display()
            ))
        })?;
    let above = match target.parent() {
        Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&above).map_err(|error| failed("create", &above, error))?;
    let temporary = Temporary::create(&above, name, engine.options.entropy.bits())?;
    let root = &temporary.path;
    let mut files = 0;
    let mut bytes = 0;
    for member in members {
        let path = root.join(&member.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed("create", parent, error))?;
        }
        match &member.body {
            Body::Directory => {
                fs::create_dir_all(&path).map_err(|error| failed("create", &path, error))?;
            }
            Body::Symlink(link) => {
                std::os::unix::fs::symlink(link, &path)
                    .map_err(|error| failed("create", &path, error))?;
                files += 1;
            }
            body @ (Body::File { .. } | Body::Tensors { .. }) => {
                let file = create(&path)?;
                bytes += write_file(engine, manifest, &file, &path, &member.path, body)?;
                if durability == Durability::Durable {
                    file.sync_data()
                        .map_err(|error| failed("sync", &path, error))?;
                }
                set_mode(&path, member.mode, access)?;
                files += 1;
            }
        }
    }
    // Directories last and deepest first: one without write permission could not be filled any more.
    let mut directories: Vec<&Member> = members
        .iter()
        .filter(|member| matches!(member.body, Body::Directory))
        .collect();
    directories.sort_by_key(|member| std::cmp::Reverse(member.path.matches('/').count()));
    for member in directories {
        set_mode(&root.join(&member.path), member.mode, access)?;
    }
    if durability == Durability::Fleeting {
        temporary.publish(target)?;
        return Ok((files, bytes));
    }
    sync_directories(root)?;
    temporary.publish(target)?;
    sync_directory(&above)?;
    Ok((files, bytes))
}

fn create(path: &Path) -> Result<File> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed("create", path, error))
}

/// Fills a file, a large one on several threads: each reads, verifies and writes windows of it.
fn write_file(
    engine: &Engine,
    manifest: &LoadedManifest,
    file: &File,
    path: &Path,
    what: &str,
    body: &Body,
) -> Result<u64> {
    let refused = |error| failed("write", path, error);
    if let Body::File { head, rest } = body
        && body.bytes() > LARGE_BYTES
    {
        file.write_all_at(head, 0).map_err(refused)?;
        let from = head.len() as u64;
        work_off(
            windows(rest, COPY_BYTES),
            threads(),
            "writing",
            Vec::new,
            |buffer, (start, window)| {
                engine.read_window(manifest, &window, what, 1, buffer)?;
                file.write_all_at(buffer, from + start).map_err(refused)
            },
        )?;
        return Ok(body.bytes());
    }
    let mut written = 0;
    write_body(engine, manifest, what, body, &mut |bytes| {
        file.write_all_at(bytes, written).map_err(refused)?;
        written += bytes.len() as u64;
        Ok(())
    })?;
    Ok(written)
}

/// Hands a file's bytes to `write`, in order, with bounded memory.
pub(crate) fn write_body(
    engine: &Engine,
    manifest: &LoadedManifest,
    what: &str,
    body: &Body,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    match body {
        Body::File { head, rest } => {
            write(head)?;
            engine.stream(manifest, rest, what, write)
        }
        Body::Tensors { head, tensors } => {
            write(head)?;
            tensors
                .iter()
                .try_for_each(|tensor| engine.stream_tensor(manifest, tensor, &mut *write))
        }
        Body::Directory | Body::Symlink(_) => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32, access: Access) -> Result<()> {
    let mode = match access {
        Access::AsSaved => mode & 0o777,
        // Directories of a cache stay traversable by their owner, and removable.
        Access::ReadOnly if path.is_dir() => mode & 0o777 | 0o700,
        Access::ReadOnly => mode & 0o555 | 0o400,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| failed("set the mode of", path, error))
}

fn sync_directories(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).map_err(|error| failed("read", root, error))? {
        let entry = entry.map_err(|error| failed("read", root, error))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // A directory that was saved without permission to read it can not be opened; its parent's sync holds its name.
        if is_dir && fs::read_dir(entry.path()).is_ok() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(root)
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("sync", path, error))
}

/// A directory that is removed unless it is published.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create(above: &Path, name: &str, random: u128) -> Result<Self> {
        let name: String = name.chars().take(64).collect();
        let path = above.join(format!(".{name}.runtree-{:016x}", random as u64));
        fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(|error| failed("create", &path, error))?;
        Ok(Self { path })
    }

    fn publish(self, target: &Path) -> Result<()> {
        // Replaces an empty directory; anything else makes it fail, and the target is as it was.
        let renamed = fs::rename(&self.path, target);
        match renamed {
            Ok(()) => {
                std::mem::forget(self);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::DirectoryNotEmpty
                        | std::io::ErrorKind::AlreadyExists
                        | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Err(Error::conflict(format!(
                    "{} came to be while the checkpoint was written",
                    target.display()
                ))
                .with_source(error))
            }
            Err(error) => Err(failed("rename to", target, error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What can not be removed is a hidden directory with a name that says whose it is.
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn failed(what: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Denied
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("can not {what} {}", path.display())).with_source(error)
}
