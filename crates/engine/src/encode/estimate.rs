//! What checkpoints like these will cost: told once, when there are two to compare.

use std::collections::HashSet;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result};

use super::survivors::SEGMENT;
use super::tensors::ChunkMap;
use super::{hashes, same_part};
use crate::engine::Engine;

/// Chunks that are sampled, evenly over all new ones.
const SAMPLES: usize = 16;
/// Bytes of each that are looked at.
const SAMPLE_BYTES: u64 = 4 << 20;

/// What a checkpoint costs, beside the one before it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct CostEstimate {
    /// Raw bytes of the checkpoint.
    pub bytes: u64,
    /// Of these, bytes that the one before does not have.
    pub new_bytes: u64,
    /// What the new ones will take once both are cold, at least: most checkpoints are differences to one that is further away.
    pub encoded_bytes: u64,
    /// The checkpoint's step.
    pub step: i64,
    /// Steps between the two.
    pub steps_apart: i64,
}

impl Engine {
    /// Estimates what a checkpoint like `newer` costs when `older` is the one before it, by encoding samples in memory.
    ///
    /// # Errors
    /// As [`Engine::load_plan`] and as reading chunks does.
    pub fn estimate_cost(
        &self,
        older: CheckpointName,
        newer: CheckpointName,
    ) -> Result<CostEstimate> {
        let (base, manifest) = (self.load_plan(older)?, self.load_plan(newer)?);
        let known: HashSet<_> = hashes(&base).collect();
        let mut seen = HashSet::new();
        let maps: Vec<ChunkMap<'_>> = manifest
            .parts
            .iter()
            .map(|part| ChunkMap::of(part, same_part(&base, part).map(AsRef::as_ref)))
            .collect();
        let mut new = Vec::new();
        for (part, map) in manifest.parts.iter().zip(&maps) {
            for (index, chunk) in part.chunks.iter().enumerate() {
                if !known.contains(&chunk.hash) && seen.insert(chunk.hash) {
                    new.push((chunk, map.item_bytes(index), map.base(index)));
                }
            }
        }
        let (mut raw, mut encoded) = (0, 0);
        let stride = new.len().div_ceil(SAMPLES).max(1);
        for (number, group) in new.chunks(stride).enumerate() {
            // Not always the first of its group: states repeat (weight, moment, moment), and so would the samples.
            let (chunk, item_bytes, base) = &group[number.wrapping_mul(0x9e37_79b9) % group.len()];
            let estimate = |base| {
                self.store()
                    .estimate_encoding(chunk, *item_bytes, base, SAMPLE_BYTES)
            };
            let whole = estimate(None)?;
            let difference = match base {
                Some(_) => estimate(*base)?,
                None => whole,
            };
            // One survivor of a segment is kept whole.
            let mean = (difference.encoded_bytes as f64 * (SEGMENT as f64 - 1.0)
                + whole.encoded_bytes as f64)
                / SEGMENT as f64;
            // A sample stands for its chunk.
            raw += chunk.bytes;
            encoded += (mean * chunk.bytes as f64 / difference.raw_bytes.max(1) as f64) as u64;
        }
        let new_bytes = new.iter().map(|(chunk, ..)| chunk.bytes).sum::<u64>();
        let ratio = if raw == 0 {
            1.0
        } else {
            encoded as f64 / raw as f64
        };
        let steps_apart = newer
            .key
            .step
            .0
            .checked_sub(older.key.step.0)
            .ok_or_else(|| Error::invalid("the two checkpoints are too far apart"))?;
        Ok(CostEstimate {
            bytes: manifest.parts.iter().map(|part| part.bytes).sum(),
            new_bytes,
            encoded_bytes: (new_bytes as f64 * ratio) as u64,
            step: newer.key.step.0,
            steps_apart,
        })
    }
}
