//! A file that appears whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use runtree_core::{Error, Result};

/// A temporary file beside its place, removed unless it gets its name.
struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Once it is renamed nothing has this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a file beside its place, syncs it, and renames it over whatever is there.
///
/// # Errors
/// As `write` says; as the disk says.
pub(crate) fn write_whole<T>(
    path: &Path,
    random: u128,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T>,
) -> Result<T> {
    let failed = |verb: &str, error: std::io::Error| {
        Error::unavailable(format!("can not {verb} {}", path.display())).with_source(error)
    };
    if path.is_dir() {
        return Err(Error::invalid(format!("{} is a directory", path.display()))
            .with_hint("name a file in it"));
    }
    let name = path
        .file_name()
        .ok_or_else(|| Error::invalid(format!("{} does not name a file", path.display())))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:016x}", random as u64));
    let temporary = Temporary {
        path: path.with_file_name(hidden),
    };
    let file = File::create_new(&temporary.path).map_err(|error| failed("create", error))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out)?;
    out.flush().map_err(|error| failed("write", error))?;
    let file = out
        .into_inner()
        .map_err(|error| failed("write", error.into_error()))?;
    file.sync_all().map_err(|error| failed("write", error))?;
    fs::rename(&temporary.path, path).map_err(|error| failed("rename to", error))?;
    Ok(written)
}
