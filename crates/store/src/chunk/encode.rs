//! Encoding cold chunks: another object of the same hash, smaller, beside the one that is there.
//!
//! Nothing is overwritten and nothing deleted here: what became redundant is a collector's to remove (`Store::remove_redundant`). So an encoder needs no care: if its
//! base is taken away while it works, its object does not decode, and no collector counts it.

use runtree_core::manifest::{BLOCK_BYTES, ChunkRecord};
use runtree_core::{ChunkHash, Result};

use super::encoded::{self, Base, MAX_DEPTH};
use crate::layout::{self, ObjectEncoding, ObjectName};
use crate::rounds::Rounds;
use crate::store::Store;

/// Bytes of an item of a chunk, whose byte positions are the planes; `None` if it is not known or mixed.
pub type ItemBytes = Option<u8>;

/// An encoding that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// The new object.
    pub name: ObjectName,
    /// Its bytes.
    pub bytes: u64,
}

/// What encoding would make of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Bytes of the sample.
    pub raw_bytes: u64,
    /// Bytes it would take.
    pub encoded_bytes: u64,
}

/// Blocks read at a time: few opens, little memory.
const WINDOW_BLOCKS: u64 = 4;

impl Store {
    /// Puts another encoding of a chunk if that makes it clearly smaller: a difference to `base`, or a self-contained one where that does not pay, is too deep, or
    /// `base` is not of the same length. Objects that `rounds` condemns do not count; how old that look is matters for the gain alone. Durable when this returns. Holds blocks of both chunks, and the encoded bytes.
    ///
    /// # Errors
    /// As reading the chunk and writing an object do. A base that can not be read is not used, and no error.
    pub fn encode_chunk(
        &self,
        chunk: &ChunkRecord,
        item_bytes: ItemBytes,
        base: Option<&ChunkRecord>,
        rounds: &Rounds,
    ) -> Result<Option<EncodedChunk>> {
        self.check_writable()?;
        let base = match base {
            Some(base) if base.bytes == chunk.bytes && base.hash != chunk.hash => self
                .depth_of(base.hash, rounds)?
                .filter(|&depth| depth < MAX_DEPTH)
                .map(|depth| (base, depth + 1)),
            _ => None,
        };
        let mut own = Window::of(self, chunk);
        let mut read = |index: u64, block: &mut [u8]| own.read(index, block);
        let with_base = base.and_then(|(base, depth)| {
            let mut theirs = Window::of(self, base);
            let mut read_base = |index: u64, block: &mut [u8]| theirs.read(index, block);
            let base = Base {
                read: &mut read_base,
                depth,
            };
            // If the base can not be read the chunk still can: that is seen below.
            encoded::encode(chunk.bytes, item_bytes, &mut read, Some(base)).ok()
        });
        let encoded = match with_base {
            Some(encoded) => encoded,
            None => encoded::encode(chunk.bytes, item_bytes, &mut read, None)?,
        };
        let Some(encoded) = encoded else {
            return Ok(None);
        };
        let encoding = match base {
            Some((base, _)) if encoded.is_delta => ObjectEncoding::Delta(base.hash),
            _ => ObjectEncoding::Planes,
        };
        let bytes = encoded.bytes.len() as u64;
        let name = self.put_object(chunk.hash, encoding, &encoded.bytes.into())?;
        self.sync_dirs([&layout::chunk_object(&name)])?;
        Ok(Some(EncodedChunk { name, bytes }))
    }

