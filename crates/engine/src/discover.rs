//! Finding the store a command means: `RUNTREE_STORE`, else the nearest `.runtree` upwards, else one to be made here.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Name of a store's directory inside a project.
const STORE_DIR: &str = ".runtree";

/// The store that `start` belongs to; `explicit` (the value of `RUNTREE_STORE`) wins.
///
/// The walk upwards stops at the first directory that is not the user's own: a `.runtree` that somebody else put into `/tmp`
/// is not ours to write to. If there is none, the answer is `start/.runtree`, which need not exist.
pub fn discover_store(start: &Path, explicit: Option<&str>) -> PathBuf {
    if let Some(explicit) = explicit.filter(|text| !text.is_empty()) {
        return PathBuf::from(explicit);
    }
    let user = rustix::process::getuid().as_raw();
    let start = std::path::absolute(start).unwrap_or_else(|_| start.to_owned());
    start
        .ancestors()
        .take_while(|dir| {
            *dir == start || std::fs::metadata(dir).is_ok_and(|meta| meta.uid() == user)
        })
        .map(|dir| dir.join(STORE_DIR))
        .find(|candidate| candidate.join("runtree.json").is_file())
        .unwrap_or_else(|| start.join(STORE_DIR))
}
