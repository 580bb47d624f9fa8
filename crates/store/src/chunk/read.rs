//! Reading chunks: straight into the destination, block by block, every block verified.
//!
//! The object that the manifest names is tried first, without a listing. If it is gone, was never in this store, or is damaged, the hash is listed and
//! any other object serves. A damaged object is read once more from the disk itself before it is given up: memory can be wrong, too.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::{
    Error as ObjectError, GetOptions, GetRange, GetResultPayload, ObjectStore as _,
    Result as ObjectResult,
};
use runtree_core::manifest::{BLOCK_BYTES, ChunkRecord, MAX_CHUNK_BYTES};
use runtree_core::{ChunkHash, Error, ErrorKind, Result};

use super::planes::{self, Tail};
use super::{block_checksum, block_len, checksum};
use crate::error::from_object;
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::store::Store;
use crate::wait::block_on;

/// What verification found of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkVerdict {
    /// Objects whose raw bytes have the hash.
    pub healthy: Vec<ObjectName>,
    /// Objects that hold something else.
    pub damaged: Vec<ObjectName>,
}

/// Why an object did not serve.
enum Failure {
    /// It is not there.
    Gone,
    /// It holds something else: which block, and what is wrong.
    Damaged(Option<u64>, String),
    /// The store did not answer, or the object needs a newer build.
    Other(Error),
}

/// Whether what the kernel has in memory may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Cached,
    FromStorage,
}

impl Store {
    /// Reads `destination.len()` raw bytes of a chunk from `offset` on, verified by the checksums of their blocks.
    ///
    /// Whole blocks are read into the destination itself; a block that is wanted in part is read whole, because its checksum is. After an error the
    /// destination's content is unspecified.
    ///
    /// # Errors
    /// `Invalid` if the range is outside the chunk; `NotFound` if no object of the chunk is in the store; `Corrupt` naming chunk and block if none of them
    /// is healthy; `Unsupported` if only encodings of newer builds are there.
    pub fn read_chunk_into(
        &self,
        chunk: &ChunkRecord,
        offset: u64,
        destination: &mut [u8],
    ) -> Result<()> {
        check_range(chunk, offset, destination.len() as u64)?;
        if destination.is_empty() {
            return Ok(());
        }
        self.with_objects(chunk, |name, freshness| {
            self.read_object_into(name, chunk, offset, destination, freshness)
        })
        .map(drop)
    }

