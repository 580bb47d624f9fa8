//! Encoded objects: blocks of planes and zstd, self-contained (`.z`) or as differences to a base (`.d~<base>`). See `docs/formats/chunks.md`.
//!
//! ```text
//! .z    ┌──────────┬─────────┬───┬─────────────┬────────┐
//!       │ RTPLANES │ block 0 │ … │ u32 × blocks│ footer │
//!       └──────────┴─────────┴───┴─────────────┴────────┘
//! .d~   ┌──────────┬─────────┬───┬─────────────┬──────────────────────┬────────┐
//!       │ RTXDELTA │ block 0 │ … │ u32 × blocks│ u64 × blocks of base │ footer │
//!       └──────────┴─────────┴───┴─────────────┴──────────────────────┴────────┘
//! ```
//!
//! Each block stands alone, so a slice of a tensor costs its blocks, and neither encoder nor decoder holds a chunk. In a difference a block is first XORed
//! with the same block of the base: equal floats become zeros, near ones share their exponent and high mantissa. A block that does not shrink is
//! stored as it is; one that equals its base's takes no bytes at all.

use runtree_core::manifest::{BLOCK_BYTES, MAX_CHUNK_BYTES};
use runtree_core::{Error, Result};

use super::{block_checksum, planes};

/// First bytes of a self-contained object.
pub const PLANES_MAGIC: &[u8; 8] = b"RTPLANES";
/// First bytes of a difference.
pub const DELTA_MAGIC: &[u8; 8] = b"RTXDELTA";
/// Last bytes of a self-contained object.
const PLANES_FOOTER_MAGIC: &[u8; 4] = b"RTZE";
/// Last bytes of a difference.
const DELTA_FOOTER_MAGIC: &[u8; 4] = b"RTDE";
/// Version written and read.
pub const VERSION: u8 = 1;
/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 28;
/// Most differences between an object and the self-contained one that it ends in. A longer chain is refused: nobody may cost a reader any number of reads.
pub const MAX_DEPTH: u8 = 8;
/// Most bytes of tables and footer: reading that many from the end always gets all.
pub const MAX_TAIL_BYTES: usize = FOOTER_BYTES + 12 * MAX_BLOCKS as usize;

const MAX_BLOCKS: u64 = MAX_CHUNK_BYTES / BLOCK_BYTES;
/// Set in a table entry if the block is stored as it is.
const STORED: u32 = 1 << 31;
/// Beyond about this level AdamW weights and moments shrink by less than a percent more, at several times the cost.
const LEVEL: i32 = 3;
/// Sampling asks only what is worth it.
const SAMPLE_LEVEL: i32 = 1;
/// Bytes of each of the three samples: a multiple of 16, so that items of every size stay aligned.
const SAMPLE_BYTES: usize = 128 << 10;
/// Below a gain of 1 in 32 a chunk stays as it is: reading it is faster then.
const WORTHWHILE: (u64, u64) = (31, 32);

/// Reads raw block `index` of a chunk into memory of exactly its length.
pub type ReadBlock<'a> = dyn FnMut(u64, &mut [u8]) -> Result<()> + 'a;

/// What an encoder needs of a base.
pub struct Base<'a> {
    /// Its raw blocks; it is exactly as long as the chunk.
    pub read: &'a mut ReadBlock<'a>,
    /// Differences between the new object and the self-contained one that it ends in.
    pub depth: u8,
}

impl std::fmt::Debug for Base<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Base")
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

/// An encoded object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// All its bytes.
    pub bytes: Vec<u8>,
    /// Whether it is a difference to the base.
    pub is_delta: bool,
}

/// Encodes a chunk of `raw_bytes`, or says `None` if that would not make it clearly smaller. `item_bytes` is the size of its items if the caller knows it.
///
/// Samples decide between the item sizes and, with a base, between a difference and a self-contained object; the result is never larger than the raw bytes.
///
/// # Errors
/// What reading returned; `Internal` if zstd fails, which it does only without memory.
pub fn encode(
    raw_bytes: u64,
    item_bytes: Option<u8>,
    read: &mut ReadBlock<'_>,
    base: Option<Base<'_>>,
) -> Result<Option<Encoded>> {
    if raw_bytes == 0 || raw_bytes > MAX_CHUNK_BYTES {
        return Ok(None);
    }
    let mut base = base;
    let Some(choice) = choose(raw_bytes, item_bytes, read, base.as_mut())? else {
        return Ok(None);
    };
    let base = base.filter(|_| choice.is_delta);
    write(raw_bytes, choice.item_bytes, read, base)
}

