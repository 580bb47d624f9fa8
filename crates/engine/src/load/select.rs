//! What an index selects of a tensor: as few blocks as hold it, a window at a time.

use runtree_core::Result;
use runtree_core::manifest::BLOCK_BYTES;
use runtree_core::state::index::Selection;
use runtree_core::state::region::Region;

use super::whole::MAX_STRETCHES;
use super::{LoadedManifest, WholeTensor};
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
            let bytes: u64 = batch.iter().map(|region| tensor.region_bytes(region)).sum();
            buffer.resize(bytes as usize, 0);
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
}
