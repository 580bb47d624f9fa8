//! Which chunk of another checkpoint holds the same tensors.
//!
//! Two chunks match if they hold the same stretches of the same tensors (entry, name, dtype, shape, place in the global tensor) at the same offsets. That covers both
//! kinds of chunks with one rule: pieces of one large tensor, and slabs of many small ones. A state whose layout changed simply finds no match.

use std::collections::{HashMap, HashSet};

use runtree_core::manifest::{ChunkRecord, EntryContent, Extent, PartManifest};
use runtree_core::state::TensorRecord;

/// The chunks of a part, and their matches in a part of another checkpoint.
pub(super) struct ChunkMap<'b> {
    item_bytes: Vec<Option<u8>>,
    bases: Vec<Option<&'b ChunkRecord>>,
}

impl<'b> ChunkMap<'b> {
    pub(super) fn of(part: &PartManifest, base: Option<&'b PartManifest>) -> Self {
        let contents = contents(part);
        let theirs: HashMap<blake3::Hash, &ChunkRecord> = base.map_or_else(HashMap::new, |base| {
            self::contents(base)
                .into_iter()
                .zip(&base.chunks)
                .map(|(content, chunk)| (content.signature.finalize(), chunk))
                .collect()
        });
        Self {
            bases: contents
                .iter()
                .map(|content| theirs.get(&content.signature.finalize()).copied())
                .collect(),
            item_bytes: contents.iter().map(Content::item_bytes).collect(),
        }
    }

    /// The matching chunk.
    pub(super) fn base(&self, chunk: usize) -> Option<&'b ChunkRecord> {
        self.bases[chunk]
    }

    /// Bytes of an item of a chunk, if all its tensors agree.
    pub(super) fn item_bytes(&self, chunk: usize) -> Option<u8> {
        self.item_bytes[chunk]
    }
}

/// What is in a chunk.
#[derive(Clone, Default)]
struct Content {
    signature: blake3::Hasher,
    /// Item sizes of what is in it; none for bytes that are no tensor's.
    items: Vec<Option<u64>>,
}

impl Content {
    fn add(&mut self, what: &str, item_bytes: Option<u64>, at: u64, extent: &Extent) {
        self.signature.update(what.as_bytes());
        for number in [at, extent.offset, extent.bytes] {
            self.signature.update(&number.to_le_bytes());
        }
        if self.items.last() != Some(&item_bytes) {
            self.items.push(item_bytes);
        }
    }

    fn item_bytes(&self) -> Option<u8> {
        match self.items.as_slice() {
            [Some(bytes)] => u8::try_from(*bytes).ok(),
            _ => None,
        }
    }
}

/// What makes a tensor the same one in another checkpoint.
fn describe(path: &str, tensor: &TensorRecord) -> String {
    format!(
        "{path}\0{}\0{}\0{:?}\0{:?}",
        tensor.name, tensor.dtype, tensor.shape, tensor.global_offset
    )
}

fn contents(part: &PartManifest) -> Vec<Content> {
    let mut contents = vec![Content::default(); part.chunks.len()];
    let mut place = |what: &str, item_bytes: Option<u64>, extents: &[Extent]| {
        let mut at = 0;
        for extent in extents {
            if let Some(content) = contents.get_mut(extent.chunk as usize) {
                content.add(what, item_bytes, at, extent);
            }
            at += extent.bytes;
        }
    };
    for entry in &part.entries {
        let path = &entry.path;
        match &entry.content {
            EntryContent::State { tensors, blobs, .. } => {
                for tensor in tensors {
                    place(
                        &describe(path, tensor),
                        Some(tensor.dtype.item_bytes()),
                        &tensor.extents,
                    );
                }
                for (index, blob) in blobs.iter().enumerate() {
                    place(&format!("{path}\0{index}"), None, blob);
                }
            }
            EntryContent::File {
                extents, tensors, ..
            } => {
                for tensor in tensors {
                    place(
                        &describe(path, tensor),
                        Some(tensor.dtype.item_bytes()),
                        &tensor.extents,
                    );
                }
                // What is no tensor's, headers and padding, counts where it has a chunk to itself.
                let with_tensors: HashSet<u32> = tensors
                    .iter()
                    .flat_map(|tensor| tensor.extents.iter().map(|extent| extent.chunk))
                    .collect();
                let others: Vec<Extent> = extents
                    .iter()
                    .filter(|extent| !with_tensors.contains(&extent.chunk))
                    .copied()
                    .collect();
                place(path, None, &others);
            }
            EntryContent::Directory { .. } | EntryContent::Symlink { .. } => {}
        }
    }
    contents
}
