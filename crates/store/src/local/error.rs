//! What a disk answers, with the operation and the path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use object_store::Error;
use runtree_core::ErrorKind;

/// An operation on a file failed.
#[derive(Debug)]
pub struct LocalError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl LocalError {
    pub(super) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    /// The error for a directory whose sync failed before: what it holds may or may not survive a power cut, and nobody can tell any more.
    pub(super) fn poisoned(path: &Path) -> Self {
        let source = io::Error::other("an earlier sync of this directory failed");
        Self::new("sync", path, source)
    }

    /// What the caller has to do.
    pub fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Denied
            }
            _ => ErrorKind::Unavailable,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let path = self.path.display();
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some(format!("free some space on the disk that holds {path}"))
            }
            io::ErrorKind::PermissionDenied => Some(format!("check who may write to {path}")),
            io::ErrorKind::ReadOnlyFilesystem => Some(format!(
                "the file system of {path} is mounted read-only; choose another store with RUNTREE_STORE"
            )),
            _ => None,
        }
    }
}

impl fmt::Display for LocalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.path.display())
    }
}

impl std::error::Error for LocalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An `io::Error` as the trait's error.
pub(super) fn fail(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = error.kind();
    let text = path.display().to_string();
    let source = Box::new(LocalError::new(operation, path, error));
    match kind {
        io::ErrorKind::NotFound => Error::NotFound { path: text, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path: text, source },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::PermissionDenied { path: text, source }
        }
        _ => Error::Generic {
            store: "local",
            source,
        },
    }
}
