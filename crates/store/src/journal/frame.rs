//! Bytes of a journal.

use runtree_core::{Error, Result, RunId, WriterId};

use super::FrameKind;
use crate::chunk::block_checksum;

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 64;
/// Bytes before a frame's payload.
pub const FRAME_HEADER_BYTES: usize = 29;
/// Most bytes of a payload.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"RTJOURNL";
const VERSION: u16 = 1;

/// The header of a piece of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The run.
    pub run: RunId,
    /// The writer.
    pub writer: WriterId,
    /// Ordinal of the first frame in this piece.
    pub first_ordinal: u64,
    /// Running hash before it.
    pub hash: u64,
}

impl FileHeader {
    /// The 64 bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.run.to_bits().to_le_bytes());
        bytes[32..40].copy_from_slice(&self.writer.to_bits().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_ordinal.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.hash.to_le_bytes());
        let crc = block_checksum(&bytes[..56]);
        bytes[56..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Parses a header; `None` if the bytes are not one.
    ///
    /// # Errors
    /// `Unsupported` if it is one of another version.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        if &bytes[..8] != MAGIC || u64_at(bytes, 56) != block_checksum(&bytes[..56]) {
            return Ok(None);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "the journal has version {version}, this runtree reads {VERSION}"
            ))
            .with_hint("upgrade runtree: pip install -U runtree"));
        }
        if bytes[10..16] != [0; 6] {
            return Ok(None);
        }
        let run = u128::from(u64_at(bytes, 24)) << 64 | u128::from(u64_at(bytes, 16));
        Ok(Some(Self {
            run: RunId::from_bits(run),
            writer: WriterId::from_bits(u64_at(bytes, 32)),
            first_ordinal: u64_at(bytes, 40),
            hash: u64_at(bytes, 48),
        }))
    }
}

/// The running hash before frame 0: no two journals start with the same one.
pub fn start_hash(run: RunId, writer: WriterId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(MAGIC);
    hasher.update(&run.to_bits().to_le_bytes());
    hasher.update(&writer.to_bits().to_le_bytes());
    first_u64(&hasher)
}

/// The running hash after a frame whose first 21 bytes are `head`.
fn next_hash(previous: u64, head: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.to_le_bytes());
    hasher.update(head);
    hasher.update(payload);
    first_u64(&hasher)
}

fn first_u64(hasher: &blake3::Hasher) -> u64 {
    u64_at(hasher.finalize().as_bytes(), 0)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut array = [0; 8];
    array.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(array)
}

/// Appends a frame to `buffer`; returns the running hash after it.
pub(super) fn write_frame(
    buffer: &mut Vec<u8>,
    ordinal: u64,
    kind: FrameKind,
    payload: &[u8],
    previous: u64,
) -> u64 {
    let start = buffer.len();
    buffer.reserve(FRAME_HEADER_BYTES + payload.len());
    buffer.extend_from_slice(&ordinal.to_le_bytes());
    buffer.push(kind as u8);
    buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let crc = frame_checksum(&buffer[start..], payload);
    buffer.extend_from_slice(&crc.to_le_bytes());
    let hash = next_hash(previous, &buffer[start..], payload);
    buffer.extend_from_slice(&hash.to_le_bytes());
    buffer.extend_from_slice(payload);
    hash
}

fn frame_checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(head);
    digest.update(payload);
    digest.finalize()
}

/// What bytes at the place of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedFrame {
    /// The frame, whole and in its place.
    Whole {
        /// The byte that says what it holds; this build may not know it.
        kind: u8,
        /// Bytes of its payload, which follows the header.
        payload_bytes: usize,
        /// Running hash after it.
        hash: u64,
    },
    /// It may become a frame with this many bytes in all.
    NeedsBytes(usize),
    /// Not the frame that belongs here.
    Bad,
}

/// Parses the frame that must have this ordinal and follow this running hash.
pub fn parse_frame(bytes: &[u8], ordinal: u64, previous: u64) -> ParsedFrame {
    if bytes.len() < FRAME_HEADER_BYTES {
        return ParsedFrame::NeedsBytes(FRAME_HEADER_BYTES);
    }
    let payload_bytes = payload_len(bytes);
    if u64_at(bytes, 0) != ordinal || payload_bytes > MAX_PAYLOAD_BYTES {
        return ParsedFrame::Bad;
    }
    let total = FRAME_HEADER_BYTES + payload_bytes;
    let Some(payload) = bytes.get(FRAME_HEADER_BYTES..total) else {
        return ParsedFrame::NeedsBytes(total);
    };
    let hash = u64_at(bytes, 21);
    let good = u64_at(bytes, 13) == frame_checksum(&bytes[..13], payload)
        && hash == next_hash(previous, &bytes[..21], payload);
    if !good {
        return ParsedFrame::Bad;
    }
    ParsedFrame::Whole {
        kind: bytes[8],
        payload_bytes,
        hash,
    }
}

/// Whether bytes that are not the frame that belongs here were that frame before something was flipped in them: a frame that is cut off is shorter
/// than it says. What a power cut leaves of a frame that has its full length is zeros.
pub(super) fn was_whole(bytes: &[u8], ordinal: u64, previous: u64) -> bool {
    if bytes.len() < FRAME_HEADER_BYTES {
        return false;
    }
    let ends_here = |head: &[u8]| FRAME_HEADER_BYTES + payload_len(head) == bytes.len();
    if ends_here(bytes) {
        let payload = &bytes[FRAME_HEADER_BYTES..];
        return u64_at(bytes, 0).count_ones() > 0 && payload.iter().any(|byte| *byte != 0);
    }
    // The length itself may be what was hurt.
    (0..32).any(|bit| {
        let mut head = [0; FRAME_HEADER_BYTES];
        head.copy_from_slice(&bytes[..FRAME_HEADER_BYTES]);
        head[9 + bit / 8] ^= 1 << (bit % 8);
        ends_here(&head) && {
            let mended = [&head[..], &bytes[FRAME_HEADER_BYTES..]].concat();
            matches!(
                parse_frame(&mended, ordinal, previous),
                ParsedFrame::Whole { .. }
            )
        }
    })
}

fn payload_len(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[9], bytes[10], bytes[11], bytes[12]]) as usize
}

/// Whether a whole frame with an ordinal from `least` on starts anywhere in `bytes`: the evidence that a bad frame before it is corruption.
///
/// Ordinals are dense and frames are not empty, so the ordinals that can still come are few; only at such a place is a CRC computed, and no more than
/// `budget` bytes of them: bytes made to exhaust it are not a journal, and count as evidence.
pub(super) fn holds_frame(bytes: &[u8], least: u64, mut budget: u64) -> bool {
    let most = least.saturating_add((bytes.len() / FRAME_HEADER_BYTES) as u64 + 1);
    for start in 0..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1) {
        let rest = &bytes[start..];
        if !(least..=most).contains(&u64_at(rest, 0)) {
            continue;
        }
        let payload_bytes = payload_len(rest);
        let Some(payload) = rest.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes) else {
            continue;
        };
        if payload_bytes > MAX_PAYLOAD_BYTES {
            continue;
        }
        let Some(left) = budget.checked_sub(payload_bytes as u64 + 64) else {
            return true;
        };
        budget = left;
        if u64_at(rest, 13) == frame_checksum(&rest[..13], payload) {
            return true;
        }
    }
    false
}