fn write(
    raw_bytes: u64,
    item_bytes: u8,
    read: &mut ReadBlock<'_>,
    mut base: Option<Base<'_>>,
) -> Result<Option<Encoded>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(zstd_failed)?;
    let magic = if base.is_some() {
        DELTA_MAGIC
    } else {
        PLANES_MAGIC
    };
    let mut object = magic.to_vec();
    let (mut table, mut base_sums) = (Vec::new(), Vec::new());
    let mut block = Vec::new();
    let mut difference = Vec::new();
    let (mut split, mut compressed) = (Vec::new(), Vec::new());
    for index in 0..raw_bytes.div_ceil(BLOCK_BYTES) {
        block.resize(block_bytes(raw_bytes, index), 0);
        read(index, &mut block)?;
        let content = match &mut base {
            None => &block,
            Some(base) => {
                difference.resize(block.len(), 0);
                (base.read)(index, &mut difference)?;
                base_sums.extend_from_slice(&block_checksum(&difference).to_le_bytes());
                planes::xor(&mut difference, &block);
                &difference
            }
        };
        let entry = if base.is_some() && planes::is_zero(content) {
            0
        } else {
            split.resize(content.len(), 0);
            planes::split(item_bytes, content, &mut split);
            compress(&mut compressor, &split, &mut compressed)?;
            if compressed.len() < block.len() {
                object.extend_from_slice(&compressed);
                compressed.len() as u32
            } else {
                object.extend_from_slice(&block);
                block.len() as u32 | STORED
            }
        };
        table.extend_from_slice(&entry.to_le_bytes());
        if !is_worthwhile(object.len() as u64, raw_bytes) {
            return Ok(None);
        }
    }
    let count = (table.len() / 4) as u32;
    let mut tail = table;
    tail.extend_from_slice(&base_sums);
    tail.extend_from_slice(&raw_bytes.to_le_bytes());
    tail.extend_from_slice(&count.to_le_bytes());
    let depth = base.as_ref().map_or(0, |base| base.depth);
    tail.extend_from_slice(&[VERSION, item_bytes, depth, 0]);
    let sum = block_checksum(&tail);
    object.extend_from_slice(&tail);
    object.extend_from_slice(&sum.to_le_bytes());
    object.extend_from_slice(if base.is_some() {
        DELTA_FOOTER_MAGIC
    } else {
        PLANES_FOOTER_MAGIC
    });
    let pays = is_worthwhile(object.len() as u64, raw_bytes);
    Ok(pays.then_some(Encoded {
        bytes: object,
        is_delta: base.is_some(),
    }))
}

/// Table and footer of an object, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Raw bytes of the chunk.
    pub raw_bytes: u64,
    /// Bytes of an item, whose byte positions are the planes.
    pub item_bytes: u8,
    /// What it is a difference to; none if it is self-contained.
    pub base: Option<TailBase>,
    blocks: Vec<BlockPlace>,
}

/// What a difference says of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailBase {
    /// CRC-64/NVME of each raw block of the base.
    pub crc64: Vec<u64>,
    /// Differences down to a self-contained object when it was written; re-encoding its base may have added some.
    pub depth: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockPlace {
    at: u64,
    bytes: u32,
    stored: bool,
}

