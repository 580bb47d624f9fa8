//! Plain objects of a bucket: what other tools wrote there, to be looked at and taken in.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use runtree_core::{Error, Result};

use super::{RemoteAddress, Settings, connect, explain};
use crate::error::from_object;
use crate::layout::ObjectPath;
use crate::wait::block_on;

/// What lies below an address, with its size in bytes; names are relative to it, in order. Nothing there is an empty list.
///
/// # Errors
/// `NotFound` if there is no such bucket; `Denied`; `Unavailable`.
pub fn list_objects(address: &RemoteAddress, settings: &Settings) -> Result<Vec<(String, u64)>> {
    let objects = connect(address, settings)?;
    let listed = objects
        .list(None)
        .map_ok(|meta| (meta.location.to_string(), meta.size));
    let mut found: Vec<_> = block_on(listed.try_collect())
        .map_err(|error| failed(error, address, &format!("list {address}")))?;
    found.sort();
    Ok(found)
}

/// Writes one object below an address to a file that is not there yet, as it comes; returns how many bytes it has.
///
/// # Errors
/// `NotFound` if there is no such object; `Unavailable` if the bucket or the disk fails: then there may be the beginning of a file.
pub fn fetch_object(
    address: &RemoteAddress,
    settings: &Settings,
    name: &str,
    file: &Path,
) -> Result<u64> {
    let object = ObjectPath::parse(name)
        .map_err(|error| Error::invalid(format!("{name:?} is no object")).with_source(error))?;
    let objects = connect(address, settings)?;
    let read = format!("read {address}/{name}");
    let disk = |error: std::io::Error| {
        Error::unavailable(format!("can not write {}", file.display())).with_source(error)
    };
    let got = block_on(objects.get(&object)).map_err(|error| failed(error, address, &read))?;
    let mut out = File::create_new(file).map_err(disk)?;
    let mut stream = got.into_stream();
    let mut bytes = 0;
    while let Some(piece) =
        block_on(stream.try_next()).map_err(|error| failed(error, address, &read))?
    {
        out.write_all(&piece).map_err(disk)?;
        bytes += piece.len() as u64;
    }
    Ok(bytes)
}

fn failed(error: object_store::Error, address: &RemoteAddress, what: &str) -> Error {
    explain(&error, address).unwrap_or_else(|| from_object(error, what))
}
