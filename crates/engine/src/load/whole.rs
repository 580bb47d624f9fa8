//! A checkpoint's parts as one state: what a rank loads on any world size.
//!
//! Every rank saved a tree of its own. Laid over each other, their leaves are of three kinds: shards of one global tensor, which are put
//! together (or of which any box is read, and nothing else); leaves that are equal everywhere, or that one rank alone has; and leaves that
//! differ by rank, such as a random generator or the place in a data set. For the rank that saved a part, its own leaf is the answer. On
//! another world size nothing says who gets which: those are listed as [`Differing`], and the caller chooses.
//!
//! A stateful object without shards is one leaf here: half of one rank's data loader and half of another's is nobody's.

use std::collections::{BTreeMap, HashMap};

use runtree_core::manifest::{EntryContent, Extent};
use runtree_core::state::region::{self, Region};
use runtree_core::state::{Dtype, StateKey, StateNode, TensorRecord};
use runtree_core::{ChunkHash, Error, Result};

use super::{LoadedManifest, ReadJob, stream};
use crate::engine::Engine;

mod walk;

/// Most stretches that are looked up at a time: what bounds the memory that a load of thin slices takes.
pub const MAX_STRETCHES: u64 = 1 << 17;
/// Class of the root of a state whose leaves several ranks saved each some of, as torch's distributed checkpoints divide them: no rank's own
/// tree is complete, the state is all of them together.
pub const DISTRIBUTED_STATE: &str = "runtree.torch:DistributedState";
/// Tensors up to this size are compared by their hashes, many in one read.
const SMALL_BYTES: u64 = 64 << 10;
/// Bytes that are compared at a time.
const WINDOW_BYTES: u64 = 4 << 20;

/// A tensor, and where any element of it can be read.
#[derive(Clone, Debug)]
pub struct WholeTensor {
    /// Dotted name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape; of a shard, the global tensor's.
    pub shape: Vec<u64>,
    /// Whether it was saved as shards.
    pub sharded: bool,
    /// What the part of the rank that asks holds of it, if it is a shard.
    pub own: Option<Region>,
    /// Who holds what of it; the part of the rank that asks first.
    pub sources: Vec<ShardSource>,
}

/// A stored box of a tensor.
#[derive(Clone, Debug)]
pub struct ShardSource {
    /// Index into [`LoadedManifest::parts`].
    pub part: usize,
    /// Which elements.
    pub region: Region,
    /// Where their bytes are, row-major.
    extents: Vec<Extent>,
    /// Where each extent begins among them.
    starts: Vec<u64>,
}

/// One stretch of bytes to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionRead {
    /// Index into [`LoadedManifest::parts`].
    pub part: usize,
    /// What to read.
    pub extent: Extent,
    /// Where it goes: bytes from the beginning of the target.
    pub at: u64,
}

/// Bytes that stand beside the tensors.
#[derive(Clone, Debug)]
pub struct WholeBlob {
    /// Index into [`LoadedManifest::parts`].
    pub part: usize,
    /// Where they are.
    pub extents: Vec<Extent>,
}

/// The state trees of all ranks as one.
#[derive(Clone, Debug, Default)]
pub struct WholeState {
    /// The tree; leaves name [`WholeState::tensors`] and [`WholeState::blobs`].
    pub tree: Option<StateNode>,
    /// Its tensors.
    pub tensors: Vec<WholeTensor>,
    /// Its long byte strings.
    pub blobs: Vec<WholeBlob>,
    /// Leaves that differ by rank and that nothing was chosen for; the tree has the first rank's.
    pub differing: Vec<Differing>,
}

/// A leaf that differs by rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Its dotted path.
    pub path: String,
    /// Its keys, from the root.
    pub keys: Vec<StateKey>,
    /// Ranks that have it.
    pub ranks: Vec<u32>,
}

/// Who asks for a state.
#[derive(Clone, Debug, Default)]
pub struct WholeRequest {
    /// The rank whose own leaves win; none on another world size.
    pub own_rank: Option<u32>,
    /// What was chosen for leaves that differ, by dotted path: a rank's, or none of them.
    pub choices: BTreeMap<String, Option<u32>>,
}

impl ShardSource {
    pub(super) fn new(part: usize, record: &TensorRecord) -> Self {
        let mut at = 0;
        let starts = record
            .extents
            .iter()
            .map(|extent| {
                let start = at;
                at += extent.bytes;
                start
            })
            .collect();
        Self {
            part,
            region: Region {
                offset: record
                    .global_offset
                    .clone()
                    .unwrap_or_else(|| vec![0; record.shape.len()]),
                shape: record.shape.clone(),
            },
            extents: record.extents.clone(),
            starts,
        }
    }

