//! Which bytes go into which chunk: chunks follow tensors, so that a tensor that did not change is a chunk that is already there.
//!
//! A tensor of at least [`OWN_CHUNK_BYTES`] has chunks of its own, cut every `MAX_CHUNK_BYTES`. Smaller ones are packed, in
//! order, into slabs of at most [`SLAB_BYTES`], so that ten thousand scalars cost one object and not ten thousand. A small tensor never straddles
//! two slabs. Empty tensors have no bytes and name no chunk. The plan depends on the sizes alone: the same state, saved twice, is cut
//! the same way. What is read from where and who copies it does not belong here.

use runtree_core::manifest::{Extent, MAX_CHUNK_BYTES};

/// From this size on a tensor has chunks of its own.
pub(crate) const OWN_CHUNK_BYTES: u64 = 1 << 20;
/// Most bytes of a slab of small tensors.
pub(crate) const SLAB_BYTES: u64 = 8 << 20;

/// Sizes of chunks, as they grow out of the sizes of what is saved.
#[derive(Debug, Default)]
pub(crate) struct ChunkPlan {
    sizes: Vec<u64>,
    /// The slab that still has room. It stays open across large tensors: they would only cut it into many small objects.
    slab: Option<u32>,
}

impl ChunkPlan {
    /// Places the next `bytes` bytes and says where they go, in order; nothing for no bytes.
    pub(crate) fn place(&mut self, bytes: u64) -> Vec<Extent> {
        match bytes {
            0 => Vec::new(),
            1..OWN_CHUNK_BYTES => vec![self.place_in_slab(bytes)],
            _ => self.place_alone(bytes),
        }
    }

    /// Bytes of each chunk so far, by index.
    pub(crate) fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    fn place_alone(&mut self, bytes: u64) -> Vec<Extent> {
        (0..bytes.div_ceil(MAX_CHUNK_BYTES))
            .map(|index| {
                let bytes = (bytes - index * MAX_CHUNK_BYTES).min(MAX_CHUNK_BYTES);
                self.sizes.push(bytes);
                Extent {
                    chunk: self.last_chunk(),
                    offset: 0,
                    bytes,
                }
            })
            .collect()
    }

    fn place_in_slab(&mut self, bytes: u64) -> Extent {
        let chunk = match self.slab {
            Some(slab) if self.sizes[slab as usize] + bytes <= SLAB_BYTES => slab,
            _ => {
                self.sizes.push(0);
                let slab = self.last_chunk();
                self.slab = Some(slab);
                slab
            }
        };
        let size = &mut self.sizes[chunk as usize];
        let offset = *size;
        *size += bytes;
        Extent {
            chunk,
            offset,
            bytes,
        }
    }

    fn last_chunk(&self) -> u32 {
        u32::try_from(self.sizes.len() - 1).expect("BUG: 2^32 chunks of a part are 4 PiB at least")
    }
}

/// Lays chunks out in segments of `segment_bytes`, in order, first fit over the segments that were opened: chunk → (segment, offset).
///
/// Each begins at a page, as writing around the page cache demands.
/// Chunks of a part are at most a segment long. First fit over the last few segments alone keeps this linear for a million chunks.
pub(crate) fn lay_out(sizes: &[u64], segment_bytes: u64) -> (Vec<(usize, u64)>, usize) {
    const OPEN: usize = 8;
    const PAGE_BYTES: u64 = 4096;
    let mut free: Vec<u64> = Vec::new();
    let places = sizes
        .iter()
        .map(|&bytes| {
            let bytes = bytes.next_multiple_of(PAGE_BYTES);
            let first = free.len().saturating_sub(OPEN);
            let found = (first..free.len()).find(|&segment| free[segment] >= bytes);
            let segment = found.unwrap_or_else(|| {
                free.push(segment_bytes);
                free.len() - 1
            });
            let offset = segment_bytes - free[segment];
            free[segment] -= bytes;
            (segment, offset)
        })
        .collect();
    (places, free.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn large_tensors_have_chunks_of_their_own_and_small_ones_share_slabs() {
        let mut plan = ChunkPlan::default();
        assert!(plan.place(0).is_empty());
        let small = plan.place(100);
        let large = plan.place(MAX_CHUNK_BYTES + 5);
        let next = plan.place(7);
        assert_eq!((small[0].chunk, small[0].offset), (0, 0));
        assert_eq!(
            large.iter().map(|e| (e.chunk, e.bytes)).collect::<Vec<_>>(),
            [(1, MAX_CHUNK_BYTES), (2, 5)]
        );
        assert_eq!((next[0].chunk, next[0].offset, next[0].bytes), (0, 100, 7));
        assert_eq!(plan.sizes(), [107, MAX_CHUNK_BYTES, 5]);
    }

    proptest! {
        #[test]
        fn every_byte_has_one_place_and_chunks_have_no_holes(
            lengths in proptest::collection::vec(prop_oneof![0_u64..5000, (1_u64 << 19)..(3 << 20), (60_u64 << 20)..(200 << 20)], 0..60)
        ) {
            let mut plan = ChunkPlan::default();
            let placed: Vec<_> = lengths.iter().map(|&bytes| plan.place(bytes)).collect();
            let mut filled = vec![0_u64; plan.sizes().len()];
            for (extents, &bytes) in placed.iter().zip(&lengths) {
                prop_assert_eq!(extents.iter().map(|e| e.bytes).sum::<u64>(), bytes);
                for extent in extents {
                    // In order of placing, each extent starts where its chunk ended: no hole, no overlap.
                    prop_assert_eq!(extent.offset, filled[extent.chunk as usize]);
                    filled[extent.chunk as usize] += extent.bytes;
                }
                if bytes < OWN_CHUNK_BYTES {
                    prop_assert!(extents.len() <= 1);
                }
            }
            prop_assert_eq!(&filled, plan.sizes());
            prop_assert!(filled.iter().all(|&bytes| bytes > 0 && bytes <= MAX_CHUNK_BYTES));

            let (places, segments) = lay_out(plan.sizes(), MAX_CHUNK_BYTES);
            let mut spans: Vec<(usize, u64, u64)> = places.iter().zip(plan.sizes()).map(|(&(s, o), &b)| (s, o, o + b)).collect();
            spans.sort_unstable();
            prop_assert!(spans.iter().all(|&(s, start, end)| s < segments && start.is_multiple_of(4096) && end <= MAX_CHUNK_BYTES));
            prop_assert!(spans.windows(2).all(|w| w[0].0 != w[1].0 || w[0].2 <= w[1].1));
        }
    }
}
