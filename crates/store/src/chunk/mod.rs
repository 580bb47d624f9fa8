//! Content-addressed bytes: hashing, encodings, reading with verification, putting with dedup.
//!
//! A chunk is named by the BLAKE3 of its raw bytes and read in blocks of 1 MiB, each with its own CRC-64/NVME in the part manifest. An *object* is
//! one immutable encoding of a chunk ([`ObjectName`](crate::ObjectName)); a chunk may have several, and any of them serves.

use blake3::Hasher;
use runtree_core::ChunkHash;
use runtree_core::manifest::{BLOCK_BYTES, BlockChecksums, ChunkRecord};

mod bases;
mod copy;
mod encode;
pub mod encoded;
mod files;
mod planes;
mod read;
mod session;
mod source;
mod whole;

pub use copy::Copying;
pub use encode::{EncodedChunk, Estimate, ItemBytes};
pub use files::FileList;
pub use read::ChunkVerdict;
pub use session::{PutChunk, SaveSession};

/// What identifies a chunk's bytes and lets every block be verified alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSum {
    /// BLAKE3 of all bytes.
    pub hash: ChunkHash,
    /// CRC-64/NVME of each block.
    pub crc64: BlockChecksums,
}

/// Hashes a chunk: one pass, block by block, so that each block is in the cache for both sums. Call it from as many threads as there are chunks.
pub fn checksum(data: &[u8]) -> ChunkSum {
    let mut hasher = Hasher::new();
    let crc64 = data
        .chunks(BLOCK_BYTES as usize)
        .map(|block| {
            hasher.update(block);
            block_checksum(block)
        })
        .collect();
    ChunkSum {
        hash: ChunkHash::from_bytes(*hasher.finalize().as_bytes()),
        crc64: BlockChecksums(crc64),
    }
}

/// CRC-64/NVME.
pub(crate) fn block_checksum(block: &[u8]) -> u64 {
    crc_fast::crc64_nvme(block)
}

/// Raw bytes of block `index`.
fn block_len(chunk: &ChunkRecord, index: u64) -> usize {
    (chunk.bytes - index * BLOCK_BYTES).min(BLOCK_BYTES) as usize
}
