//! Loading: bytes straight into their destination, in parallel, every block verified.

use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, Extent, PartManifest};
use runtree_core::{Error, Result};

use crate::engine::Engine;

/// The manifests of a checkpoint, verified.
#[derive(Clone, Debug)]
pub struct LoadedManifest {
    /// The checkpoint.
    pub name: CheckpointName,
    /// Its parts, sorted by (component, rank).
    pub parts: Vec<Arc<PartManifest>>,
}

/// One contiguous piece of memory to fill.
#[derive(Debug)]
pub struct ReadJob<'a> {
    /// Index into [`LoadedManifest::parts`].
    pub part: usize,
    /// What to read, in order.
    pub extents: &'a [Extent],
    /// What it is, for errors.
    pub what: &'a str,
    /// Where it goes; as long as the extents together.
    pub into: &'a mut [u8],
}

impl Engine {
    /// Reads and verifies the manifests of a checkpoint.
    pub fn load_plan(&self, checkpoint: CheckpointName) -> Result<LoadedManifest> {
        let _ = checkpoint;
        Err(Error::internal("not built yet"))
    }

    /// Reads, verifies and places bytes, on up to `threads` threads (0: as many as there are processors).
    pub fn read_tensors(
        &self,
        manifest: &LoadedManifest,
        jobs: Vec<ReadJob<'_>>,
        threads: usize,
    ) -> Result<()> {
        let _ = (manifest, jobs, threads);
        Err(Error::internal("not built yet"))
    }
}
