//! What an index selects of a tensor: as few blocks as hold it, a window at a time.

use runtree_core::Result;
use runtree_core::manifest::BLOCK_BYTES;
use runtree_core::state::index::Selection;
use runtree_core::state::region::{Region, row_major};

use super::whole::MAX_STRETCHES;
use super::{LoadedManifest, ReadJob, RegionRead, WholeTensor};
use crate::engine::Engine;

/// Most bytes that are held at a time.
const WINDOW_BYTES: u64 = 16 << 20;

impl Engine {
    /// Hands the first `limit` elements that `selection` selects of a tensor to `write`, in order, verified: whole elements, a window at a time. Blocks in
    /// which none of them lies are not read.
    ///
    /// # Errors
    /// What reading or `write` returned.
    pub fn read_selection(
        &self,
        manifest: &LoadedManifest,
        tensor: &WholeTensor,
        selection: &Selection,
        limit: u64,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let item = tensor.dtype.item_bytes();
        if item == 0 {
            return Ok(());
        }
        let mut left = selection.elements().min(limit);
        // Not much less than a block, however few are wanted: all windows of a box are listed.
        let window = (WINDOW_BYTES / item).clamp(1, left.max(BLOCK_BYTES / item).max(1));
        let mut boxes = selection
            .boxes(BLOCK_BYTES / 16 / item)
            .flat_map(|region| region.windows(window))
            .flat_map(|region| region.split(MAX_STRETCHES));
        let mut buffer = Vec::new();
        let mut picked = Vec::new();
        while left > 0 {
            let mut batch: Vec<Region> = Vec::new();
            let (mut held, mut selected) = (0, 0);
            while held < window && selected < left && (batch.len() as u64) < MAX_STRETCHES / 2 {
                let Some(region) = boxes.next() else { break };
                held += region.elements();
                selected += selection.count_in(&region);
                batch.push(region);
            }
            if batch.is_empty() {
                break;
            }
            self.read_boxes(manifest, tensor, &batch, &mut buffer)?;
            picked.clear();
            let mut rest = buffer.as_slice();
            for region in &batch {
                let (bytes, behind) = rest.split_at(tensor.region_bytes(region) as usize);
                rest = behind;
                selection.pick(region, item as usize, bytes, &mut picked);
            }
            let count = selected.min(left);
            left -= count;
            write(&picked[..(count * item) as usize])?;
        }
        Ok(())
    }

    /// Reads boxes, each row-major, one after another.
    fn read_boxes(
        &self,
        manifest: &LoadedManifest,
        tensor: &WholeTensor,
        boxes: &[Region],
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let mut reads: Vec<RegionRead> = Vec::new();
        let mut end = 0;
        for region in boxes {
            let found = tensor.reads(region, region, &row_major(&region.shape))?;
            reads.extend(found.into_iter().map(|read| RegionRead {
                at: read.at + end,
                ..read
            }));
            end += tensor.region_bytes(region);
        }
        reads.sort_unstable_by_key(|read| read.at);
        buffer.resize(end as usize, 0);
        let mut rest = buffer.as_mut_slice();
        let mut jobs = Vec::with_capacity(reads.len());
        for read in &reads {
            let (into, behind) = std::mem::take(&mut rest).split_at_mut(read.extent.bytes as usize);
            rest = behind;
            jobs.push(ReadJob {
                part: read.part,
                extents: std::slice::from_ref(&read.extent),
                what: &tensor.name,
                into,
            });
        }
        self.read_tensors(manifest, jobs, 0)
    }
}
