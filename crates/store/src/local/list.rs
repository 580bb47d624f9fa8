//! Listing directories. Temporary files, links, pipes and names that are no object paths are not there.

use std::fs;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{Extensions, ListResult, ObjectMeta, Result};

use super::error::fail;
use super::{blocking, read};
use crate::layout::TEMPORARY_PREFIX;

/// Names and whether each is a directory.
pub(super) fn names(directory: &FsPath) -> Result<Vec<(String, bool)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(fail("list", directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fail("list", directory, error))?;
        let Ok(kind) = entry.file_type() else {
            continue; // gone meanwhile
        };
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !name.starts_with(TEMPORARY_PREFIX) && (kind.is_dir() || kind.is_file()) {
            names.push((name, kind.is_dir()));
        }
    }
    Ok(names)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Sorted entries of one directory: objects, and directories by their paths.
fn entries(root: &FsPath, directory: &Path) -> Result<(Vec<ObjectMeta>, Vec<Path>)> {
    let (mut objects, mut directories) = (Vec::new(), Vec::new());
    let on_disk = root.join(directory.as_ref());
    for (name, is_directory) in names(&on_disk)? {
        let text = if directory.is_root() {
            name.clone()
        } else {
            format!("{directory}/{name}")
        };
        // A path that does not print back to itself could not be opened again.
        let Some(path) = Path::parse(&text).ok().filter(|path| path.as_ref() == text) else {
            continue;
        };
        if is_directory {
            directories.push(path);
        } else if let Ok(metadata) = fs::symlink_metadata(on_disk.join(&name)) {
            objects.push(read::meta(path, &metadata));
        }
    }
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    directories.sort();
    Ok((objects, directories))
}

/// `list_with_delimiter`. A directory is a common prefix even if it is empty, which it is in a bucket never.
pub(super) fn directory(root: &FsPath, prefix: Option<&Path>) -> Result<ListResult> {
    let (objects, common_prefixes) = entries(root, prefix.unwrap_or(&Path::ROOT))?;
    Ok(ListResult {
        common_prefixes,
        objects,
        extensions: Extensions::default(),
    })
}

/// `list`: one directory at a time, so that memory holds one directory and not the store.
pub(super) fn recursive(
    root: &FsPath,
    prefix: Option<&Path>,
    after: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    struct Walk {
        root: PathBuf,
        pending: Vec<Path>,
    }
    let walk = Walk {
        root: root.to_owned(),
        pending: vec![prefix.cloned().unwrap_or(Path::ROOT)],
    };
    stream::try_unfold(walk, |mut walk| {
        blocking(move || {
            let Some(directory) = walk.pending.pop() else {
                return Ok(None);
            };
            let (objects, directories) = entries(&walk.root, &directory)?;
            walk.pending.extend(directories.into_iter().rev());
            Ok(Some((objects, walk)))
        })
    })
    .map(|batch| match batch {
        Ok(objects) => stream::iter(objects.into_iter().map(Ok).collect::<Vec<_>>()),
        Err(error) => stream::iter(vec![Err(error)]),
    })
    .flatten()
    .filter(move |object| {
        let wanted = match (object, &after) {
            (Ok(object), Some(after)) => object.location > *after,
            _ => true,
        };
        std::future::ready(wanted)
    })
    .boxed()
}
