//! Whether a directory holds what a checkpoint does: the same names, bytes and links. Permissions do not count, since a bucket has none.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result};

use super::place::unreadable;
use crate::engine::Engine;
use crate::export::directory::write_body;
use crate::export::members::{self, Body};
use crate::load::LoadedManifest;
use crate::save::{FoundKind, walk};

/// The first thing that differs, in words; none if nothing does. Names and sizes are compared before any byte is read.
///
/// # Errors
/// As reading the checkpoint, or the directory, says.
pub(crate) fn find_difference(
    engine: &Engine,
    checkpoint: CheckpointName,
    directory: &Path,
) -> Result<Option<String>> {
    let manifest = engine.load_plan(checkpoint)?;
    let members = members::as_saved(&manifest, None)?;
    let mut there: BTreeMap<String, FoundKind> = walk(directory)?
        .into_iter()
        .filter(|found| !matches!(found.kind, FoundKind::Directory { .. }))
        .map(|found| (found.path, found.kind))
        .collect();
    let mut files = Vec::new();
    for member in &members {
        if matches!(member.body, Body::Directory) {
            continue;
        }
        let path = &member.path;
        let differs = match (&member.body, there.remove(path)) {
            (_, None) => return Ok(Some(format!("there is no {path}"))),
            (Body::Symlink(link), Some(FoundKind::Symlink { target })) => *link != target,
            (Body::File { .. } | Body::Tensors { .. }, Some(FoundKind::File { bytes, .. })) => {
                files.push(member);
                member.body.bytes() != bytes
            }
            _ => true,
        };
        if differs {
            return Ok(Some(format!("{path} differs")));
        }
    }
    if let Some((extra, _)) = there.first_key_value() {
        return Ok(Some(format!("there is {extra}, too")));
    }
    for member in files {
        let path = directory.join(&member.path);
        if !has_bytes(engine, &manifest, &member.path, &member.body, &path)? {
            return Ok(Some(format!("{} differs", member.path)));
        }
    }
    Ok(None)
}

fn has_bytes(
    engine: &Engine,
    manifest: &LoadedManifest,
    what: &str,
    body: &Body,
    path: &Path,
) -> Result<bool> {
    let failed = |error| unreadable(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut there = Vec::new();
    let mut is_same = true;
    let mut compare = |stored: &[u8]| {
        there.resize(stored.len(), 0);
        is_same = match file.read_exact(&mut there) {
            Ok(()) => there == stored,
            // It became shorter since it was looked at.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(failed(error)),
        };
        // The rest of a file that differs is not read: this error goes no further than the next lines.
        if is_same {
            Ok(())
        } else {
            Err(Error::conflict("it differs"))
        }
    };
    let read = write_body(engine, manifest, what, body, &mut compare);
    if is_same {
        read.map(|()| true)
    } else {
        Ok(false)
    }
}