impl Tail {
    /// Parses the end of an object of `object_bytes`; `end` holds its last [`MAX_TAIL_BYTES`], or all of it if it is shorter.
    ///
    /// # Errors
    /// `Corrupt` with what is wrong; `Unsupported` for another version.
    pub fn parse(end: &[u8], object_bytes: u64) -> Result<Self> {
        let corrupt = |what: &str| Error::corrupt(format!("encoded chunk: {what}"));
        let (rest, footer) = end
            .split_last_chunk::<FOOTER_BYTES>()
            .ok_or_else(|| corrupt("shorter than its footer"))?;
        let is_delta = match &footer[24..] {
            magic if magic == PLANES_FOOTER_MAGIC => false,
            magic if magic == DELTA_FOOTER_MAGIC => true,
            _ => return Err(corrupt("it does not end as one")),
        };
        let raw_bytes = u64::from_le_bytes(footer[..8].try_into().expect("BUG: 8 bytes"));
        let count = u32::from_le_bytes(footer[8..12].try_into().expect("BUG: 4 bytes"));
        let crc = u64::from_le_bytes(footer[16..24].try_into().expect("BUG: 8 bytes"));
        let expected_count = raw_bytes.div_ceil(BLOCK_BYTES);
        if raw_bytes == 0 || raw_bytes > MAX_CHUNK_BYTES || u64::from(count) != expected_count {
            return Err(corrupt("its length and its number of blocks do not fit"));
        }
        let entry_bytes = if is_delta { 12 } else { 4 };
        let tables = rest
            .len()
            .checked_sub(entry_bytes * count as usize)
            .map(|start| &rest[start..])
            .ok_or_else(|| corrupt("shorter than its table"))?;
        let mut summed = tables.to_vec();
        summed.extend_from_slice(&footer[..16]);
        if block_checksum(&summed) != crc {
            return Err(corrupt("its table does not have its checksum"));
        }
        let [version, item_bytes, depth, reserved] =
            [footer[12], footer[13], footer[14], footer[15]];
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "encoded chunk has version {version}, this runtree reads {VERSION}"
            ))
            .with_hint("upgrade runtree: pip install -U runtree"));
        }
        let depth_fits = if is_delta {
            (1..=MAX_DEPTH).contains(&depth)
        } else {
            depth == 0
        };
        if !planes::WIDTHS.contains(&item_bytes) || !depth_fits || reserved != 0 {
            return Err(corrupt("its item size or its depth is not one"));
        }
        let (table, sums) = tables.split_at(4 * count as usize);
        let blocks = place_blocks(table, raw_bytes, is_delta)
            .ok_or_else(|| corrupt("a block's length does not fit"))?;
        let end = blocks
            .last()
            .map_or(0, |block| block.at + u64::from(block.bytes));
        if end + (tables.len() + FOOTER_BYTES) as u64 != object_bytes {
            return Err(corrupt("its blocks do not fill it"));
        }
        let (sums, _) = sums.as_chunks::<8>();
        Ok(Self {
            raw_bytes,
            item_bytes,
            base: is_delta.then(|| TailBase {
                crc64: sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
                depth,
            }),
            blocks,
        })
    }

    /// Where block `index` is in the object: first byte and bytes.
    pub fn block(&self, index: usize) -> (u64, usize) {
        let place = self.blocks[index];
        (place.at, place.bytes as usize)
    }

    /// Whether decoding block `index` starts from the base's block.
    pub fn needs_base(&self, index: usize) -> bool {
        self.base.is_some() && !self.blocks[index].stored
    }

    /// Decodes block `index` from its stored bytes into `raw`, which has its raw length and, if [`Tail::needs_base`], holds the base's block.
    ///
    /// # Errors
    /// `Corrupt` if it does not decode to exactly that many bytes.
    pub fn decode(
        &self,
        index: usize,
        stored: &[u8],
        raw: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        if self.blocks[index].stored {
            raw.copy_from_slice(stored);
            return Ok(());
        }
        if !self.needs_base(index) {
            if self.item_bytes == 1 {
                return decompress(&mut scratch.zstd, stored, raw);
            }
            let planes = scratch.decompress(stored, raw.len())?;
            planes::join(self.item_bytes, planes, raw);
            return Ok(());
        }
        if stored.is_empty() {
            return Ok(());
        }
        let planes = scratch.decompress(stored, raw.len())?;
        planes::join_xor(self.item_bytes, planes, raw);
        Ok(())
    }
}

/// What decoding reuses from block to block.
#[derive(Default)]
pub struct Scratch {
    planes: Vec<u8>,
    zstd: Zstd,
}

/// Made with the first block: its tables are as large as a block of small numbers.
type Zstd = Option<zstd::bulk::Decompressor<'static>>;

impl Scratch {
    fn decompress(&mut self, stored: &[u8], bytes: usize) -> Result<&[u8]> {
        self.planes.resize(bytes, 0);
        decompress(&mut self.zstd, stored, &mut self.planes)?;
        Ok(&self.planes)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("bytes", &self.planes.len())
            .finish_non_exhaustive()
    }
}

fn place_blocks(table: &[u8], raw_bytes: u64, is_delta: bool) -> Option<Vec<BlockPlace>> {
    let mut at = PLANES_MAGIC.len() as u64;
    let (entries, _) = table.as_chunks::<4>();
    (0..)
        .zip(entries)
        .map(|(index, entry)| {
            let entry = u32::from_le_bytes(*entry);
            let (bytes, stored) = (entry & !STORED, entry & STORED != 0);
            let raw = block_bytes(raw_bytes, index);
            let fits = if stored {
                bytes as usize == raw
            } else {
                (bytes > 0 || is_delta) && (bytes as usize) < raw
            };
            let place = BlockPlace { at, bytes, stored };
            at += u64::from(bytes);
            fits.then_some(place)
        })
        .collect()
}

