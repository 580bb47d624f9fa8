//! Batches, blocks and summaries: whatever decodes must encode to something that decodes to the same.

use runtree_metrics::{Block, Limits, PointsBatch, Summaries};

/// Batches, blocks and summaries: whatever decodes must encode to something that decodes to the same.
pub fn points(bytes: &[u8]) {
    if let Ok(batch) = PointsBatch::decode(bytes, Limits::default()) {
        let counted: usize = batch.iter().map(|(_, points)| points.len()).sum();
        std::hint::black_box(counted);
    }
    drop(Block::decode(bytes));
    drop(Summaries::decode(bytes));
}
