//! Loading: bytes straight into their destination, in parallel, every block verified.
//!
//! A checkpoint is found by its commit, which names its parts by BLAKE3, which hold a checksum of every block. So nothing that was damaged or put
//! in its place is returned: a load gives exactly the saved bytes, or an error that names tensor and chunk. A block that does not verify is
//! read once more, then from other objects of the same content; only then is it `Corrupt`.

use std::sync::Arc;

use runtree_core::manifest::{BLOCK_BYTES, CheckpointName, Extent, Outcome, PartManifest};
use runtree_core::{CheckpointId, Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::parallel::work_off;
use crate::save::threads;

mod fallback;
mod find;
mod select;
mod spans;
pub(crate) mod stream;
mod whole;

pub use fallback::Fallback;
pub use find::FoundTensor;
pub use whole::{
    DISTRIBUTED_STATE, Differing, MAX_STRETCHES, RegionRead, ShardSource, WholeBlob, WholeRequest,
    WholeState, WholeTensor,
};

use spans::{Piece, Span, gather};

/// Readers for each thread that the machine copies with: some of them are waiting for the disk.
const READERS_PER_CORE: usize = 2;
/// Most threads that read.
const MAX_THREADS: usize = 64;

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
    /// Reads and verifies the manifests of a checkpoint. One in the trash is read like any other: forks may rely on it.
    ///
    /// # Errors
    /// `NotFound` if it was never committed; `Corrupt` if commit or parts are damaged or missing; `Unsupported` if a newer runtree wrote them.
    pub fn load_plan(&self, checkpoint: CheckpointName) -> Result<LoadedManifest> {
        let CheckpointName { run, key } = checkpoint;
        let store = self.store();
        let missing = |what: &str| {
            Error::not_found(format!("checkpoint {key} of run {run} {what}"))
                .with_hint(format!("see what there is: runtree checkpoints {run}"))
        };
        let Some(commit) = store.read_commit(run, key)? else {
            self.check_commit_is_not_lost(checkpoint)?;
            return Err(missing("does not exist"));
        };
        if commit.outcome == Outcome::Abandoned {
            return Err(missing("was given up before all its parts were there"));
        }
        let parts = commit
            .parts
            .iter()
            .map(|part| store.read_committed_part(run, key, part).map(Arc::new))
            .collect::<Result<Vec<_>>>()?;
        for part in &parts {
            let declared = part
                .parts
                .iter()
                .flat_map(|(component, &ranks)| (0..ranks).map(move |rank| (component, rank)));
            if !declared.eq(commit.parts.iter().map(|part| (&part.component, part.rank))) {
                return Err(Error::corrupt(format!(
                    "part {}-{} of checkpoint {key} of run {run} declares other parts than its commit names",
                    part.component, part.rank
                )));
            }
        }
        Ok(LoadedManifest {
            name: checkpoint,
            parts,
        })
    }

    /// Tells a checkpoint that was there, and whose commit is gone, from one that never was.
    fn check_commit_is_not_lost(&self, checkpoint: CheckpointName) -> Result<()> {
        self.refresh_known(checkpoint.run)?;
        match self
            .damaged_checkpoints(checkpoint.run)
            .remove(&checkpoint.key)
        {
            Some(text) => {
                Err(Error::corrupt(text)
                    .with_hint("runtree verify lists everything that is damaged"))
            }
            None => Ok(()),
        }
    }

    /// Reads, verifies and places bytes, on up to `threads` threads (0: as many as there are processors).
    ///
    /// After an error the destinations hold anything: use none of them.
    ///
    /// # Errors
    /// `Corrupt` naming tensor and chunk; `NotFound` if the checkpoint was deleted meanwhile; `Internal` if a job does not fit its manifest.
    pub fn read_tensors(
        &self,
        manifest: &LoadedManifest,
        jobs: Vec<ReadJob<'_>>,
        threads: usize,
    ) -> Result<()> {
        let mut names = Vec::with_capacity(jobs.len());
        let mut pieces = Vec::new();
        for (
            job,
            ReadJob {
                part,
                extents,
                what,
                into,
            },
        ) in jobs.into_iter().enumerate()
        {
            names.push(what);
            let record = manifest.parts.get(part);
            let wanted: u64 = extents.iter().map(|extent| extent.bytes).sum();
            let fits = record.is_some_and(|record| {
                extents.iter().all(|extent| {
                    record
                        .chunks
                        .get(extent.chunk as usize)
                        .is_some_and(|chunk| {
                            extent
                                .offset
                                .checked_add(extent.bytes)
                                .is_some_and(|end| end <= chunk.bytes)
                        })
                })
            });
            if !fits || wanted != into.len() as u64 {
                return Err(Error::internal(format!(
                    "{what:?} of {wanted} bytes in part {part} does not fit its manifest or its destination of {} bytes",
                    into.len()
                )));
            }
            let mut rest = into;
            for extent in extents {
                let (to, behind) = std::mem::take(&mut rest).split_at_mut(extent.bytes as usize);
                rest = behind;
                pieces.push(Piece {
                    part,
                    chunk: extent.chunk,
                    offset: extent.offset,
                    job,
                    to,
                });
            }
        }
        self.read_spans(manifest, gather(pieces), &names, threads)
    }

    fn read_spans(
        &self,
        manifest: &LoadedManifest,
        spans: Vec<Span<'_>>,
        names: &[&str],
        wanted: usize,
    ) -> Result<()> {
        let wanted = if wanted == 0 {
            threads() * READERS_PER_CORE
        } else {
            wanted.min(MAX_THREADS)
        };
        let read = |scratch: &mut Vec<u8>, span| self.read_span(manifest, span, names, scratch);
        work_off(spans, wanted, "reading", Vec::new, read).map(drop)
    }

    fn read_span(
        &self,
        manifest: &LoadedManifest,
        span: Span<'_>,
        names: &[&str],
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let part = &manifest.parts[span.part];
        let chunk = &part.chunks[span.chunk as usize];
        let jobs: Vec<usize> = span.pieces.iter().map(|piece| piece.job).collect();
        span.fill(chunk.bytes, scratch, |first_block, into| {
            self.store()
                .read_chunk_into(chunk, first_block * BLOCK_BYTES, into)
        })
        .map_err(|(error, piece)| {
            let what = names[jobs[piece]];
            self.explain(manifest, part, what, error)
        })
    }

    /// Says of which tensor and checkpoint an error is, and whether somebody deleted it under the reader.
    fn explain(
        &self,
        manifest: &LoadedManifest,
        part: &PartManifest,
        what: &str,
        error: Error,
    ) -> Error {
        let CheckpointName { run, key } = manifest.name;
        let id = CheckpointId::of(run, key);
        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) {
            let deleted = self.store().list_tombstones(run).is_ok_and(|all| {
                all.iter().any(|(name, highest)| {
                    *name == key && runtree_store::layout::is_deleted(*highest)
                })
            });
            if deleted && error.kind() == ErrorKind::NotFound {
                return Error::not_found(format!(
                    "checkpoint {id} (step {}) was deleted while reading",
                    key.step
                ))
                .with_source(error);
            }
        }
        let context = format!(
            "{what:?} in part {}-{} of checkpoint {id} (step {}) of run {run}",
            part.component, part.rank, key.step
        );
        if error.kind() == ErrorKind::NotFound {
            return Error::corrupt(format!("{context}: {}", error.message())).with_source(error);
        }
        error.in_context(context)
    }
}
