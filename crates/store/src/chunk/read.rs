//! Reading chunks: straight into the destination, block by block, every block verified.
//!
//! The object that the manifest names is tried first, without a listing. If it is gone, was never in this store, or is damaged, the hash is listed and
//! any other object serves. A damaged object is read once more from the disk itself before it is given up: memory can be wrong, too.

use std::collections::{BTreeMap, HashMap, HashSet};

use object_store::GetRange;
use runtree_core::manifest::{BLOCK_BYTES, BlockChecksums, ChunkRecord, MAX_CHUNK_BYTES};
use runtree_core::{ChunkHash, Error, ErrorKind, Result};

use super::encoded::{MAX_DEPTH, Scratch, Tail};
use super::source::{Failure, Freshness, Source};
use super::{block_checksum, block_len, checksum};
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::rounds::Rounds;
use crate::store::Store;

/// What verification found of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkVerdict {
    /// Objects whose raw bytes have the hash.
    pub healthy: Vec<ObjectName>,
    /// Objects that hold something else.
    pub damaged: Vec<ObjectName>,
    /// Differences whose base can not be read: perhaps sound, and of no use before the base is healed.
    pub without_base: Vec<ObjectName>,
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
        self.read_range(&Range::of(chunk, offset), destination)
    }

    fn read_range(&self, range: &Range<'_>, destination: &mut [u8]) -> Result<()> {
        check_range(range.chunk, range.offset, destination.len() as u64)?;
        if destination.is_empty() {
            return Ok(());
        }
        self.with_objects(range, |name, freshness| {
            self.read_object_into(name, range, destination, freshness)
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
            let mut look = |freshness| {
                self.read_object_into(&name, &Range::of(chunk, 0), &mut bytes, freshness)?;
                if checksum(&bytes).hash == chunk.hash {
                    Ok(())
                } else {
                    Err(Failure::Damaged(None, "its BLAKE3 is another".to_owned()))
                }
            };
            let looked = match look(Freshness::Cached) {
                Err(Failure::Damaged(..)) => look(Freshness::FromStorage),
                looked => looked,
            };
            match looked {
                Ok(()) => verdict.healthy.push(name),
                Err(Failure::Damaged(..)) => verdict.damaged.push(name),
                Err(Failure::NoBase(_)) => verdict.without_base.push(name),
                Err(Failure::Gone) => {}
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Ok(verdict)
    }

    /// Bytes of all objects of these chunks in this store, each counted once. A chunk that is not here counts nothing.
    ///
    /// # Errors
    /// As the store says.
    pub fn stored_bytes<'a>(
        &self,
        chunks: impl IntoIterator<Item = &'a ChunkRecord>,
    ) -> Result<u64> {
        let objects = self.objects_of(chunks.into_iter().map(|chunk| chunk.hash))?;
        Ok(objects.values().flatten().map(|(_, bytes)| bytes).sum())
    }

    /// The objects of many chunks with their bytes, raw ones first; what is not here is not in the map. Each directory is listed once.
    ///
    /// # Errors
    /// As the store says.
    pub fn objects_of(
        &self,
        hashes: impl IntoIterator<Item = ChunkHash>,
    ) -> Result<HashMap<ChunkHash, Vec<(ObjectName, u64)>>> {
        let mut shards: BTreeMap<u8, HashSet<ChunkHash>> = BTreeMap::new();
        for hash in hashes {
            shards.entry(hash.as_bytes()[0]).or_default().insert(hash);
        }
        let mut found: HashMap<ChunkHash, Vec<(ObjectName, u64)>> = HashMap::new();
        for wanted in shards.values() {
            let Some(&any) = wanted.iter().next() else {
                continue;
            };
            for (name, is_directory) in self.names(&layout::chunk_shard(any))? {
                let Ok(name) = name.parse::<ObjectName>() else {
                    continue;
                };
                if is_directory || !wanted.contains(&name.hash) {
                    continue;
                }
                if let Some(meta) = self.head(&layout::chunk_object(&name))? {
                    found.entry(name.hash).or_default().push((name, meta.size));
                }
            }
        }
        for objects in found.values_mut() {
            objects.sort_by_key(|(name, _)| (name.encoding, name.put));
        }
        Ok(found)
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
        range: &Range<'_>,
        mut read: impl FnMut(&ObjectName, Freshness) -> Result<(), Failure>,
    ) -> Result<ObjectName> {
        let chunk = range.chunk;
        let mut damage: Vec<String> = Vec::new();
        let mut unsupported = None;
        let mut attempt = |name: &ObjectName| -> Result<bool> {
            if range.rounds.is_some_and(|rounds| rounds.condemns(name)) {
                return Ok(false);
            }
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
                    // Its base was read in every way there is: a second look would only repeat that.
                    Err(Failure::NoBase(error)) => {
                        damage.push(format!("object {name}: its base: {}", error.chain()));
                        return Ok(false);
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
        let served = self.served(&chunk.hash);
        let mut tried = Vec::new();
        for name in hinted.into_iter().chain(served) {
            if !tried.contains(&name) {
                tried.push(name);
                if attempt(&name)? {
                    return Ok(name);
                }
            }
        }
        for name in self.list_objects(chunk.hash)? {
            if !tried.contains(&name) && attempt(&name)? {
                self.remember_served(name);
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

    pub(super) fn read_object_into(
        &self,
        name: &ObjectName,
        range: &Range<'_>,
        destination: &mut [u8],
        freshness: Freshness,
    ) -> Result<(), Failure> {
        let (chunk, offset) = (range.chunk, range.offset);
        let blocks =
            offset / BLOCK_BYTES..(offset + destination.len() as u64).div_ceil(BLOCK_BYTES);
        if name.encoding == ObjectEncoding::Raw {
            let bytes = blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(chunk.bytes);
            let (mut source, size) = self.open_object(name, GetRange::Bounded(bytes), freshness)?;
            if size != chunk.bytes {
                return Err(Failure::Damaged(
                    None,
                    format!("it has {size} bytes, the manifest says {}", chunk.bytes),
                ));
            }
            return fill_blocks(chunk, offset, destination, |_, block| source.fill(block));
        }
        let tail = self.read_tail(name, freshness)?;
        self.decode_into(name, &tail, range, destination, |bytes| {
            let (source, _) = self.open_object(name, GetRange::Bounded(bytes), freshness)?;
            Ok(source)
        })
    }

    /// Decodes what `open` gives of an object's bytes; the base of a difference is read from this store.
    pub(super) fn decode_into(
        &self,
        name: &ObjectName,
        tail: &Tail,
        range: &Range<'_>,
        destination: &mut [u8],
        open: impl FnOnce(std::ops::Range<u64>) -> Result<Source, Failure>,
    ) -> Result<(), Failure> {
        let (chunk, offset) = (range.chunk, range.offset);
        let blocks =
            offset / BLOCK_BYTES..(offset + destination.len() as u64).div_ceil(BLOCK_BYTES);
        if tail.raw_bytes != chunk.bytes {
            return Err(Failure::Damaged(
                None,
                format!(
                    "it holds {} bytes, the manifest says {}",
                    tail.raw_bytes, chunk.bytes
                ),
            ));
        }
        let base = base_of(name, tail, range.depth)?;
        let (start, _) = tail.block(blocks.start as usize);
        let (last, bytes) = tail.block(blocks.end as usize - 1);
        let end = last + bytes as u64;
        let mut source = if start == end {
            // Every block is its base's.
            Source::empty()
        } else {
            open(start..end)?
        };
        let mut decoder = Decoder {
            source: &mut source,
            tail,
            stored: Vec::new(),
            scratch: Scratch::default(),
        };
        let Some(base) = base else {
            return fill_blocks(chunk, offset, destination, |index, block| {
                decoder.decode(index, block)
            });
        };
        let aligned = offset.is_multiple_of(BLOCK_BYTES)
            && (offset + destination.len() as u64 == (blocks.end * BLOCK_BYTES).min(chunk.bytes));
        if aligned {
            // All of the base in one go, straight into the destination: each object of the chain is opened once, each block of it decoded once.
            if blocks.clone().any(|index| tail.needs_base(index as usize)) {
                self.read_range(&range.below(&base, offset), destination)
                    .map_err(Failure::NoBase)?;
            }
            return fill_blocks(chunk, offset, destination, |index, block| {
                decoder.decode(index, block)
            });
        }
        fill_blocks(chunk, offset, destination, |index, block| {
            if tail.needs_base(index as usize) {
                self.read_range(&range.below(&base, index * BLOCK_BYTES), block)
                    .map_err(Failure::NoBase)?;
            }
            decoder.decode(index, block)
        })
    }
}

/// What is read of a chunk.
pub(super) struct Range<'a> {
    chunk: &'a ChunkRecord,
    /// First raw byte.
    offset: u64,
    /// Differences between what the caller asked for and this chunk.
    depth: u8,
    /// Objects that these condemn do not count.
    rounds: Option<&'a Rounds>,
}

impl<'a> Range<'a> {
    pub(super) fn of(chunk: &'a ChunkRecord, offset: u64) -> Self {
        Self {
            chunk,
            offset,
            depth: 0,
            rounds: None,
        }
    }

    /// The same, through objects that no round of `rounds` condemns.
    pub(super) fn outside(self, rounds: &'a Rounds) -> Self {
        Self {
            rounds: Some(rounds),
            ..self
        }
    }

    /// The same of the base.
    fn below<'b>(&self, base: &'b ChunkRecord, offset: u64) -> Range<'b>
    where
        'a: 'b,
    {
        Range {
            chunk: base,
            offset,
            depth: self.depth + 1,
            rounds: self.rounds,
        }
    }
}

/// The blocks of an encoded object, in order.
struct Decoder<'a> {
    source: &'a mut Source,
    tail: &'a Tail,
    stored: Vec<u8>,
    scratch: Scratch,
}

impl Decoder<'_> {
    /// Decodes the next block, which holds its base's if it is a difference.
    fn decode(&mut self, index: u64, block: &mut [u8]) -> Result<(), Failure> {
        self.stored.resize(self.tail.block(index as usize).1, 0);
        self.source.fill(&mut self.stored)?;
        self.tail
            .decode(index as usize, &self.stored, block, &mut self.scratch)
            .map_err(|error| Failure::Damaged(Some(index), error.chain()))
    }
}

/// The chunk that an object is a difference to, as its tail describes it: with the checksums of its blocks, so that damage is found where it is.
fn base_of(name: &ObjectName, tail: &Tail, depth: u8) -> Result<Option<ChunkRecord>, Failure> {
    match (name.encoding, &tail.base) {
        (ObjectEncoding::Delta(hash), Some(base)) => {
            if depth >= MAX_DEPTH {
                return Err(Failure::Damaged(
                    None,
                    format!("it is the end of a chain of more than {MAX_DEPTH} differences"),
                ));
            }
            Ok(Some(ChunkRecord {
                hash,
                bytes: tail.raw_bytes,
                crc64: BlockChecksums(base.crc64.clone()),
                object: String::new(),
            }))
        }
        (ObjectEncoding::Planes, None) => Ok(None),
        _ => Err(Failure::Damaged(
            None,
            "its content is not what its name says".to_owned(),
        )),
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

pub(super) fn check_range(chunk: &ChunkRecord, offset: u64, bytes: u64) -> Result<()> {
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
