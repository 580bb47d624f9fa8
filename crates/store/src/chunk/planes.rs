//! The encoding `.z`: every block's bytes regrouped by their position in an item, then zstd. See `docs/formats/chunks.md`.
//!
//! ```text
//! ┌──────────┬─────────┬─────────┬───┬───────────────┬────────┐
//! │ RTPLANES │ block 0 │ block 1 │ … │ u32 × blocks  │ footer │
//! └──────────┴─────────┴─────────┴───┴───────────────┴────────┘
//! ```
//!
//! Each block stands alone, so a slice of a tensor costs its blocks. The exponents of floats are alike and their low mantissa bits are noise:
//! planes put like beside like. A block that does not shrink is stored as it is.

use runtree_core::manifest::{BLOCK_BYTES, MAX_CHUNK_BYTES};
use runtree_core::{Error, Result};

use super::block_checksum;

/// First bytes of an object.
pub const MAGIC: &[u8; 8] = b"RTPLANES";
/// Last bytes of an object.
pub const FOOTER_MAGIC: &[u8; 4] = b"RTZE";
/// Version written and read.
pub const VERSION: u8 = 1;
/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 28;
/// Most bytes of table and footer: reading that many from the end always gets both.
pub const MAX_TAIL_BYTES: usize = FOOTER_BYTES + 4 * (MAX_CHUNK_BYTES / BLOCK_BYTES) as usize;

/// Set in a table entry if the block is stored as it is.
const STORED: u32 = 1 << 31;
/// Beyond about this level AdamW weights and moments shrink by less than a percent more, at several times the cost.
const LEVEL: i32 = 3;
/// Sampling asks only which planes are worth it.
const SAMPLE_LEVEL: i32 = 1;
/// Bytes per sample; three are taken.
const SAMPLE_BYTES: usize = 128 << 10;
/// Below a gain of 1 in 32 a chunk stays raw: reading it raw is faster.
const WORTHWHILE: (u64, u64) = (31, 32);

/// Item sizes an encoder may use.
const WIDTHS: [u8; 5] = [1, 2, 4, 8, 16];

