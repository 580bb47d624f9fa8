//! What a part manifest must satisfy before anybody follows an index, an extent or a path in it.

use super::{BLOCK_BYTES, EntryContent, Extent, MAX_CHUNK_BYTES, PartManifest};
use crate::error::{Error, Result};

impl PartManifest {
    /// Checks everything a reader relies on: chunk sizes and checksum counts, extents inside their chunks, tensors and files
    /// exactly covered by their extents, tree leaves naming what exists, paths that stay inside their directory.
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
            let is_file = !matches!(entry.content, EntryContent::State { .. });
            if is_file && !is_safe_relative_path(&entry.path) {
                return Err(Error::corrupt(format!(
                    "entry path {:?} leaves its directory",
                    entry.path
                )));
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
                for (index, tensor) in tensors.iter().enumerate() {
                    let bytes = tensor.check().map_err(|error| {
                        error.in_context(format!("tensor {index} {:?}", tensor.name))
                    })?;
                    self.check_extents(&tensor.extents, bytes)
                        .map_err(|error| error.in_context(format!("tensor {:?}", tensor.name)))?;
                }
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
            EntryContent::File { extents, bytes, .. } => self.check_extents(extents, *bytes),
            EntryContent::Directory { .. } | EntryContent::Symlink { .. } => Ok(()),
        }
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
