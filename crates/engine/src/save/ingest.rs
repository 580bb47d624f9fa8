//! A directory as entries: what is in it, looked at once, before its bytes are staged.
//!
//! Regular files with their permission bits, directories that are empty or have unusual permissions, and symbolic links that stay
//! inside. Everything else is refused before anything is written: a checkpoint that can not come back byte for byte is not taken.
//! The bytes are copied into the arena before `save` returns, because trainers rewrite and delete their directories at once; a hard link would
//! see that, and a copy is what every filesystem can do. A file that changes *while* it is copied is noticed by its size and times.
//! Files that hold tensors in a format that is known are cut along them ([`runtree_core::foreign`]), so that an equal tensor elsewhere is an equal chunk.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use runtree_core::foreign::{self, Payload, ReadAt};
use runtree_core::{Error, Result};

use super::copy::open_nofollow;

/// Permission bits of a directory that needs no entry of its own if something is in it.
const USUAL_DIRECTORY_MODE: u32 = 0o755;
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 128;

/// Something in the directory.
#[derive(Debug)]
pub(crate) struct Found {
    /// Path inside the directory, `/` between its parts.
    pub(crate) path: String,
    /// Where it is.
    pub(crate) source: PathBuf,
    /// What it is.
    pub(crate) kind: FoundKind,
}

/// What is in a directory.
#[derive(Debug)]
pub(crate) enum FoundKind {
    /// A regular file.
    File {
        /// Its length.
        bytes: u64,
        /// Permission bits.
        mode: u32,
        /// To notice that it changed.
        stamp: Stamp,
        /// The tensors that lie in it: [`look_inside`].
        payloads: Vec<Payload>,
    },
    /// A directory that an entry must stand for.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A link that stays inside.
    Symlink {
        /// Its text.
        target: String,
    },
}

/// Which file it was, and in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Lists a directory, sorted by path.
///
/// # Errors
/// `Invalid` for what can not be saved, `NotFound` if there is no directory, `Unavailable` if it can not be read.
pub(crate) fn walk(root: &Path) -> Result<Vec<Found>> {
    let metadata = std::fs::metadata(root).map_err(|error| unreadable(root, error))?;
    if metadata.is_file() {
        return Err(
            Error::invalid(format!("{} is a file, not a directory", root.display())).with_hint(
                "save the directory it is in, or attach it to the run: run.log_file(path)",
            ),
        );
    }
    if !metadata.is_dir() {
        return Err(Error::invalid(format!(
            "{} is not a directory",
            root.display()
        )));
    }
    let mut found = Vec::new();
    walk_into(root, "", 0, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Makes sure that files are still what they were when they were listed, now that their bytes are copied.
///
/// # Errors
/// `Conflict` that names the file.
pub(crate) fn check_unchanged(found: &[Found]) -> Result<()> {
    for item in found {
        if let FoundKind::File { stamp, .. } = &item.kind {
            let now = std::fs::symlink_metadata(&item.source)
                .map_err(|error| unreadable(&item.source, error))?;
            if Stamp::of(&now) != *stamp {
                return Err(Error::conflict(format!(
                    "file {} changed while it was saved",
                    item.source.display()
                ))
                .with_hint("save the directory when nothing writes into it"));
            }
        }
    }
    Ok(())
}

fn walk_into(
    directory: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<Found>,
) -> Result<usize> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid(format!(
            "{} is nested more than {MAX_DEPTH} directories deep",
            directory.display()
        )));
    }
    let mut count = 0;
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(directory, error))?;
        let source = entry.path();
        let name = entry.file_name();
        let name = name.to_str().filter(|name| is_safe_name(name)).ok_or_else(|| {
            Error::invalid(format!(
                "file name {} in {} can not be saved (not UTF-8, or it contains a backslash, colon or NUL)",
                name.display(),
                directory.display()
            ))
        })?;
        let path = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}/{name}")
        };
        if path.len() > 4096 {
            return Err(Error::invalid(format!(
                "path {} is longer than 4096 bytes",
                source.display()
            )));
        }
        count += 1;
        let metadata =
            std::fs::symlink_metadata(&source).map_err(|error| unreadable(&source, error))?;
        let mode = metadata.permissions().mode() & 0o777;
        let file_type = metadata.file_type();
        let kind = if file_type.is_file() {
            FoundKind::File {
                bytes: metadata.len(),
                mode,
                stamp: Stamp::of(&metadata),
                payloads: Vec::new(),
            }
        } else if file_type.is_dir() {
            let inside = walk_into(&source, &path, depth + 1, found)?;
            if inside > 0 && mode == USUAL_DIRECTORY_MODE {
                continue;
            }
            FoundKind::Directory { mode }
        } else if file_type.is_symlink() {
            FoundKind::Symlink {
                target: link_target(&source, depth)?,
            }
        } else {
            let what = if file_type.is_fifo() {
                "pipe"
            } else if file_type.is_socket() {
                "socket"
            } else {
                "device"
            };
            return Err(Error::invalid(format!(
                "{} is a {what}; only files, directories and links can be saved",
                source.display()
            )));
        };
        found.push(Found { path, source, kind });
    }
    Ok(count)
}