    /// What the first `sample_bytes` of a chunk would take if it were encoded, as a difference to `base` if there is one and that is smaller; nothing is written.
    ///
    /// # Errors
    /// As reading the chunks does.
    pub fn estimate_encoding(
        &self,
        chunk: &ChunkRecord,
        item_bytes: ItemBytes,
        base: Option<&ChunkRecord>,
        sample_bytes: u64,
    ) -> Result<Estimate> {
        let raw_bytes = chunk.bytes.min(sample_bytes);
        let mut own = Window::of(self, chunk);
        let mut read = |index: u64, block: &mut [u8]| own.read(index, block);
        let mut theirs = base
            .filter(|base| base.bytes == chunk.bytes)
            .map(|base| Window::of(self, base));
        let mut read_base = |index: u64, block: &mut [u8]| match &mut theirs {
            Some(theirs) => theirs.read(index, block),
            None => Ok(()),
        };
        let has_base = base.is_some_and(|base| base.bytes == chunk.bytes);
        let base = has_base.then_some(Base {
            read: &mut read_base,
            depth: 1,
        });
        let encoded = encoded::encode(raw_bytes, item_bytes, &mut read, base)?;
        Ok(Estimate {
            raw_bytes,
            encoded_bytes: encoded.map_or(raw_bytes, |encoded| encoded.bytes.len() as u64),
        })
    }

    /// Differences between a chunk and a self-contained object, by the best of its *encoded* objects in no open round; `None` if it has none that ends in one
    /// within [`MAX_DEPTH`].
    ///
    /// Raw objects do not count, because they go as soon as there is another: a difference against a chunk that is raw alone would become deeper when that chunk
    /// is encoded in its turn, and some day too deep to be read. Encoded ones stay, so this never grows.
    ///
    /// # Errors
    /// As listing does.
    pub fn depth_of(&self, hash: ChunkHash, rounds: &Rounds) -> Result<Option<u8>> {
        self.depth_below(hash, rounds, 0)
    }

    fn depth_below(&self, hash: ChunkHash, rounds: &Rounds, level: u8) -> Result<Option<u8>> {
        if level > MAX_DEPTH {
            return Ok(None);
        }
        let mut least: Option<u8> = None;
        // Raw first, then self-contained ones, then differences.
        for name in self.list_objects(hash)? {
            if rounds.condemns(&name) {
                continue;
            }
            let depth = match name.encoding {
                ObjectEncoding::Raw => None,
                ObjectEncoding::Planes => return Ok(Some(0)),
                ObjectEncoding::Delta(base) => self
                    .depth_below(base, rounds, level + 1)?
                    .map(|depth| depth + 1),
            };
            least = [least, depth].into_iter().flatten().min();
        }
        Ok(least.filter(|&depth| depth <= MAX_DEPTH))
    }

    /// The object of a chunk that makes encoding it again needless: an encoded one in no open round.
    ///
    /// # Errors
    /// As listing does.
    pub fn encoded_object(&self, hash: ChunkHash, rounds: &Rounds) -> Result<Option<ObjectName>> {
        let objects = self.list_objects(hash)?;
        Ok(objects
            .into_iter()
            .find(|name| name.encoding != ObjectEncoding::Raw && !rounds.condemns(name)))
    }
}

/// A chunk's blocks in order, read a few at a time.
struct Window<'a> {
    store: &'a Store,
    chunk: &'a ChunkRecord,
    first: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn of(store: &'a Store, chunk: &'a ChunkRecord) -> Self {
        Self {
            store,
            chunk,
            first: 0,
            bytes: Vec::new(),
        }
    }

    fn read(&mut self, index: u64, block: &mut [u8]) -> Result<()> {
        let held = self.first..self.first + (self.bytes.len() as u64).div_ceil(BLOCK_BYTES);
        if !held.contains(&index) {
            let start = index * BLOCK_BYTES;
            let bytes = (self.chunk.bytes - start).min(WINDOW_BLOCKS * BLOCK_BYTES);
            self.bytes.resize(bytes as usize, 0);
            self.first = index;
            if let Err(error) = self
                .store
                .read_chunk_into(self.chunk, start, &mut self.bytes)
            {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = ((index - self.first) * BLOCK_BYTES) as usize;
        block.copy_from_slice(&self.bytes[from..from + block.len()]);
        Ok(())
    }
}