    /// Reads a whole chunk, verified.
    ///
    /// # Errors
    /// As [`Store::read_chunk_into`].
    pub fn read_chunk(&self, chunk: &ChunkRecord) -> Result<Vec<u8>> {
        check_range(chunk, 0, 0)?;
        let mut bytes = vec![0; chunk.bytes as usize];
        self.read_chunk_into(chunk, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads every object of a chunk and compares its BLAKE3.
    ///
    /// # Errors
    /// As the store says; damage is a verdict, not an error.
    pub fn verify_chunk(&self, chunk: &ChunkRecord) -> Result<ChunkVerdict> {
        check_range(chunk, 0, 0)?;
        let mut verdict = ChunkVerdict::default();
        let mut bytes = vec![0; chunk.bytes as usize];
        for name in self.list_objects(chunk.hash)? {
            let mut healthy = false;
            for freshness in [Freshness::Cached, Freshness::FromStorage] {
                match self.read_object_into(&name, chunk, 0, &mut bytes, freshness) {
                    Ok(()) => healthy = checksum(&bytes).hash == chunk.hash,
                    Err(Failure::Damaged(..)) => healthy = false,
                    Err(Failure::Gone) => break,
                    Err(Failure::Other(error)) => return Err(error),
                }
                if healthy {
                    break;
                }
            }
            if healthy {
                verdict.healthy.push(name);
            } else if self.head(&layout::chunk_object(&name))?.is_some() {
                verdict.damaged.push(name);
            }
        }
        Ok(verdict)
    }

    /// Bytes of the objects that serve these chunks in this store, each object counted once. A chunk that is not here counts nothing.
    ///
    /// # Errors
    /// As the store says.
    pub fn stored_bytes<'a>(
        &self,
        chunks: impl IntoIterator<Item = &'a ChunkRecord>,
    ) -> Result<u64> {
        let mut seen = std::collections::HashSet::new();
        let mut bytes = 0;
        for chunk in chunks {
            if !seen.insert(chunk.hash) {
                continue;
            }
            let hinted = hinted_object(chunk).map(|name| layout::chunk_object(&name));
            let mut meta = hinted.map(|path| self.head(&path)).transpose()?.flatten();
            if meta.is_none() {
                let other = self.list_objects(chunk.hash)?.into_iter().next();
                meta = other
                    .map(|name| self.head(&layout::chunk_object(&name)))
                    .transpose()?
                    .flatten();
            }
            bytes += meta.map_or(0, |meta| meta.size);
        }
        Ok(bytes)
    }

    /// Every object of a hash that is in the store: raw ones first.
    ///
    /// # Errors
    /// As the store says.
    pub fn list_objects(&self, hash: ChunkHash) -> Result<Vec<ObjectName>> {
        let mut objects: Vec<ObjectName> = self
            .names(&layout::chunk_shard(hash))?
            .iter()
            .filter(|(_, is_directory)| !is_directory)
            .filter_map(|(name, _)| name.parse().ok())
            .filter(|name: &ObjectName| name.hash == hash)
            .collect();
        objects.sort_by_key(|name| (name.encoding, name.put));
        Ok(objects)
    }

    /// Tries the objects of a chunk until one serves.
    fn with_objects(
        &self,
        chunk: &ChunkRecord,
        mut read: impl FnMut(&ObjectName, Freshness) -> Result<(), Failure>,
    ) -> Result<ObjectName> {
        let mut damage: Vec<String> = Vec::new();
        let mut unsupported = None;
        let mut attempt = |name: &ObjectName| -> Result<bool> {
            for freshness in [Freshness::Cached, Freshness::FromStorage] {
                match read(name, freshness) {
                    Ok(()) => return Ok(true),
                    Err(Failure::Gone) => return Ok(false),
                    Err(Failure::Damaged(block, what)) => {
                        if freshness == Freshness::FromStorage {
                            let block =
                                block.map_or(String::new(), |block| format!(" block {block}"));
                            damage.push(format!("object {name}{block}: {what}"));
                        }
                    }
                    Err(Failure::Other(error)) if error.kind() == ErrorKind::Unsupported => {
                        unsupported = Some(error);
                        return Ok(false);
                    }
                    Err(Failure::Other(error)) => return Err(error),
                }
            }
            Ok(false)
        };
        let hinted = hinted_object(chunk);
        if let Some(name) = hinted
            && attempt(&name)?
        {
            return Ok(name);
        }
        for name in self.list_objects(chunk.hash)? {
            if Some(name) != hinted && attempt(&name)? {
                return Ok(name);
            }
        }
        let what = format!("chunk {} ({} bytes)", chunk.hash, chunk.bytes);
        if !damage.is_empty() {
            return Err(
                Error::corrupt(format!("{what} is damaged: {}", damage.join("; ")))
                    .with_hint("runtree verify shows every checkpoint that needs it"),
            );
        }
        Err(unsupported.unwrap_or_else(|| Error::not_found(format!("{what} is not in this store"))))
    }

    fn read_object_into(
        &self,
        name: &ObjectName,
        chunk: &ChunkRecord,
        offset: u64,
        destination: &mut [u8],
        freshness: Freshness,
    ) -> Result<(), Failure> {
        let first = offset / BLOCK_BYTES;
        let end = (offset + destination.len() as u64).div_ceil(BLOCK_BYTES);
        match name.encoding {
            ObjectEncoding::Raw => {
                let range = first * BLOCK_BYTES..(end * BLOCK_BYTES).min(chunk.bytes);
                let (mut source, size) = self.open_object(name, GetRange::Bounded(range), freshness)?;
                if size != chunk.bytes {
                    return Err(Failure::Damaged(
                        None,
                        format!("it has {size} bytes, the manifest says {}", chunk.bytes),
                    ));
                }
                fill_blocks(chunk, offset, destination, |_, block| source.fill(block))
            }
            ObjectEncoding::Planes => {
                let tail = self.read_tail(name, freshness)?;
                if tail.raw_bytes != chunk.bytes {
                    return Err(Failure::Damaged(
                        None,
                        format!("it holds {} bytes, the manifest says {}", tail.raw_bytes, chunk.bytes),
                    ));
                }
                let (start, _) = tail.block(first as usize);
                let (last, bytes) = tail.block(end as usize - 1);
                let range = GetRange::Bounded(start..last + bytes as u64);
                let (mut source, _) = self.open_object(name, range, freshness)?;
                let (mut stored, mut scratch) = (Vec::new(), Vec::new());
                fill_blocks(chunk, offset, destination, |index, block| {
                    stored.resize(tail.block(index as usize).1, 0);
                    source.fill(&mut stored)?;
                    tail.decode(index as usize, &stored, block, &mut scratch)
                        .map_err(|error| Failure::Damaged(Some(index), error.chain()))
                })
            }
            ObjectEncoding::Delta(_) => Err(Failure::Other(
                Error::unsupported(format!(
                    "chunk object {name} is a difference to another chunk, which this runtree does not read"
                ))
                .with_hint("upgrade runtree: pip install -U runtree"),
            )),
        }
    }

    fn read_tail(&self, name: &ObjectName, freshness: Freshness) -> Result<Tail, Failure> {
        let range = GetRange::Suffix(planes::MAX_TAIL_BYTES as u64);
        let (mut source, size) = self.open_object(name, range, freshness)?;
        let mut end = vec![0; (planes::MAX_TAIL_BYTES as u64).min(size) as usize];
        source.fill(&mut end)?;
        Tail::parse(&end, size).map_err(|error| match error.kind() {
            ErrorKind::Unsupported => Failure::Other(error),
            _ => Failure::Damaged(None, error.message().to_owned()),
        })
    }

    /// Opens a range of an object; also says how large the object is.
    fn open_object(
        &self,
        name: &ObjectName,
        range: GetRange,
        freshness: Freshness,
    ) -> Result<(Source, u64), Failure> {
        let path = layout::chunk_object(name);
        let options = GetOptions::new().with_range(Some(range.clone()));
        match block_on(self.objects().get_opts(&path, options)) {
            Ok(result) => {
                let size = result.meta.size;
                let source = match result.payload {
                    GetResultPayload::File(file, _) => {
                        if freshness == Freshness::FromStorage {
                            // Advice; where it is not taken the second look is at the same memory, and damage stays damage.
                            let _ =
                                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                        }
                        Source::File(file, result.range.start)
                    }
                    GetResultPayload::Stream(stream) => Source::Stream(stream, Bytes::new()),
                };
                Ok((source, size))
            }
            Err(ObjectError::NotFound { .. }) => Err(Failure::Gone),
            Err(error) => {
                // A range that starts behind the end is an error of no particular kind: look how long the object is.
                let wanted = match &range {
                    GetRange::Bounded(range) => range.end,
                    GetRange::Offset(_) | GetRange::Suffix(_) => 1,
                };
                match self.head(&path) {
                    Ok(Some(meta)) if meta.size < wanted => Err(Failure::Damaged(
                        None,
                        format!("it has {} bytes, {wanted} are needed", meta.size),
                    )),
                    Ok(None) => Err(Failure::Gone),
                    _ => Err(Failure::Other(from_object(error, &format!("read {path}")))),
                }
            }
        }
    }
}

/// Bytes of an object, in order.
enum Source {
    File(File, u64),
    Stream(BoxStream<'static, ObjectResult<Bytes>>, Bytes),
}

impl Source {
    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::File(file, at) => {
                // A disk that can not read is a damaged object: another one may serve.
                file.read_exact_at(buffer, *at)
                    .map_err(|error| Failure::Damaged(None, format!("can not read it: {error}")))?;
                *at += buffer.len() as u64;
                Ok(())
            }
            Self::Stream(stream, ready) => {
                while !buffer.is_empty() {
                    if ready.is_empty() {
                        *ready = match block_on(stream.next()) {
                            Some(Ok(bytes)) => bytes,
                            Some(Err(error)) => {
                                return Err(Failure::Other(from_object(error, "read a chunk")));
                            }
                            None => {
                                return Err(Failure::Damaged(None, "it ends too early".to_owned()));
                            }
                        };
                        continue;
                    }
                    let count = ready.len().min(buffer.len());
                    let (now, later) = buffer.split_at_mut(count);
                    ready.copy_to_slice(now);
                    buffer = later;
                }
                Ok(())
            }
        }
    }
}

