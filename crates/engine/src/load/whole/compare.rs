//! Whether leaves of two ranks are equal. What describes them is compared first, then where their bytes are, and bytes only where
//! neither tells: a checkpoint whose ranks agree is laid over without reading much.

use std::collections::HashMap;

use runtree_core::manifest::Extent;
use runtree_core::state::{StateNode, TensorLeaf, TensorRecord};
use runtree_core::{ChunkHash, Result};

use super::walk::{Node, PartTree};
use crate::engine::Engine;
use crate::load::{LoadedManifest, ReadJob, stream};

/// Tensors up to this size are compared by their hashes, many in one read.
const SMALL_BYTES: u64 = 64 << 10;
/// Bytes that are compared at a time.
const WINDOW_BYTES: u64 = 4 << 20;

/// Says whether two parts hold the same bytes; reads as little as that takes.
pub(super) struct Comparer<'a> {
    engine: &'a Engine,
    manifest: &'a LoadedManifest,
    small: std::cell::RefCell<HashMap<usize, HashMap<u32, ChunkHash>>>,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(engine: &'a Engine, manifest: &'a LoadedManifest) -> Self {
        Self {
            engine,
            manifest,
            small: std::cell::RefCell::default(),
        }
    }

    /// Whether two nodes of different parts are equal, bytes included.
    pub(super) fn same(&self, a: Node<'_>, b: Node<'_>) -> Result<bool> {
        let all = |left: &[StateNode], right: &[StateNode]| -> Result<bool> {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right) {
                if !self.same((a.0, left), (b.0, right))? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        Ok(match (a.1, b.1) {
            (StateNode::Tensor(left), StateNode::Tensor(right)) => {
                let (one, other) = (a.0.record(left.tensor)?, b.0.record(right.tensor)?);
                let alike = TensorLeaf {
                    tensor: right.tensor,
                    // Each rank has its own.
                    device: right.device.clone(),
                    ..left.clone()
                } == *right
                    && (
                        &one.dtype,
                        &one.shape,
                        &one.global_shape,
                        &one.global_offset,
                    ) == (
                        &other.dtype,
                        &other.shape,
                        &other.global_shape,
                        &other.global_offset,
                    );
                alike && self.same_tensor((a.0, left.tensor), (b.0, right.tensor))?
            }
            (StateNode::LongStr { blob: left }, StateNode::LongStr { blob: right }) => {
                self.same_blob((a.0, *left), (b.0, *right))?
            }
            (
                StateNode::LongBytes {
                    blob: left,
                    mutable,
                },
                StateNode::LongBytes {
                    blob: right,
                    mutable: other,
                },
            ) => mutable == other && self.same_blob((a.0, *left), (b.0, *right))?,
            (StateNode::List { v: left }, StateNode::List { v: right })
            | (StateNode::Tuple { v: left }, StateNode::Tuple { v: right }) => all(left, right)?,
            (
                StateNode::Deque { maxlen, v: left },
                StateNode::Deque {
                    maxlen: other,
                    v: right,
                },
            ) => maxlen == other && all(left, right)?,
            (
                StateNode::NamedTuple {
                    class,
                    fields,
                    v: left,
                },
                StateNode::NamedTuple {
                    class: other,
                    fields: theirs,
                    v: right,
                },
            ) => class == other && fields == theirs && all(left, right)?,
            (
                StateNode::Set { frozen, v: left },
                StateNode::Set {
                    frozen: other,
                    v: right,
                },
            ) => frozen == other && all(left, right)?,
            (
                StateNode::Dict { kind, k, v: left },
                StateNode::Dict {
                    kind: other,
                    k: theirs,
                    v: right,
                },
            ) => kind == other && k == theirs && all(left, right)?,
            (
                StateNode::Stateful { class, state: left },
                StateNode::Stateful {
                    class: other,
                    state: right,
                },
            ) => class == other && self.same((a.0, left), (b.0, right))?,
            // A NaN is the same NaN on every rank.
            (StateNode::Float { v: left }, StateNode::Float { v: right }) => {
                left.0.to_bits() == right.0.to_bits()
            }
            (
                StateNode::Complex { re, im },
                StateNode::Complex {
                    re: other,
                    im: theirs,
                },
            ) => (re.0.to_bits(), im.0.to_bits()) == (other.0.to_bits(), theirs.0.to_bits()),
            (left, right) => left == right,
        })
    }

    fn same_blob(&self, a: (&PartTree<'_>, u32), b: (&PartTree<'_>, u32)) -> Result<bool> {
        self.same_bytes((a.0.part, a.0.blob(a.1)?), (b.0.part, b.0.blob(b.1)?))
    }

    /// Chunks and places of extents, neighbours joined: equal ones are equal bytes.
    fn places(&self, part: usize, extents: &[Extent]) -> Vec<(ChunkHash, u64, u64)> {
        let mut places: Vec<(ChunkHash, u64, u64)> = Vec::with_capacity(extents.len());
        for extent in extents.iter().filter(|extent| extent.bytes > 0) {
            let hash = self.manifest.parts[part].chunks[extent.chunk as usize].hash;
            match places.last_mut() {
                Some((last, offset, bytes))
                    if *last == hash && *offset + *bytes == extent.offset =>
                {
                    *bytes += extent.bytes;
                }
                _ => places.push((hash, extent.offset, extent.bytes)),
            }
        }
        places
    }

    /// Whether two byte strings are equal.
    fn same_bytes(&self, a: (usize, &[Extent]), b: (usize, &[Extent])) -> Result<bool> {
        let length = |extents: &[Extent]| extents.iter().map(|extent| extent.bytes).sum::<u64>();
        let bytes = length(a.1);
        if bytes != length(b.1) {
            return Ok(false);
        }
        if self.places(a.0, a.1) == self.places(b.0, b.1) {
            return Ok(true);
        }
        let mut buffers = [Vec::new(), Vec::new()];
        let mut at = 0;
        while at < bytes {
            let count = WINDOW_BYTES.min(bytes - at);
            let windows = [stream::slice(a.1, at, count), stream::slice(b.1, at, count)];
            let mut jobs = Vec::new();
            for ((buffer, window), part) in buffers.iter_mut().zip(&windows).zip([a.0, b.0]) {
                buffer.resize(count as usize, 0);
                jobs.push(ReadJob {
                    part,
                    extents: window,
                    what: "a leaf that ranks may differ in",
                    into: buffer,
                });
            }
            self.engine.read_tensors(self.manifest, jobs, 0)?;
            if buffers[0] != buffers[1] {
                return Ok(false);
            }
            at += count;
        }
        Ok(true)
    }

    /// Whether two whole tensors have equal bytes.
    fn same_tensor(&self, a: (&PartTree<'_>, u32), b: (&PartTree<'_>, u32)) -> Result<bool> {
        let (left, right) = (a.0.record(a.1)?, b.0.record(b.1)?);
        let bytes = left.byte_len();
        if bytes != right.byte_len() {
            return Ok(false);
        }
        if self.places(a.0.part, &left.extents) == self.places(b.0.part, &right.extents) {
            return Ok(true);
        }
        if bytes.is_some_and(|bytes| bytes <= SMALL_BYTES) {
            self.read_small(a.0)?;
            self.read_small(b.0)?;
            let small = self.small.borrow();
            let hash = |(tree, tensor): (&PartTree<'_>, u32)| {
                small.get(&tree.part).and_then(|of| of.get(&tensor))
            };
            return Ok(hash(a) == hash(b));
        }
        self.same_bytes((a.0.part, &left.extents), (b.0.part, &right.extents))
    }

    /// Hashes the small tensors of a part that are no shards, once, a window at a time: they share their blocks, which are then read once.
    fn read_small(&self, tree: &PartTree<'_>) -> Result<()> {
        if self.small.borrow().contains_key(&tree.part) {
            return Ok(());
        }
        let mut hashes = HashMap::new();
        let wanted: Vec<(u32, &TensorRecord, u64)> = tree
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, record)| record.global_shape.is_none())
            .filter_map(|(index, record)| Some((index as u32, record, record.byte_len()?)))
            .filter(|(.., bytes)| *bytes <= SMALL_BYTES)
            .collect();
        let mut rest = wanted.as_slice();
        let mut buffer = Vec::new();
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest
                .iter()
                .take_while(|(.., length)| {
                    let fits = bytes == 0 || bytes + length <= WINDOW_BYTES;
                    bytes += length;
                    fits
                })
                .count();
            let (batch, later) = rest.split_at(count);
            rest = later;
            buffer.resize(batch.iter().map(|(.., bytes)| *bytes as usize).sum(), 0);
            let mut open = buffer.as_mut_slice();
            let mut jobs = Vec::with_capacity(count);
            for (_, record, bytes) in batch {
                let (into, behind) = std::mem::take(&mut open).split_at_mut(*bytes as usize);
                open = behind;
                jobs.push(ReadJob {
                    part: tree.part,
                    extents: &record.extents,
                    what: &record.name,
                    into,
                });
            }
            self.engine.read_tensors(self.manifest, jobs, 0)?;
            let mut open = buffer.as_slice();
            for (index, _, bytes) in batch {
                let (mine, behind) = open.split_at(*bytes as usize);
                open = behind;
                hashes.insert(*index, ChunkHash::of(mine));
            }
        }
        self.small.borrow_mut().insert(tree.part, hashes);
        Ok(())
    }
}
