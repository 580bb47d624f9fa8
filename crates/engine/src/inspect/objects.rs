//! The objects that hold chunks now: how they are encoded, what they take, how many differences a reader walks through.

use std::collections::{HashMap, HashSet};

use runtree_core::manifest::PartManifest;
use runtree_core::state::TensorRecord;
use runtree_core::wire::{EncodingKind, TensorEncoding};
use runtree_core::{ChunkHash, Result};
use runtree_store::{ObjectEncoding, ObjectName};

use crate::engine::Engine;

/// The objects of chunks, and of everything that these are differences to.
pub(super) struct Objects {
    all: HashMap<ChunkHash, Vec<(ObjectName, u64)>>,
}

impl Objects {
    pub(super) fn of(engine: &Engine, hashes: &HashSet<ChunkHash>) -> Result<Self> {
        let mut all = engine.store().objects_of(hashes.iter().copied())?;
        let mut missing = bases(&all);
        while !missing.is_empty() {
            let found = engine.store().objects_of(missing.iter().copied())?;
            for hash in missing {
                all.entry(hash).or_default();
            }
            all.extend(found);
            missing = bases(&all);
        }
        Ok(Self { all })
    }

    pub(super) fn bytes_of(&self, hashes: &HashSet<ChunkHash>) -> u64 {
        let objects = hashes.iter().filter_map(|hash| self.all.get(hash));
        objects.flatten().map(|(_, bytes)| bytes).sum()
    }

    pub(super) fn is_encoded(&self, hash: ChunkHash) -> bool {
        let mut objects = self.all.get(&hash).into_iter().flatten();
        objects.any(|(name, _)| name.encoding != ObjectEncoding::Raw)
    }

    /// Differences between a chunk and a full object, by the object that a reader takes first: raw ones and full ones stand before differences.
    pub(super) fn depth(&self, hash: ChunkHash) -> usize {
        let mut depth = 0;
        let mut at = hash;
        // A circle of differences is no reader's way either.
        while depth <= usize::from(runtree_store::chunk::encoded::MAX_DEPTH) {
            match self.all.get(&at).and_then(|objects| objects.first()) {
                Some((name, _)) => match name.encoding {
                    ObjectEncoding::Delta(base) => at = base,
                    ObjectEncoding::Raw | ObjectEncoding::Planes => return depth,
                },
                None => return depth,
            }
            depth += 1;
        }
        depth
    }

    /// How the bytes of a tensor of `part` are kept; `None` if it has none.
    pub(super) fn encoding_of(
        &self,
        part: &PartManifest,
        tensor: &TensorRecord,
    ) -> Option<TensorEncoding> {
        let mut found: Option<TensorEncoding> = None;
        for extent in tensor.extents.iter().filter(|extent| extent.bytes > 0) {
            let chunk = &part.chunks[extent.chunk as usize];
            let object = self
                .all
                .get(&chunk.hash)
                .and_then(|objects| objects.first());
            let (kind, bytes) = match object {
                None => (EncodingKind::Missing, 0),
                Some((name, bytes)) => (
                    match name.encoding {
                        ObjectEncoding::Raw => EncodingKind::Raw,
                        ObjectEncoding::Planes => EncodingKind::Planes,
                        ObjectEncoding::Delta(_) => EncodingKind::Difference,
                    },
                    *bytes,
                ),
            };
            let share =
                u128::from(bytes) * u128::from(extent.bytes) / u128::from(chunk.bytes.max(1));
            let depth = self.depth(chunk.hash) as u64;
            let all = found.get_or_insert(TensorEncoding {
                kind,
                depth,
                stored_bytes: 0,
            });
            all.stored_bytes += share as u64;
            all.depth = all.depth.max(depth);
            all.kind = match (all.kind, kind) {
                (EncodingKind::Missing, _) | (_, EncodingKind::Missing) => EncodingKind::Missing,
                (one, another) if one == another => one,
                _ => EncodingKind::Mixed,
            };
        }
        found
    }
}

/// Bases of differences that are not in the map.
fn bases(all: &HashMap<ChunkHash, Vec<(ObjectName, u64)>>) -> HashSet<ChunkHash> {
    all.values()
        .flatten()
        .filter_map(|(name, _)| match name.encoding {
            ObjectEncoding::Delta(base) if !all.contains_key(&base) => Some(base),
            _ => None,
        })
        .collect()
}
