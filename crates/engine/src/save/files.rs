//! A file's bytes as chunks, without a checkpoint: attached files of a run, which its journal names.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use runtree_core::manifest::{ChunkRecord, MAX_CHUNK_BYTES};
use runtree_core::{Error, Result};
use runtree_store::{FileList, checksum};

use super::copy::open_nofollow;
use crate::engine::Engine;
use crate::live::lock;

impl Engine {
    /// Puts bytes into the store as chunks, makes them durable and lists them, as [`Engine::put_file`] does with a file's.
    ///
    /// # Errors
    /// As the store says.
    pub(crate) fn put_bytes(
        &self,
        bytes: Bytes,
        list: &Mutex<FileList>,
    ) -> Result<(u64, Vec<ChunkRecord>)> {
        let session = self.store().begin_save()?;
        let mut chunks = Vec::new();
        let mut pieces = HashMap::new();
        for start in (0..bytes.len()).step_by(MAX_CHUNK_BYTES as usize) {
            let end = bytes.len().min(start + MAX_CHUNK_BYTES as usize);
            let chunk = bytes.slice(start..end);
            let sum = checksum(&chunk);
            pieces.insert(sum.hash, chunk.clone());
            chunks.push(session.put_chunk(chunk, sum)?.record);
        }
        let refill = |chunk: &ChunkRecord| Ok(pieces.get(&chunk.hash).cloned());
        session.publish_files(&mut lock(list), refill)?;
        Ok((bytes.len() as u64, chunks))
    }

    /// Puts a file's bytes into the store as chunks, makes them durable and lists them: whoever journals them then relies on them being kept with the run. Says how many
    /// bytes, and which chunks, in order.
    ///
    /// # Errors
    /// `Invalid` if it is not a regular file; `Unavailable` if it can not be read; else as the store says.
    pub(crate) fn put_file(
        &self,
        path: &Path,
        list: &Mutex<FileList>,
    ) -> Result<(u64, Vec<ChunkRecord>)> {
        let unreadable = |error: std::io::Error| {
            Error::unavailable(format!("can not read {}", path.display())).with_source(error)
        };
        // A link is followed once, here: the user named it. What is opened then is the file itself.
        let real = path.canonicalize().map_err(unreadable)?;
        let metadata = std::fs::metadata(&real).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::invalid(format!("{} is not a file", path.display())));
        }
        let mut file = open_nofollow(&real)?;
        let session = self.store().begin_save()?;
        let mut chunks = Vec::new();
        let mut places = HashMap::new();
        let mut total = 0;
        loop {
            let mut bytes = Vec::new();
            (&mut file)
                .take(MAX_CHUNK_BYTES)
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
            if bytes.is_empty() {
                break;
            }
            let sum = checksum(&bytes);
            places.insert(sum.hash, total);
            total += bytes.len() as u64;
            chunks.push(session.put_chunk(Bytes::from(bytes), sum)?.record);
        }
        // What a collector took meanwhile is read from the file once more; the store compares it with its hash.
        let refill = |chunk: &ChunkRecord| {
            let Some(&start) = places.get(&chunk.hash) else {
                return Ok(None);
            };
            let mut bytes = vec![0; chunk.bytes as usize];
            file.read_exact_at(&mut bytes, start).map_err(unreadable)?;
            Ok(Some(Bytes::from(bytes)))
        };
        session.publish_files(&mut lock(list), refill)?;
        Ok((total, chunks))
    }
}
