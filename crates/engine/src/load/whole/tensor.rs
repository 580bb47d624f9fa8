//! A tensor that several parts hold boxes of, and where any element of it is: arithmetic on what manifests say, no bytes.

use runtree_core::manifest::Extent;
use runtree_core::state::region::{self, Region};
use runtree_core::state::{Dtype, TensorRecord};
use runtree_core::{Error, Result};

use crate::load::stream;

/// Most stretches that are looked up at a time: what bounds the memory that a load of thin slices takes.
pub const MAX_STRETCHES: u64 = 1 << 17;

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
    /// Index into [`crate::LoadedManifest::parts`].
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
    /// Index into [`crate::LoadedManifest::parts`].
    pub part: usize,
    /// What to read.
    pub extent: Extent,
    /// Where it goes: bytes from the beginning of the target.
    pub at: u64,
}

impl ShardSource {
    pub(crate) fn new(part: usize, record: &TensorRecord) -> Self {
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
