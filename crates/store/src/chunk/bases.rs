//! What a difference hangs on, as its own bytes tell.

use runtree_core::Result;
use runtree_core::manifest::{BlockChecksums, ChunkRecord};

use super::source::{Failure, Freshness};
use crate::layout::{ObjectEncoding, ObjectName};
use crate::store::Store;

impl Store {
    /// Raw bytes of the chunk that an object of `size` bytes is of; none if it is gone or damaged where it says so.
    pub(super) fn raw_bytes(&self, name: &ObjectName, size: u64) -> Result<Option<u64>> {
        if name.encoding == ObjectEncoding::Raw {
            return Ok(Some(size));
        }
        match self.read_tail(name, Freshness::FromStorage) {
            Ok(tail) => Ok(Some(tail.raw_bytes)),
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Gone | Failure::Damaged(..) | Failure::NoBase(_)) => Ok(None),
        }
    }

    /// The chunk that an object is a difference to, with the checksums of its blocks: all that is known of a base whose own checkpoints are gone. `None` if the object is no
    /// difference, is not there, or is damaged where it says so.
    ///
    /// # Errors
    /// As the store says.
    pub fn base_record(&self, name: &ObjectName) -> Result<Option<ChunkRecord>> {
        let ObjectEncoding::Delta(hash) = name.encoding else {
            return Ok(None);
        };
        match self.read_tail(name, Freshness::FromStorage) {
            Ok(tail) => Ok(tail.base.map(|base| ChunkRecord {
                hash,
                bytes: tail.raw_bytes,
                crc64: BlockChecksums(base.crc64),
                object: String::new(),
            })),
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Gone | Failure::Damaged(..) | Failure::NoBase(_)) => Ok(None),
        }
    }
}
