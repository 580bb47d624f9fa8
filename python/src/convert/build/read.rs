//! The second phase of a load: bytes into the memory that was allocated, in the order of the file, with the interpreter free.

use pyo3::prelude::*;
use runtree_core::manifest::Extent;
use runtree_core::state::region::{Region, row_major};
use runtree_engine::{MAX_STRETCHES, ReadJob, RegionRead, WholeTensor};

use super::Builder;
use crate::errors::IntoPyResult as _;

/// Bytes read between two looks for Ctrl-C.
const BATCH_BYTES: usize = 512 << 20;

/// A stretch of memory to fill.
struct Destination {
    part: usize,
    extents: Vec<Extent>,
    address: usize,
    bytes: usize,
}

impl Builder<'_, '_> {
    /// Fills the memory of all boxes, and of the byte strings that are used.
    pub(super) fn read(&mut self) -> PyResult<()> {
        let load = self.load;
        // Pieces of a bounded number of stretches, so that thin slices of many shards take no memory.
        let mut pieces: Vec<(&WholeTensor, Region, &Region, usize)> = Vec::new();
        for ((index, region), base) in &self.bases {
            let tensor = &load.tensors[*index as usize];
            if tensor.region_bytes(region) > 0 {
                for piece in region.clone().split(MAX_STRETCHES) {
                    pieces.push((tensor, piece, region, base.address));
                }
            }
        }
        // In the order of the file, so that a disk sees one stream.
        pieces.sort_by_cached_key(|(tensor, piece, ..)| {
            let source = tensor.sources.first();
            (
                source.map(|source| (source.part, source.first_place())),
                piece.offset.clone(),
            )
        });
        let mut batch = Batch::default();
        for (tensor, piece, region, address) in pieces {
            let reads = tensor
                .reads(&piece, region, &row_major(&region.shape))
                .into_py(self.py)?;
            batch.add(&tensor.name, address, reads);
            if batch.is_full() {
                self.read_batch(&mut batch)?;
            }
        }
        let blobs: Vec<u32> = self.used_blobs.keys().copied().collect();
        for index in blobs {
            let Some(stored) = load.blobs.get(index as usize) else {
                continue;
            };
            let bytes = stored
                .extents
                .iter()
                .map(|extent| extent.bytes)
                .sum::<u64>();
            // A manifest was checked before: extents lie in chunks that the store has. The sum is what will be read, never a claim alone.
            let mut blob = vec![0; bytes as usize];
            if !blob.is_empty() {
                let name = format!("blob {index}");
                batch.names.push(name);
                batch.wanted.push((
                    batch.names.len() - 1,
                    Destination {
                        part: stored.part,
                        extents: stored.extents.clone(),
                        address: blob.as_mut_ptr() as usize,
                        bytes: blob.len(),
                    },
                ));
                batch.bytes += blob.len();
            }
            self.used_blobs.insert(index, blob);
            if batch.is_full() {
                self.read_batch(&mut batch)?;
            }
        }
        self.read_batch(&mut batch)
    }

    #[expect(
        unsafe_code,
        reason = "bytes go from the disk straight into the tensors they belong to; a safe buffer between would be one more copy of everything"
    )]
    fn read_batch(&self, batch: &mut Batch) -> PyResult<()> {
        let Batch { names, wanted, .. } = std::mem::take(batch);
        let (engine, manifest) = (self.load.engine, self.load.manifest);
        self.py
            .detach(|| {
                let jobs = wanted
                    .iter()
                    .map(|(name, to)| ReadJob {
                        part: to.part,
                        extents: &to.extents,
                        what: &names[*name],
                        // SAFETY: the framework said that the elements of an object lie from its address on, and the object is kept alive by `self.bases` (or the
                        // blob by `self.used_blobs`, whose heap memory does not move) and is either new, so nobody else has it, or the caller's `into` leaf,
                        // lent to us for the load. `allocate` lets no two objects overlap, and `reads` covers each element of one once. Any bit
                        // pattern is a valid u8.
                        into: unsafe {
                            std::slice::from_raw_parts_mut(to.address as *mut u8, to.bytes)
                        },
                    })
                    .collect();
                engine.read_tensors(manifest, jobs, 0)
            })
            .into_py(self.py)?;
        self.py.check_signals()
    }
}

/// What is read at once.
#[derive(Default)]
struct Batch {
    names: Vec<String>,
    wanted: Vec<(usize, Destination)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, name: &str, address: usize, reads: Vec<RegionRead>) {
        self.names.push(name.to_owned());
        for read in reads {
            let bytes = read.extent.bytes as usize;
            self.bytes += bytes;
            self.wanted.push((
                self.names.len() - 1,
                Destination {
                    part: read.part,
                    extents: vec![read.extent],
                    address: address + read.at as usize,
                    bytes,
                },
            ));
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.wanted.len() as u64 >= MAX_STRETCHES
    }
}
