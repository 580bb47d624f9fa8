//! The files of a directory as they are now: what becomes of the directory afterwards does not matter.
//!
//! Trainers delete old checkpoints while new ones are written, and a large one takes a while to be read. So what is whole is linked into a folder beside
//! it first, by reflinks where the disk has them, else by hard links: neither copies a byte. A hard link shows what is written *into* a file afterwards, which the
//! save that follows notices by the file's size and times; what is written as a new file, as all trainers do, is another file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use runtree_core::{Error, Result};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::export::directory::failed;

/// Where snapshots of a watched directory lie: in it, since a link can not lead to another disk; hidden, so that no trainer takes it for a checkpoint.
const FOLDER: &str = ".runtree-taking";

/// Links to the files of a directory, until it is dropped.
#[derive(Debug)]
pub(super) struct Snapshot {
    folder: PathBuf,
    path: PathBuf,
}

impl Snapshot {
    /// Links `directories` into one below `root`: the files of the only one, or of each in the folder that it is given.
    ///
    /// # Errors
    /// `NotFound` if something went away meanwhile; `Unavailable` if nothing can be linked there.
    pub(super) fn take(
        root: &Path,
        number: u64,
        directories: &[(Option<String>, &Path)],
    ) -> Result<Self> {
        let folder = root.join(FOLDER);
        let path = folder.join(format!("{}-{number}", std::process::id()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("create", &path, error))?;
        let snapshot = Self { folder, path };
        for (inside, directory) in directories {
            let to = inside
                .as_ref()
                .map_or_else(|| snapshot.path.clone(), |name| snapshot.path.join(name));
            fs::create_dir_all(&to).map_err(|error| failed("create", &to, error))?;
            link_all(directory, &to)?;
        }
        Ok(snapshot)
    }

    /// Where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what snapshots of processes that are gone left.
    pub(super) fn clear(root: &Path) {
        let Ok(entries) = fs::read_dir(root.join(FOLDER)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|name| name.split('-').next()?.parse::<i32>().ok());
            let lives = owner
                .and_then(Pid::from_raw)
                .is_some_and(|owner| test_kill_process(owner) != Err(Errno::SRCH));
            if !lives {
                // What can not be removed is hidden, and in a folder that says whose it is.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let _ = fs::remove_dir(root.join(FOLDER));
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        // Fails while another snapshot is in it.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn link_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).map_err(|error| failed("read", from, error))? {
        let entry = entry.map_err(|error| failed("read", from, error))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry
            .file_type()
            .map_err(|error| failed("look at", &source, error))?;
        if kind.is_dir() {
            fs::create_dir(&target).map_err(|error| failed("create", &target, error))?;
            link_all(&source, &target)?;
            let mode = entry
                .metadata()
                .map_err(|error| failed("look at", &source, error))?;
            let mode = fs::Permissions::from_mode(mode.permissions().mode() & 0o777 | 0o700);
            fs::set_permissions(&target, mode)
                .map_err(|error| failed("set the mode of", &target, error))?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(|error| failed("read", &source, error))?;
            std::os::unix::fs::symlink(link, &target)
                .map_err(|error| failed("create", &target, error))?;
        } else if kind.is_file() {
            link(&source, &target)?;
        } else {
            // A pipe would be waited for.
            return Err(Error::invalid(format!("{} is no file", source.display())));
        }
    }
    Ok(())
}

/// One file: a reflink, else a hard link, else a copy.
fn link(source: &Path, target: &Path) -> Result<()> {
    if reflink(source, target)? {
        return Ok(());
    }
    match fs::hard_link(source, target) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Unsupported
                    | ErrorKind::PermissionDenied
                    | ErrorKind::CrossesDevices
                    | ErrorKind::TooManyLinks
            ) =>
        {
            fs::copy(source, target)
                .map(drop)
                .map_err(|error| failed("copy", source, error))
        }
        Err(error) => Err(failed("link", source, error)),
    }
}

/// Makes `target` a file that shares the bytes of `source` until one of them is written to, with its mode; says whether the disk can.
///
/// # Errors
/// As reading or creating says; nothing is left behind.
pub(super) fn reflink(source: &Path, target: &Path) -> Result<bool> {
    let from = fs::File::open(source).map_err(|error| failed("read", source, error))?;
    let to = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(target);
    let to = to.map_err(|error| failed("create", target, error))?;
    if !clone(&to, &from) {
        drop(to);
        fs::remove_file(target).map_err(|error| failed("remove", target, error))?;
        return Ok(false);
    }
    let metadata = from
        .metadata()
        .map_err(|error| failed("look at", source, error))?;
    to.set_permissions(metadata.permissions())
        .map_err(|error| failed("set the mode of", target, error))?;
    Ok(true)
}

#[cfg(target_os = "linux")]
fn clone(to: &fs::File, from: &fs::File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_: &fs::File, _: &fs::File) -> bool {
    false
}