/// Fills `destination` with what `read` gives for each block that it touches, verified.
fn fill_blocks(
    chunk: &ChunkRecord,
    offset: u64,
    mut destination: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut scratch = Vec::new();
    let mut at = offset;
    while !destination.is_empty() {
        let index = at / BLOCK_BYTES;
        let (skip, len) = ((at % BLOCK_BYTES) as usize, block_len(chunk, index));
        let wanted = (len - skip).min(destination.len());
        let (now, later) = destination.split_at_mut(wanted);
        if wanted == len {
            read(index, now)?;
            check_block(chunk, index, now)?;
        } else {
            scratch.resize(len, 0);
            read(index, &mut scratch)?;
            check_block(chunk, index, &scratch)?;
            now.copy_from_slice(&scratch[skip..skip + wanted]);
        }
        destination = later;
        at += wanted as u64;
    }
    Ok(())
}

fn check_block(chunk: &ChunkRecord, index: u64, block: &[u8]) -> Result<(), Failure> {
    let (expected, found) = (chunk.crc64.0[index as usize], block_checksum(block));
    if expected == found {
        return Ok(());
    }
    Err(Failure::Damaged(
        Some(index),
        format!("its CRC-64 is {found:016x}, the manifest says {expected:016x}"),
    ))
}

/// A manifest's hint is somebody's text: it counts only if it names an object of this very hash.
fn hinted_object(chunk: &ChunkRecord) -> Option<ObjectName> {
    chunk
        .object
        .parse()
        .ok()
        .filter(|name: &ObjectName| name.hash == chunk.hash)
}

fn check_range(chunk: &ChunkRecord, offset: u64, bytes: u64) -> Result<()> {
    let blocks = chunk.bytes.div_ceil(BLOCK_BYTES);
    if chunk.bytes == 0 || chunk.bytes > MAX_CHUNK_BYTES || chunk.crc64.0.len() as u64 != blocks {
        return Err(Error::corrupt(format!(
            "chunk {} has {} bytes and {} block checksums",
            chunk.hash,
            chunk.bytes,
            chunk.crc64.0.len()
        )));
    }
    if offset
        .checked_add(bytes)
        .is_none_or(|end| end > chunk.bytes)
    {
        return Err(Error::invalid(format!(
            "bytes {offset}+{bytes} are outside chunk {} of {} bytes",
            chunk.hash, chunk.bytes
        )));
    }
    Ok(())
}
