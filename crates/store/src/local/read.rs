//! Reading objects from files.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path as FsPath;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{
    Attributes, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta,
    Result,
};

use super::error::fail;

/// Opens the file of an object. Links are not followed and nothing but a regular file is an object: a store that came from
/// elsewhere can not make us read other files, or wait for a pipe.
pub(super) fn open(target: &FsPath, location: &Path) -> Result<(File, ObjectMeta)> {
    use rustix::fs::OFlags;
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let not_an_object = |error| Error::NotFound {
        path: location.to_string(),
        source: Box::new(error),
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(target)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => not_an_object(error),
            _ => fail("open", target, error),
        })?;
    let metadata = file
        .metadata()
        .map_err(|error| fail("inspect", target, error))?;
    if !metadata.is_file() {
        return Err(not_an_object(io::Error::other("not a regular file")));
    }
    let meta = meta(location.clone(), &metadata);
    Ok((file, meta))
}

/// What the trait wants to know of a file.
pub(super) fn meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: last_modified(metadata),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

/// Changes whenever another file gets the name.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    format!(
        "\"{:x}-{:x}-{:x}-{:x}\"",
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len()
    )
}

fn last_modified(metadata: &Metadata) -> DateTime<Utc> {
    let nanos = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    DateTime::from_timestamp(metadata.mtime(), nanos).unwrap_or_default()
}

/// `get_opts`.
pub(super) fn get(target: &FsPath, location: &Path, options: &GetOptions) -> Result<GetResult> {
    let (file, meta) = open(target, location)?;
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        Some(range) => as_range(range, meta.size)?,
        None => 0..meta.size,
    };
    Ok(GetResult {
        payload: GetResultPayload::File(file, target.to_owned()),
        meta,
        range,
        attributes: Attributes::default(),
        extensions: Extensions::default(),
    })
}

/// `get_ranges`.
pub(super) fn get_ranges(
    target: &FsPath,
    location: &Path,
    ranges: &[Range<u64>],
) -> Result<Vec<Bytes>> {
    let (file, meta) = open(target, location)?;
    ranges
        .iter()
        .map(|range| {
            let range = as_range(&GetRange::Bounded(range.clone()), meta.size)?;
            let mut buffer = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut buffer, range.start)
                .map_err(|error| fail("read", target, error))?;
            Ok(Bytes::from(buffer))
        })
        .collect()
}

fn as_range(range: &GetRange, size: u64) -> Result<Range<u64>> {
    range.as_range(size).map_err(|source| Error::Generic {
        store: "local",
        source: Box::new(source),
    })
}