    /// Where its first byte is: chunk of the part, and byte in it. For sorting.
    pub fn first_place(&self) -> (u32, u64) {
        self.extents
            .first()
            .map_or((0, 0), |extent| (extent.chunk, extent.offset))
    }

    /// Adds the reads for `bytes` bytes from byte `from` of the source on.
    fn add_reads(&self, mut from: u64, mut bytes: u64, mut at: u64, reads: &mut Vec<RegionRead>) {
        let mut index = self.starts.partition_point(|start| *start <= from);
        index = index.saturating_sub(1);
        while bytes > 0
            && let Some(extent) = self.extents.get(index)
        {
            let skipped = from - self.starts[index];
            let count = bytes.min(extent.bytes - skipped);
            if count > 0 {
                reads.push(RegionRead {
                    part: self.part,
                    extent: Extent {
                        chunk: extent.chunk,
                        offset: extent.offset + skipped,
                        bytes: count,
                    },
                    at,
                });
            }
            from += count;
            at += count;
            bytes -= count;
            index += 1;
        }
    }
}

impl WholeTensor {
    /// What a rank gets that asks for nothing else: its own shard, or all of it.
    pub fn default_region(&self) -> Region {
        self.own
            .clone()
            .unwrap_or_else(|| Region::whole(&self.shape))
    }

    /// All of it.
    pub(crate) fn default_whole(&self) -> Region {
        Region::whole(&self.shape)
    }

    /// The tensor of `shape` whose elements follow each other in this one from element `offset` on: a view of shared memory, which is stored as
    /// one line.
    pub(crate) fn stretch(&self, offset: u64, shape: &[u64]) -> Self {
        let item = self.dtype.item_bytes();
        let bytes = shape.iter().product::<u64>() * item;
        let sources = self.sources.iter().map(|source| {
            let record = TensorRecord {
                name: self.name.clone(),
                dtype: self.dtype.clone(),
                shape: shape.to_vec(),
                global_shape: None,
                global_offset: None,
                extents: stream::slice(&source.extents, offset * item, bytes),
            };
            ShardSource::new(source.part, &record)
        });
        Self {
            shape: shape.to_vec(),
            own: None,
            sources: sources.collect(),
            ..self.clone()
        }
    }

    /// Bytes of a box of it.
    pub fn region_bytes(&self, region: &Region) -> u64 {
        region.elements().saturating_mul(self.dtype.item_bytes())
    }

    /// Where the elements of `wanted` are, and where they go in a target that holds `target` with `strides` (in elements).
    ///
    /// Reads do not overlap in the target if the strides are injective ([`region::is_injective`]). Nothing is read that is not wanted, but for
    /// the rest of the blocks in which it lies.
    ///
    /// # Errors
    /// `Invalid` if a box is not inside the tensor; `Corrupt` if no shard holds an element.
    pub fn reads(
        &self,
        wanted: &Region,
        target: &Region,
        strides: &[u64],
    ) -> Result<Vec<RegionRead>> {
        let inside = wanted.is_empty() || wanted.intersection(target).as_ref() == Some(wanted);
        if !wanted.fits(&self.shape)
            || !target.fits(&self.shape)
            || strides.len() != target.shape.len()
            || !inside
        {
            return Err(Error::invalid(format!(
                "{:?} from {:?} on is not inside {:?}, which has shape {:?}",
                wanted.shape, wanted.offset, self.name, self.shape
            )));
        }
        let item = self.dtype.item_bytes();
        let mut reads = Vec::new();
        let covered = region::cover(wanted, self.sources.iter().map(|source| &source.region))
            .map_err(|error| error.in_context(format!("tensor {:?}", self.name)))?;
        for (index, common) in covered {
            let source = &self.sources[index];
            for stretch in region::stretches(&common, &source.region, target, strides) {
                source.add_reads(
                    stretch.source * item,
                    stretch.count * item,
                    stretch.target * item,
                    &mut reads,
                );
            }
        }
        Ok(reads)
    }
}