/// Raw bytes of block `index` of a chunk.
fn block_bytes(raw_bytes: u64, index: u64) -> usize {
    (raw_bytes - index * BLOCK_BYTES).min(BLOCK_BYTES) as usize
}

fn is_worthwhile(encoded: u64, raw: u64) -> bool {
    encoded * WORTHWHILE.1 < raw * WORTHWHILE.0
}

/// What the samples said.
struct Choice {
    item_bytes: u8,
    is_delta: bool,
}

/// Compresses samples of the first, the middle and the last block in every way that may be used, and takes the smallest if it pays at all.
fn choose(
    raw_bytes: u64,
    item_bytes: Option<u8>,
    read: &mut ReadBlock<'_>,
    base: Option<&mut Base<'_>>,
) -> Result<Option<Choice>> {
    let own = sample(raw_bytes, read)?;
    let difference = base
        .map(|base| {
            let mut sampled = sample(raw_bytes, base.read)?;
            planes::xor(&mut sampled, &own);
            Ok::<_, Error>(sampled)
        })
        .transpose()?;
    let widths: Vec<u8> = match item_bytes.filter(|width| planes::WIDTHS.contains(width)) {
        Some(1) => vec![1],
        Some(width) => vec![width, 1],
        None => planes::WIDTHS[..4].to_vec(),
    };
    let mut compressor = zstd::bulk::Compressor::new(SAMPLE_LEVEL).map_err(zstd_failed)?;
    let (mut split, mut compressed) = (vec![0; own.len()], Vec::new());
    let mut best: Option<(u64, Choice)> = None;
    for (content, is_delta) in [(Some(&own), false), (difference.as_ref(), true)] {
        let Some(content) = content else { continue };
        for &item_bytes in &widths {
            planes::split(item_bytes, content, &mut split);
            compress(&mut compressor, &split, &mut compressed)?;
            let bytes = compressed.len() as u64;
            // A difference costs its readers the base, so it has to pay for itself too.
            let better = best.as_ref().is_none_or(|(least, chosen)| {
                if is_delta == chosen.is_delta {
                    bytes < *least
                } else {
                    is_worthwhile(bytes, *least)
                }
            });
            if better {
                best = Some((
                    bytes,
                    Choice {
                        item_bytes,
                        is_delta,
                    },
                ));
            }
        }
    }
    Ok(best
        // Of a few bytes a sample says nothing: the frame's own header is most of it.
        .filter(|(bytes, _)| is_worthwhile(*bytes, own.len() as u64) || raw_bytes < 256)
        .map(|(_, choice)| choice))
}

fn sample(raw_bytes: u64, read: &mut ReadBlock<'_>) -> Result<Vec<u8>> {
    let last = raw_bytes.div_ceil(BLOCK_BYTES) - 1;
    let mut blocks = vec![0, last / 2, last];
    blocks.dedup();
    let mut sampled = Vec::with_capacity(blocks.len() * SAMPLE_BYTES);
    let mut block = Vec::new();
    for &index in &blocks {
        block.resize(block_bytes(raw_bytes, index), 0);
        read(index, &mut block)?;
        // The middle of a block, at a multiple of 16; a short chunk is its own sample.
        let start = (block.len().saturating_sub(SAMPLE_BYTES) / 2) & !15;
        let end = (start + SAMPLE_BYTES).min(block.len());
        sampled.extend_from_slice(&block[start..end]);
    }
    Ok(sampled)
}

fn compress(
    compressor: &mut zstd::bulk::Compressor<'_>,
    data: &[u8],
    compressed: &mut Vec<u8>,
) -> Result<()> {
    compressed.clear();
    compressed.reserve(zstd::zstd_safe::compress_bound(data.len()));
    compressor
        .compress_to_buffer(data, compressed)
        .map(drop)
        .map_err(zstd_failed)
}

fn decompress(zstd: &mut Zstd, stored: &[u8], raw: &mut [u8]) -> Result<()> {
    let corrupt = || Error::corrupt("encoded chunk: a block does not decompress to its length");
    let zstd = match zstd {
        Some(zstd) => zstd,
        none => none.insert(zstd::bulk::Decompressor::new().map_err(zstd_failed)?),
    };
    let written = zstd
        .decompress_to_buffer(stored, raw)
        .map_err(|error| corrupt().with_source(error))?;
    if written == raw.len() {
        Ok(())
    } else {
        Err(corrupt())
    }
}

fn zstd_failed(error: std::io::Error) -> Error {
    Error::internal("zstd can not work").with_source(error)
}