/// Table and footer of an object, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Raw bytes of the chunk.
    pub raw_bytes: u64,
    /// Bytes of an item, whose byte positions are the planes.
    pub item_bytes: u8,
    /// Where each block is in the object: first byte, bytes, whether it is stored as it is.
    blocks: Vec<(u64, u32, bool)>,
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
        if &footer[24..] != FOOTER_MAGIC {
            return Err(corrupt("it does not end as one"));
        }
        let raw_bytes = u64::from_le_bytes(footer[..8].try_into().expect("BUG: 8 bytes"));
        let count = u32::from_le_bytes(footer[8..12].try_into().expect("BUG: 4 bytes"));
        let crc = u64::from_le_bytes(footer[16..24].try_into().expect("BUG: 8 bytes"));
        let expected_count = raw_bytes.div_ceil(BLOCK_BYTES);
        if raw_bytes == 0 || raw_bytes > MAX_CHUNK_BYTES || u64::from(count) != expected_count {
            return Err(corrupt("its length and its number of blocks do not fit"));
        }
        let table = rest
            .len()
            .checked_sub(4 * count as usize)
            .map(|start| &rest[start..])
            .ok_or_else(|| corrupt("shorter than its table"))?;
        let mut summed = table.to_vec();
        summed.extend_from_slice(&footer[..16]);
        if block_checksum(&summed) != crc {
            return Err(corrupt("its table does not have its checksum"));
        }
        let (version, item_bytes) = (footer[12], footer[13]);
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "encoded chunk has version {version}, this runtree reads {VERSION}"
            ))
            .with_hint("upgrade runtree: pip install -U runtree"));
        }
        if !WIDTHS.contains(&item_bytes) || footer[14..16] != [0, 0] {
            return Err(corrupt("its item size is not one"));
        }
        let mut blocks = Vec::with_capacity(count as usize);
        let mut at = MAGIC.len() as u64;
        for (index, entry) in table.chunks_exact(4).enumerate() {
            let entry = u32::from_le_bytes(entry.try_into().expect("BUG: 4 bytes"));
            let (bytes, stored) = (entry & !STORED, entry & STORED != 0);
            let raw = (raw_bytes - index as u64 * BLOCK_BYTES).min(BLOCK_BYTES);
            let fits = if stored {
                u64::from(bytes) == raw
            } else {
                bytes > 0 && u64::from(bytes) < raw
            };
            if !fits {
                return Err(corrupt("a block's length does not fit"));
            }
            blocks.push((at, bytes, stored));
            at += u64::from(bytes);
        }
        if at + (4 * u64::from(count)) + FOOTER_BYTES as u64 != object_bytes {
            return Err(corrupt("its blocks do not fill it"));
        }
        Ok(Self {
            raw_bytes,
            item_bytes,
            blocks,
        })
    }

    /// Where block `index` is in the object: first byte and bytes.
    pub fn block(&self, index: usize) -> (u64, usize) {
        let (at, bytes, _) = self.blocks[index];
        (at, bytes as usize)
    }

    /// Decodes block `index` from its stored bytes into `raw`, which has its raw length.
    ///
    /// # Errors
    /// `Corrupt` if it does not decode to exactly that many bytes.
    pub fn decode(
        &self,
        index: usize,
        stored: &[u8],
        raw: &mut [u8],
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        if self.blocks[index].2 {
            raw.copy_from_slice(stored);
            return Ok(());
        }
        if self.item_bytes == 1 {
            return decompress(stored, raw);
        }
        scratch.resize(raw.len(), 0);
        decompress(stored, scratch)?;
        join_planes(self.item_bytes, scratch, raw);
        Ok(())
    }
}

fn decompress(stored: &[u8], raw: &mut [u8]) -> Result<()> {
    let corrupt = || Error::corrupt("encoded chunk: a block does not decompress to its length");
    let written = zstd::bulk::decompress_to_buffer(stored, raw)
        .map_err(|error| corrupt().with_source(error))?;
    if written == raw.len() {
        Ok(())
    } else {
        Err(corrupt())
    }
}

/// Encodes a chunk, or `None` if that would not make it clearly smaller. `item_bytes` is the size of its items if the caller knows it.
///
/// Which planes pay is decided by compressing samples; the whole is never larger than the raw bytes.
///
/// # Errors
/// `Internal` if zstd fails, which it does only without memory.
pub fn encode(data: &[u8], item_bytes: Option<u8>) -> Result<Option<Vec<u8>>> {
    if data.is_empty() || data.len() as u64 > MAX_CHUNK_BYTES {
        return Ok(None);
    }
    let Some(item_bytes) = choose(data, item_bytes)? else {
        return Ok(None);
    };
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(zstd_failed)?;
    let mut object = MAGIC.to_vec();
    let mut table = Vec::new();
    let (mut planes, mut compressed) = (Vec::new(), Vec::new());
    for block in data.chunks(BLOCK_BYTES as usize) {
        planes.resize(block.len(), 0);
        split_planes(item_bytes, block, &mut planes);
        compress(&mut compressor, &planes, &mut compressed)?;
        let entry = if compressed.len() < block.len() {
            object.extend_from_slice(&compressed);
            compressed.len() as u32
        } else {
            object.extend_from_slice(block);
            block.len() as u32 | STORED
        };
        table.extend_from_slice(&entry.to_le_bytes());
        if !is_worthwhile(object.len() as u64, data.len() as u64) {
            return Ok(None);
        }
    }
    let count = (table.len() / 4) as u32;
    table.extend_from_slice(&(data.len() as u64).to_le_bytes());
    table.extend_from_slice(&count.to_le_bytes());
    table.extend_from_slice(&[VERSION, item_bytes, 0, 0]);
    let crc = block_checksum(&table);
    object.extend_from_slice(&table);
    object.extend_from_slice(&crc.to_le_bytes());
    object.extend_from_slice(FOOTER_MAGIC);
    Ok(is_worthwhile(object.len() as u64, data.len() as u64).then_some(object))
}