impl WholeState {
    /// The tensor of a dotted name.
    pub fn tensor(&self, name: &str) -> Option<&WholeTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

impl Engine {
    /// Lays the state trees `entry` of all parts of `component` over each other. Reads manifests that are loaded already, and the bytes of small
    /// leaves where only those can tell whether ranks differ.
    ///
    /// # Errors
    /// `NotFound` if no part has such a state; `Corrupt` if shards of one name do not belong to one tensor.
    pub fn whole_state(
        &self,
        manifest: &LoadedManifest,
        component: &str,
        entry: &str,
        request: &WholeRequest,
    ) -> Result<WholeState> {
        let mut trees = Vec::new();
        for (part, record) in manifest.parts.iter().enumerate() {
            let content = record.entries.iter().find_map(|found| {
                let state = found.path == entry && record.component.as_str() == component;
                match &found.content {
                    EntryContent::State {
                        tree,
                        tensors,
                        blobs,
                    } if state => Some((tree, tensors, blobs)),
                    _ => None,
                }
            });
            if let Some((tree, tensors, blobs)) = content {
                trees.push(walk::PartTree {
                    part,
                    rank: record.rank,
                    tree,
                    tensors,
                    blobs,
                });
            }
        }
        if trees.is_empty() {
            return Err(Error::not_found(format!(
                "no part of {component} has a state tree `{entry}`"
            )));
        }
        if let Some(own) = request.own_rank {
            // Own leaves are preferred, and own shards are read before replicas of them.
            trees.sort_by_key(|tree| tree.rank != own);
        }
        walk::lay_over(&trees, request, &Comparer::new(self, manifest))
    }

    /// Reads a box of a tensor, row-major, verified.
    ///
    /// # Errors
    /// As [`WholeTensor::reads`] and [`Engine::read_tensors`]; `Internal` if `into` has another size.
    pub fn read_region(
        &self,
        manifest: &LoadedManifest,
        tensor: &WholeTensor,
        wanted: &Region,
        into: &mut [u8],
    ) -> Result<()> {
        if into.len() as u64 != tensor.region_bytes(wanted) {
            return Err(Error::internal(format!(
                "{:?} {:?} does not fit a destination of {} bytes",
                tensor.name,
                wanted.shape,
                into.len()
            )));
        }
        let strides = region::row_major(&wanted.shape);
        let mut rest = into;
        // Pieces follow each other in memory: they are cut along the first dimensions.
        for piece in wanted.clone().split(MAX_STRETCHES) {
            let (mine, behind) =
                std::mem::take(&mut rest).split_at_mut(tensor.region_bytes(&piece) as usize);
            rest = behind;
            let own = if piece == *wanted {
                strides.clone()
            } else {
                region::row_major(&piece.shape)
            };
            let mut reads = tensor.reads(&piece, &piece, &own)?;
            reads.sort_unstable_by_key(|read| read.at);
            let mut open = mine;
            let mut jobs = Vec::with_capacity(reads.len());
            for read in &reads {
                let (into, behind) =
                    std::mem::take(&mut open).split_at_mut(read.extent.bytes as usize);
                open = behind;
                jobs.push(ReadJob {
                    part: read.part,
                    extents: std::slice::from_ref(&read.extent),
                    what: &tensor.name,
                    into,
                });
            }
            self.read_tensors(manifest, jobs, 0)?;
        }
        Ok(())
    }
}

impl Engine {
    /// Hands the bytes of a tensor to `write`, row-major, verified, a window at a time: shards are put together on the way.
    ///
    /// # Errors
    /// What reading or `write` returned.
    pub(crate) fn stream_tensor(
        &self,
        manifest: &LoadedManifest,
        tensor: &WholeTensor,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let elements = stream::WINDOW_BYTES / tensor.dtype.item_bytes().max(1);
        let mut buffer = Vec::new();
        for window in Region::whole(&tensor.shape).windows(elements) {
            buffer.resize(tensor.region_bytes(&window) as usize, 0);
            self.read_region(manifest, tensor, &window, &mut buffer)?;
            write(&buffer)?;
        }
        Ok(())
    }
}

/// Says whether two parts hold the same bytes; reads as little as that takes.
pub(super) struct Comparer<'a> {
    engine: &'a Engine,
    manifest: &'a LoadedManifest,
    small: std::cell::RefCell<HashMap<usize, HashMap<u32, ChunkHash>>>,
}

impl<'a> Comparer<'a> {
    fn new(engine: &'a Engine, manifest: &'a LoadedManifest) -> Self {
        Self {
            engine,
            manifest,
            small: std::cell::RefCell::default(),
        }
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
    fn same_tensor(
        &self,
        a: (&walk::PartTree<'_>, u32),
        b: (&walk::PartTree<'_>, u32),
    ) -> Result<bool> {
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
            let hash = |(tree, tensor): (&walk::PartTree<'_>, u32)| {
                small.get(&tree.part).and_then(|of| of.get(&tensor))
            };
            return Ok(hash(a) == hash(b));
        }
        self.same_bytes((a.0.part, &left.extents), (b.0.part, &right.extents))
    }

    /// Hashes the small tensors of a part that are no shards, once, a window at a time: they share their blocks, which are then read once.
    fn read_small(&self, tree: &walk::PartTree<'_>) -> Result<()> {
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
