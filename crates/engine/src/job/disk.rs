//! What the disk says of directories that somebody writes into: which there are, when they changed, who has them open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use runtree_core::{Error, Result, Step};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::names::step_in;
use crate::layouts::unreadable;

/// How deep below a watched directory a checkpoint may lie: `<run>/checkpoints/step_5`.
const MAX_DEPTH: usize = 3;
/// What a torn directory is called from then on.
const TORN: &str = ".torn-";

/// Every file and directory of a checkpoint: path, bytes, inode, and when its content changed. Not when its inode did, which linking it does.
pub(super) type Stamps = BTreeMap<PathBuf, (u64, u64, (i64, i64))>;

/// Stamps of what is in a directory.
pub(super) fn links(directory: &Path) -> Stamps {
    let mut stamps = Stamps::new();
    stamp(directory, Path::new("."), &mut stamps);
    stamps
}

/// Finds directories that are called like checkpoints below `root`, and hands them over with their steps. Nothing is looked for in them.
pub(super) fn find(
    root: &Path,
    below: &Path,
    depth: usize,
    found: &mut impl FnMut(&Path, Step),
) -> Result<()> {
    let directory = root.join(below);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        // Of somebody else, or deleted meanwhile; the root itself must be there.
        Err(_) if depth > 1 => return Ok(()),
        Err(error) => return Err(unreadable(&directory, error)),
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // Links lead to what is found where it is; hidden ones are somebody's own business.
        if name.starts_with('.') || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = below.join(&name);
        match step_in(&name) {
            Some(step) => found(&path, step),
            None if depth < MAX_DEPTH => find(root, &path, depth + 1, found)?,
            None => {}
        }
    }
    Ok(())
}

/// Stamps everything below a directory. What goes meanwhile is not there.
pub(super) fn stamp(directory: &Path, name: &Path, stamps: &mut Stamps) {
    if let Ok(metadata) = fs::symlink_metadata(directory) {
        stamps.insert(name.to_owned(), of(&metadata));
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = name.join(entry.file_name());
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => stamp(&entry.path(), &name, stamps),
            Ok(metadata) => {
                stamps.insert(name, of(&metadata));
            }
            Err(_) => {}
        }
    }
}

fn of(metadata: &Metadata) -> (u64, u64, (i64, i64)) {
    let bytes = if metadata.is_dir() { 0 } else { metadata.len() };
    (
        bytes,
        metadata.ino(),
        (metadata.mtime(), metadata.mtime_nsec()),
    )
}

/// Whether a directory itself was touched after everything in it: it was renamed into its place, or given its times, as who copies a tree does at the end.
///
/// Adding to a directory sets both of its times at once, so that one of them alone is later says that something else was done to it; and nothing
/// in it changed since.
pub(super) fn was_sealed(directory: &Path) -> bool {
    let Ok(own) = fs::symlink_metadata(directory) else {
        return false;
    };
    let touched = (own.ctime(), own.ctime_nsec());
    let mut stamps = Stamps::new();
    stamp(directory, Path::new("."), &mut stamps);
    (own.mtime(), own.mtime_nsec()) < touched
        && stamps.values().all(|(_, _, modified)| *modified <= touched)
}

/// Whether a process that can be looked at has a file below one of the directories open for writing.
#[cfg(target_os = "linux")]
pub(super) fn is_being_written(nodes: &[(usize, PathBuf)]) -> bool {
    let roots: Vec<PathBuf> = nodes
        .iter()
        .filter_map(|(_, path)| path.canonicalize().ok())
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let own = std::process::id().to_string();
    processes.flatten().any(|process| {
        let name = process.file_name();
        let is_other = name
            .to_str()
            .is_some_and(|name| name != own && name.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(files) = is_other
            .then(|| fs::read_dir(process.path().join("fd")).ok())
            .flatten()
        else {
            return false;
        };
        files.flatten().any(|file| {
            let leads_in = fs::read_link(file.path())
                .is_ok_and(|to| roots.iter().any(|root| to.starts_with(root)));
            leads_in && is_for_writing(&process.path().join("fdinfo").join(file.file_name()))
        })
    })
}

/// What proc(5) says of an open file: its flags, in octal.
#[cfg(target_os = "linux")]
fn is_for_writing(info: &Path) -> bool {
    const ACCESS: u32 = 0o3;
    let text = fs::read_to_string(info).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & ACCESS != 0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_being_written(_: &[(usize, PathBuf)]) -> bool {
    false
}

/// A hidden name beside a directory that nothing has yet.
pub(super) fn free_name(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let named = |count: u32| {
        let suffix = if count == 0 {
            String::new()
        } else {
            format!("-{count}")
        };
        path.with_file_name(format!("{TORN}{name}{suffix}"))
    };
    (0..=u32::MAX)
        .map(named)
        .find(|to| fs::symlink_metadata(to).is_err())
        .unwrap_or_else(|| named(0))
}

/// Locks a directory, for this process and for all that it starts: a command whose exec was killed still writes into it.
///
/// # Errors
/// `Conflict` if one of those runs.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let file = File::open(directory).map_err(|error| unreadable(directory, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::conflict(format!(
            "another exec watches {}, or what one started still runs",
            directory.display()
        ))
        .with_hint("wait until it has ended, or give this one a directory of its own")),
        // A file system without locks.
        Err(_) => Ok(file),
        Ok(()) => {
            fcntl_setfd(&file, FdFlags::empty())
                .map_err(|error| unreadable(directory, error.into()))?;
            Ok(file)
        }
    }
}

/// The files among stamps: when a directory changed is of no matter.
pub(super) fn files(stamps: &Stamps) -> Stamps {
    let parents: BTreeSet<&Path> = stamps.keys().filter_map(|path| path.parent()).collect();
    let kept = stamps
        .iter()
        .filter(|(path, _)| !parents.contains(path.as_path()));
    kept.map(|(path, stamp)| (path.clone(), *stamp)).collect()
}

/// Names of files with `#` for the step: `model_20.pt` of 20 is `model_30.pt` of 30, and no shard is another.
pub(super) fn names(stamps: &Stamps, step: Step) -> BTreeSet<String> {
    let step = step.to_string();
    let plain = |path: &PathBuf| {
        let mut name = String::new();
        let mut digits = String::new();
        for letter in path.to_string_lossy().chars().chain(std::iter::once('/')) {
            if letter.is_ascii_digit() {
                digits.push(letter);
                continue;
            }
            let is_step = !digits.is_empty() && digits.trim_start_matches('0') == step;
            name.push_str(if is_step { "#" } else { &digits });
            digits.clear();
            name.push(letter);
        }
        name
    };
    stamps.keys().map(plain).collect()
}
