//! Boxes of a tensor as bytes, put together from the shards that hold them.

use runtree_core::state::region::{self, Region};
use runtree_core::{Error, Result};

use super::{MAX_STRETCHES, RegionRead, WholeTensor};
use crate::engine::Engine;
use crate::load::{LoadedManifest, ReadJob, stream};

impl Engine {
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
        let mut rest = into;
        // Pieces follow each other in memory: they are cut along the first dimensions.
        for piece in wanted.clone().split(MAX_STRETCHES) {
            let (into, behind) =
                std::mem::take(&mut rest).split_at_mut(tensor.region_bytes(&piece) as usize);
            rest = behind;
            self.read_boxes(manifest, tensor, &[piece], into)?;
        }
        Ok(())
    }

    /// Reads boxes, each row-major, one after another into all of `into`. They are looked up at once: together they have at most about
    /// [`MAX_STRETCHES`] stretches.
    pub(in crate::load) fn read_boxes(
        &self,
        manifest: &LoadedManifest,
        tensor: &WholeTensor,
        boxes: &[Region],
        into: &mut [u8],
    ) -> Result<()> {
        let mut reads: Vec<RegionRead> = Vec::new();
        let mut start = 0;
        for region in boxes {
            let found = tensor.reads(region, region, &region::row_major(&region.shape))?;
            reads.extend(found.into_iter().map(|read| RegionRead {
                at: start + read.at,
                ..read
            }));
            start += tensor.region_bytes(region);
        }
        // Every byte is read once, so that by place they cut `into` without gaps.
        reads.sort_unstable_by_key(|read| read.at);
        let mut rest = into;
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
