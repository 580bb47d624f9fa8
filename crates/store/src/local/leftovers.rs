//! What killed writers left: temporary files of chunks, up to 64 MiB each.

use std::fs;
use std::time::Duration;

use object_store::Result;

use super::LocalStore;
use super::error::fail;
use super::publish::TempFile;
use crate::layout::{self, TEMPORARY_PREFIX};

impl LocalStore {
    /// Removes temporary files of chunks that nobody has written to for `idle`; returns how many, and their bytes.
    ///
    /// Age is the difference of two stamps of the file system itself, so no host's clock can make a live writer's file look old. A writer that
    /// was stopped for longer finds its file gone and writes the chunk again.
    ///
    /// # Errors
    /// As the file system says. Files that vanish meanwhile are fine.
    pub fn remove_leftovers(&self, idle: Duration) -> Result<(u64, u64)> {
        let root = self.root();
        let mut probe = TempFile::create_in(root)?;
        probe.write_all(&"x".into())?;
        let stamp = |metadata: std::io::Result<fs::Metadata>| metadata.and_then(|m| m.modified());
        let now = stamp(probe.file().metadata()).map_err(|error| fail("inspect", root, error))?;
        let (mut files, mut bytes) = (0, 0);
        for (shard, is_directory) in self.names(&layout::chunks())? {
            if !is_directory {
                continue;
            }
            let directory = root.join(layout::chunks().as_ref()).join(shard);
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.flatten() {
                let is_leftover = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX));
                let (true, Ok(metadata)) = (is_leftover, entry.metadata()) else {
                    continue;
                };
                let len = metadata.len();
                let old = stamp(Ok(metadata))
                    .ok()
                    .and_then(|written| now.duration_since(written).ok())
                    .is_some_and(|age| age >= idle);
                if old && fs::remove_file(entry.path()).is_ok() {
                    files += 1;
                    bytes += len;
                }
            }
        }
        Ok((files, bytes))
    }
}
