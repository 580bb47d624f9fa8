//! Whether everything of a checkpoint is still there, for who relies on it without having its bytes: a fork, a pin, an undelete (their W4).

use std::collections::{BTreeMap, HashMap};

use runtree_core::manifest::ChunkRecord;
use runtree_core::{ChunkHash, Result};

use super::Rounds;
use crate::chunk::encoded::{FOOTER_BYTES, MAX_DEPTH};
use crate::layout::{ObjectEncoding, ObjectName};
use crate::store::Store;

impl Store {
    /// Of these chunks those that no object in no open round decodes to, as far as names and sizes tell. Lists each directory once or, with differences, once for each
    /// step of their chains.
    ///
    /// # Errors
    /// As the store says.
    pub fn lost_chunks<'c>(
        &self,
        chunks: impl IntoIterator<Item = &'c ChunkRecord>,
        rounds: &Rounds,
    ) -> Result<Vec<ChunkHash>> {
        let wanted: BTreeMap<ChunkHash, u64> = chunks
            .into_iter()
            .map(|chunk| (chunk.hash, chunk.bytes))
            .collect();
        let mut objects = self.objects_of(wanted.keys().copied())?;
        for _ in 0..MAX_DEPTH {
            let bases: Vec<ChunkHash> = objects
                .values()
                .flatten()
                .filter_map(|(name, _)| match name.encoding {
                    ObjectEncoding::Delta(base) => Some(base),
                    ObjectEncoding::Raw | ObjectEncoding::Planes => None,
                })
                .filter(|base| !objects.contains_key(base))
                .collect();
            if bases.is_empty() {
                break;
            }
            let found = self.objects_of(bases.iter().copied())?;
            objects.extend(bases.into_iter().map(|base| (base, Vec::new())));
            objects.extend(found);
        }
        Ok(wanted
            .into_iter()
            .filter(|&(hash, bytes)| !decodes(&objects, hash, bytes, rounds, 0))
            .map(|(hash, _)| hash)
            .collect())
    }
}

fn decodes(
    objects: &HashMap<ChunkHash, Vec<(ObjectName, u64)>>,
    hash: ChunkHash,
    bytes: u64,
    rounds: &Rounds,
    depth: u8,
) -> bool {
    let mut usable = objects
        .get(&hash)
        .into_iter()
        .flatten()
        .filter(|(name, _)| !rounds.condemns(name));
    usable.any(|(name, size)| match name.encoding {
        ObjectEncoding::Raw => *size == bytes,
        ObjectEncoding::Planes => *size > FOOTER_BYTES as u64,
        // A difference is as long as its base.
        ObjectEncoding::Delta(base) => {
            depth < MAX_DEPTH && decodes(objects, base, bytes, rounds, depth + 1)
        }
    })
}
