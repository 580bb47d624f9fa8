//! The user's directory below a file system in memory, and the shelves in it.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The directory of `shelf`, made if it is not there.
pub(crate) fn shelf(base: &Path, shelf: &str) -> Result<PathBuf> {
    if shelf.is_empty() || shelf.starts_with('.') || shelf.contains('/') {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "a shelf has no such name",
        ));
    }
    let shelf = home(base)?.join(shelf);
    make_private(&shelf)?;
    Ok(shelf)
}

/// The directory of this user below `base`, made if it is not there. By its real name: a room is known by its path.
pub(crate) fn home(base: &Path) -> Result<PathBuf> {
    let base = base.canonicalize()?;
    require_memory(&base)?;
    let home = base.join(format!("runtree-{}", user()));
    make_private(&home)?;
    Ok(home)
}

/// Makes a directory that is this user's alone. `base` is everybody's: who was here first may be somebody else, or have left a link.
fn make_private(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != user() || found.mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            format!("{} is not a private directory of this user", path.display()),
        ));
    }
    Ok(())
}

fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Refuses a file system that would write the memory to a disk.
#[cfg(target_os = "linux")]
fn require_memory(base: &Path) -> Result<()> {
    /// `TMPFS_MAGIC` of linux/magic.h.
    const TMPFS: u64 = 0x0102_1994;
    if rustix::fs::statfs(base)?.f_type as u64 == TMPFS {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("{} is not a tmpfs", base.display()),
    ))
}

#[cfg(not(target_os = "linux"))]
fn require_memory(_: &Path) -> Result<()> {
    Err(ErrorKind::Unsupported.into())
}
