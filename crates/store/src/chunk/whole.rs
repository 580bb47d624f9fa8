//! Whole objects: whether one is what its name says, and how it goes to another store.

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{Error as ObjectError, ObjectStoreExt as _, PutPayload};
use runtree_core::manifest::{BLOCK_BYTES, ChunkRecord};
use runtree_core::{ChunkHash, ErrorKind, Result};

use super::encoded::{MAX_TAIL_BYTES, Tail};
use super::read::{Range, check_range};
use super::source::{Failure, Freshness, Source};
use crate::error::from_object;
use crate::layout::{self, ObjectName};
use crate::rounds::Rounds;
use crate::store::Store;
use crate::wait::block_on;

/// Bytes that are decoded at once.
const WINDOW_BYTES: u64 = 8 * BLOCK_BYTES;

impl Store {
    /// Whether an object decodes to exactly the chunk (by BLAKE3), read from the disk itself and through objects that no round of `rounds` condemns.
    ///
    /// # Errors
    /// As the store says.
    pub(crate) fn decodes_outside(
        &self,
        name: &ObjectName,
        chunk: &ChunkRecord,
        rounds: &Rounds,
    ) -> Result<bool> {
        hashes_to(chunk, |offset, window| {
            let range = Range::of(chunk, offset).outside(rounds);
            self.read_object_into(name, &range, window, Freshness::FromStorage)
        })
    }

    /// Whether these bytes of an encoded object decode to exactly the chunk. What a difference needs is read from this store.
    ///
    /// # Errors
    /// As the store says.
    pub(super) fn decodes_bytes(
        &self,
        name: &ObjectName,
        object: &Bytes,
        chunk: &ChunkRecord,
    ) -> Result<bool> {
        let end = &object[object.len().saturating_sub(MAX_TAIL_BYTES)..];
        let Ok(tail) = Tail::parse(end, object.len() as u64) else {
            return Ok(false);
        };
        hashes_to(chunk, |offset, window| {
            self.decode_into(name, &tail, &Range::of(chunk, offset), window, |bytes| {
                let bytes = object.slice(bytes.start as usize..bytes.end as usize);
                Ok(Source::Stream(futures::stream::empty().boxed(), bytes))
            })
        })
    }

    /// All bytes of an object as they come, without one copy more, and their BLAKE3; `None` if it is not there. For objects that a server sends: files are read in place.
    ///
    /// # Errors
    /// As the store says.
    pub(super) fn fetch(&self, name: &ObjectName) -> Result<Option<(PutPayload, ChunkHash)>> {
        let path = layout::chunk_object(name);
        let fetched = block_on(async {
            let mut body = self.objects().get(&path).await?.into_stream();
            let mut hasher = blake3::Hasher::new();
            let mut pieces = Vec::new();
            while let Some(piece) = body.next().await {
                let piece = piece?;
                hasher.update(&piece);
                pieces.push(piece);
            }
            let hash = ChunkHash::from_bytes(*hasher.finalize().as_bytes());
            Ok((pieces.into_iter().collect(), hash))
        });
        match fetched {
            Ok(fetched) => Ok(Some(fetched)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_object(error, &format!("read {path}"))),
        }
    }
}

/// Whether what `read` gives from each offset on has the chunk's BLAKE3. What is damaged has not.
fn hashes_to(
    chunk: &ChunkRecord,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), Failure>,
) -> Result<bool> {
    check_range(chunk, 0, 0)?;
    let mut hasher = blake3::Hasher::new();
    let mut window = Vec::new();
    let mut offset = 0;
    while offset < chunk.bytes {
        window.resize((chunk.bytes - offset).min(WINDOW_BYTES) as usize, 0);
        match read(offset, &mut window) {
            Ok(()) => hasher.update(&window),
            Err(Failure::Other(error)) if error.kind() != ErrorKind::Unsupported => {
                return Err(error);
            }
            Err(_) => return Ok(false),
        };
        offset += window.len() as u64;
    }
    Ok(ChunkHash::from_bytes(*hasher.finalize().as_bytes()) == chunk.hash)
}