fn link_target(link: &Path, depth: usize) -> Result<String> {
    let target = std::fs::read_link(link).map_err(|error| unreadable(link, error))?;
    target
        .to_str()
        .filter(|target| link_stays_inside(target, depth))
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::invalid(format!(
                "link {} points to {}, outside the saved directory",
                link.display(),
                target.display()
            ))
            .with_hint("replace the link by what it points to: cp -rL")
        })
}

/// Whether a link whose own directory is `depth` below the root stays inside: relative, `..` only at its start and at most `depth` of them.
///
/// A `..` after a name could climb out of a linked directory; at the start it climbs out of real ones, which the walk has counted. What
/// follows descends, through other links at most, and those stay inside by the same rule.
pub(crate) fn link_stays_inside(target: &str, depth: usize) -> bool {
    if target.is_empty()
        || target.starts_with('/')
        || target.contains(['\\', '\0', ':'])
        || target.len() > 4096
    {
        return false;
    }
    let mut ups = 0;
    let mut descending = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if descending => return false,
            ".." => ups += 1,
            _ => descending = true,
        }
    }
    ups <= depth
}

fn is_safe_name(name: &str) -> bool {
    !name.contains(['\\', '\0', ':'])
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => runtree_core::ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => runtree_core::ErrorKind::Denied,
        _ => runtree_core::ErrorKind::Unavailable,
    };
    Error::new(kind, format!("can not read {}", path.display())).with_source(error)
}

/// Opens every file and finds the tensors in it.
///
/// That it can be opened is seen before anything of the save is staged: permissions are wrong calls, not disk failures. What is found here is only where to cut; a file that
/// changes later is caught by its stamp like any other.
///
/// # Errors
/// `Unavailable` that names the file that can not be opened.
pub(crate) fn look_inside(found: &mut [Found]) -> Result<()> {
    for item in found {
        if let FoundKind::File {
            bytes, payloads, ..
        } = &mut item.kind
            && *bytes > 0
        {
            let file = open_nofollow(&item.source)?;
            *payloads = foreign::payloads(&Opened {
                file,
                bytes: *bytes,
            });
        }
    }
    Ok(())
}

/// A file of the length that it had when it was listed.
struct Opened {
    file: File,
    bytes: u64,
}

impl ReadAt for Opened {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        self.file.read_exact_at(into, offset).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_not_leave_the_directory() {
        assert!(link_stays_inside("model.bin", 0));
        assert!(link_stays_inside("../blobs/x", 1));
        assert!(link_stays_inside("./a//b", 0));
        for (target, depth) in [
            ("../x", 0),
            ("/etc/passwd", 3),
            ("a/../../x", 1),
            ("a/..", 4),
            ("", 1),
            ("../../x", 1),
        ] {
            assert!(!link_stays_inside(target, depth), "{target}");
        }
    }
}
