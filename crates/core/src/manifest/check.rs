//! What a part manifest must satisfy before anybody follows an index, an extent or a path in it.

use std::collections::BTreeMap;

use super::{BLOCK_BYTES, EntryContent, Extent, MAX_CHUNK_BYTES, PartManifest};
use crate::error::{Error, Result};
use crate::state::TensorRecord;

impl PartManifest {
    /// Checks everything a reader relies on: chunk sizes and checksum counts, extents inside their chunks, tensors and files
    /// exactly covered by their extents, tree leaves naming what exists, paths and links that stay inside their directory and do
    /// not shadow each other, and that the part is one of those it declares.
    ///
    /// # Errors
    /// `Corrupt` that names the part and the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        let part = format!(
            "part {}-{} of {} of run {}",
            self.component, self.rank, self.key, self.run
        );
        self.check_inner().map_err(|error| error.in_context(part))
    }

    fn check_inner(&self) -> Result<()> {
        let ranks = self.parts.get(&self.component).copied().unwrap_or(0);
        if self.rank >= ranks {
            return Err(Error::corrupt(format!(
                "the save declares {ranks} parts of {}",
                self.component
            )));
        }
        for (index, chunk) in self.chunks.iter().enumerate() {
            let blocks = chunk.bytes.div_ceil(BLOCK_BYTES);
            if chunk.bytes == 0
                || chunk.bytes > MAX_CHUNK_BYTES
                || chunk.crc64.0.len() as u64 != blocks
            {
                return Err(Error::corrupt(format!(
                    "chunk {index} ({}) has {} bytes and {} block checksums",
                    chunk.hash,
                    chunk.bytes,
                    chunk.crc64.0.len()
                )));
            }
        }
        for entry in &self.entries {
            self.check_content(&entry.content)
                .map_err(|error| error.in_context(format!("entry {:?}", entry.path)))?;
            if !is_safe_relative_path(&entry.path) {
                return Err(Error::corrupt(format!(
                    "entry path {:?} leaves its directory",
                    entry.path
                )));
            }
            if let EntryContent::Symlink { target } = &entry.content
                && !link_stays_inside(target, entry.path.split('/').count() - 1)
            {
                return Err(Error::corrupt(format!(
                    "link {:?} points to {target:?}, outside its directory",
                    entry.path
                )));
            }
        }
        self.check_paths()
    }

    /// No path twice, and nothing below what is not a directory: a file below a link would be written wherever that points.
    fn check_paths(&self) -> Result<()> {
        let mut directories = BTreeMap::new();
        for entry in &self.entries {
            let is_directory = matches!(entry.content, EntryContent::Directory { .. });
            if directories
                .insert(entry.path.as_str(), is_directory)
                .is_some()
            {
                return Err(Error::corrupt(format!(
                    "entry path {:?} stands twice",
                    entry.path
                )));
            }
        }
        for entry in &self.entries {
            let mut path = entry.path.as_str();
            while let Some((above, _)) = path.rsplit_once('/') {
                if directories.get(above) == Some(&false) {
                    return Err(Error::corrupt(format!(
                        "entry path {:?} is below {above:?}, which is no directory",
                        entry.path
                    )));
                }
                path = above;
            }
        }
        Ok(())
    }

    fn check_content(&self, content: &EntryContent) -> Result<()> {
        match content {
            EntryContent::State {
                tree,
                tensors,
                blobs,
            } => {
                self.check_tensors(tensors)?;
                for (index, blob) in blobs.iter().enumerate() {
                    let total = blob
                        .iter()
                        .try_fold(0_u64, |sum, extent| sum.checked_add(extent.bytes));
                    let total = total.ok_or_else(|| {
                        Error::corrupt(format!("blob {index} is larger than 2^64"))
                    })?;
                    self.check_extents(blob, total)
                        .map_err(|error| error.in_context(format!("blob {index}")))?;
                }
                tree.check(tensors, blobs.len())
            }
            EntryContent::File {
                extents,
                bytes,
                tensors,
                ..
            } => {
                self.check_extents(extents, *bytes)?;
                self.check_tensors(tensors)
            }
            EntryContent::Directory { .. } | EntryContent::Symlink { .. } => Ok(()),
        }
    }

    fn check_tensors(&self, tensors: &[TensorRecord]) -> Result<()> {
        for (index, tensor) in tensors.iter().enumerate() {
            let bytes = tensor
                .check()
                .map_err(|error| error.in_context(format!("tensor {index} {:?}", tensor.name)))?;
            self.check_extents(&tensor.extents, bytes)
                .map_err(|error| error.in_context(format!("tensor {:?}", tensor.name)))?;
        }
        Ok(())
    }

    fn check_extents(&self, extents: &[Extent], expected: u64) -> Result<()> {
        let mut total: u64 = 0;
        for extent in extents {
            let chunk = self.chunks.get(extent.chunk as usize);
            let inside = chunk
                .zip(extent.offset.checked_add(extent.bytes))
                .is_some_and(|(chunk, end)| end <= chunk.bytes);
            if !inside {
                return Err(Error::corrupt(format!(
                    "extent {}+{} is outside chunk {} of {}",
                    extent.offset,
                    extent.bytes,
                    extent.chunk,
                    self.chunks.len()
                )));
            }
            total = total
                .checked_add(extent.bytes)
                .ok_or_else(|| Error::corrupt("extents add up to more than 2^64 bytes"))?;
        }
        if total != expected {
            return Err(Error::corrupt(format!(
                "extents hold {total} bytes, {expected} expected"
            )));
        }
        Ok(())
    }
}

/// Whether a `/`-separated path names something strictly inside its directory, on every platform: no empty part, `.`, `..`,
/// backslash, NUL or drive letter.
pub(crate) fn is_safe_relative_path(path: &str) -> bool {
    let safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0', ':']);
    path.len() <= 4096 && path.split('/').all(safe)
}

/// Whether a link whose own directory lies `depth` below the root stays inside: relative, `..` only at its start, at most `depth` of them.
///
/// A `..` after a name could climb out of a linked directory. At the start it climbs out of real ones, since nothing lies below a
/// link; what follows only descends, through other links at most, and those stay inside by the same rule.
fn link_stays_inside(target: &str, depth: usize) -> bool {
    let parts: Vec<&str> = target
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let ups = parts.iter().take_while(|part| **part == "..").count();
    !target.is_empty()
        && target.len() <= 4096
        && !target.starts_with('/')
        && !target.contains(['\\', '\0', ':'])
        && ups <= depth
        && !parts[ups..].contains(&"..")
}