fn is_worthwhile(encoded: u64, raw: u64) -> bool {
    encoded * WORTHWHILE.1 < raw * WORTHWHILE.0
}

/// The item size whose planes compress the samples best, if they do at all.
fn choose(data: &[u8], item_bytes: Option<u8>) -> Result<Option<u8>> {
    let mut sample = Vec::with_capacity(3 * SAMPLE_BYTES);
    if data.len() <= 3 * SAMPLE_BYTES {
        sample.extend_from_slice(data);
    } else {
        // Offsets are multiples of 16, so that items of every size stay aligned in the sample.
        for start in [0, data.len() / 2, data.len() - SAMPLE_BYTES] {
            let start = start & !15;
            sample.extend_from_slice(&data[start..start + SAMPLE_BYTES]);
        }
    }
    let widths: Vec<u8> = match item_bytes.filter(|width| WIDTHS.contains(width)) {
        Some(1) => vec![1],
        Some(width) => vec![width, 1],
        None => WIDTHS[..4].to_vec(),
    };
    let mut compressor = zstd::bulk::Compressor::new(SAMPLE_LEVEL).map_err(zstd_failed)?;
    let (mut planes, mut compressed) = (vec![0; sample.len()], Vec::new());
    let mut best: Option<(usize, u8)> = None;
    for width in widths {
        split_planes(width, &sample, &mut planes);
        compress(&mut compressor, &planes, &mut compressed)?;
        if best.is_none_or(|(bytes, _)| compressed.len() < bytes) {
            best = Some((compressed.len(), width));
        }
    }
    Ok(best
        .filter(|(bytes, _)| is_worthwhile(*bytes as u64, sample.len() as u64) || data.len() < 256)
        .map(|(_, width)| width))
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

fn zstd_failed(error: std::io::Error) -> Error {
    Error::internal("zstd can not compress").with_source(error)
}

/// Plane `p` holds byte `p` of every whole item; what is left of the last item follows the planes.
fn split_planes(item_bytes: u8, raw: &[u8], planes: &mut [u8]) {
    match item_bytes {
        2 => split::<2>(raw, planes),
        4 => split::<4>(raw, planes),
        8 => split::<8>(raw, planes),
        16 => split::<16>(raw, planes),
        _ => planes.copy_from_slice(raw),
    }
}

fn split<const W: usize>(raw: &[u8], planes: &mut [u8]) {
    let (items, rest) = raw.as_chunks::<W>();
    let count = items.len();
    planes[count * W..].copy_from_slice(rest);
    for (position, plane) in planes[..count * W]
        .chunks_exact_mut(count.max(1))
        .enumerate()
    {
        for (byte, item) in plane.iter_mut().zip(items) {
            *byte = item[position];
        }
    }
}

fn join_planes(item_bytes: u8, planes: &[u8], raw: &mut [u8]) {
    match item_bytes {
        2 => join::<2>(planes, raw),
        4 => join::<4>(planes, raw),
        8 => join::<8>(planes, raw),
        16 => join::<16>(planes, raw),
        _ => raw.copy_from_slice(planes),
    }
}

fn join<const W: usize>(planes: &[u8], raw: &mut [u8]) {
    let (items, rest) = raw.as_chunks_mut::<W>();
    let count = items.len();
    rest.copy_from_slice(&planes[count * W..]);
    for (position, plane) in planes[..count * W].chunks_exact(count.max(1)).enumerate() {
        for (byte, item) in plane.iter().zip(items.iter_mut()) {
            item[position] = *byte;
        }
    }
}
