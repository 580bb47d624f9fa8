//! Temporary files and how they get their name.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write as _};
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;
use object_store::{PutPayload, PutResult, Result};

use super::error::fail;
use super::{direct, parent_of, read};
use crate::layout::TEMPORARY_PREFIX;

/// Tries to find a free temporary name; each is 64 random bits, so a second one is never needed but for bad luck.
const NAME_TRIES: u32 = 8;

/// Whether publishing may replace what has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replace {
    Yes,
    No,
}

/// A file without its name yet; removed unless it is published.
pub(super) struct TempFile {
    file: File,
    path: PathBuf,
}

impl TempFile {
    /// A temporary file in a directory, which is made if it is not there.
    pub(super) fn create_in(directory: &FsPath) -> Result<Self> {
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..NAME_TRIES {
            let path = directory.join(format!(
                "{TEMPORARY_PREFIX}{:016x}",
                crate::random::system_random()
            ));
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(failed) if failed.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir_all(directory)
                        .map_err(|error| fail("create", directory, error))?;
                    error = failed;
                }
                Err(failed) if failed.kind() == io::ErrorKind::AlreadyExists => error = failed,
                Err(failed) => return Err(fail("create a file in", directory, failed)),
            }
        }
        Err(fail("create a file in", directory, error))
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &FsPath {
        &self.path
    }

    pub(super) fn write_all(&mut self, payload: &PutPayload) -> Result<()> {
        let pieces: &[bytes::Bytes] = payload.as_ref();
        let direct = match pieces {
            [only] => {
                direct::write(&self.file, only).map_err(|error| fail("write", &self.path, error))?
            }
            _ => 0,
        };
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, direct);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(fail("write", &self.path, error));
                }
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail("write", &self.path, error)),
            }
        }
        Ok(())
    }

    /// Gives the file its name, if that is free, without syncing anything: its writer goes on with it.
    pub(super) fn name(self, target: &FsPath, location: &Path) -> Result<File> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| fail("open", target, error))?;
        rename(&self.path, target, location, Replace::No)?;
        Ok(file)
    }

    pub(super) fn copy_from(&mut self, source: &mut File) -> Result<()> {
        io::copy(source, &mut self.file).map_err(|error| fail("write", &self.path, error))?;
        Ok(())
    }

    /// Syncs the file and gives it its name; `before` is called in between. The directory is not synced.
    pub(super) fn publish(
        self,
        target: &FsPath,
        location: &Path,
        replace: Replace,
        before: impl FnOnce(),
    ) -> Result<PutResult> {
        self.file
            .sync_all()
            .map_err(|error| fail("sync", target, error))?;
        let metadata = self
            .file
            .metadata()
            .map_err(|error| fail("inspect", target, error))?;
        before();
        rename(&self.path, target, location, replace)?;
        Ok(PutResult {
            e_tag: Some(read::e_tag(&metadata)),
            version: None,
            extensions: object_store::Extensions::default(),
        })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After publishing there is nothing under this name any more. What can not be removed is a leftover that nobody lists.
        let _ = fs::remove_file(&self.path);
    }
}

/// Moves `source` to `target` atomically, whose directory is made if it is not there; with [`Replace::No`] it fails with `AlreadyExists` if the name is taken.
pub(super) fn rename(
    source: &FsPath,
    target: &FsPath,
    location: &Path,
    replace: Replace,
) -> Result<()> {
    let move_it = || match replace {
        Replace::Yes => fs::rename(source, target),
        Replace::No => rename_exclusively(source, target),
    };
    let result = match move_it() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = parent_of(target);
            fs::create_dir_all(directory).map_err(|error| fail("create", directory, error))?;
            move_it()
        }
        result => result,
    };
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => object_store::Error::AlreadyExists {
            path: location.to_string(),
            source: Box::new(error),
        },
        _ => fail("write", target, error),
    })
}

#[cfg(target_os = "linux")]
fn rename_exclusively(source: &FsPath, target: &FsPath) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, source, CWD, target, RenameFlags::NOREPLACE) {
        // Some network and stacked file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link(source, target),
        result => Ok(result?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_exclusively(source: &FsPath, target: &FsPath) -> io::Result<()> {
    link(source, target)
}

fn link(source: &FsPath, target: &FsPath) -> io::Result<()> {
    fs::hard_link(source, target)?;
    fs::remove_file(source)
}
