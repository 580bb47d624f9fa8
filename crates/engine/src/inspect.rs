//! Looking into checkpoints: tensors and what is in them, differences, verification, what the store holds.

use std::collections::{BTreeMap, HashSet};

use runtree_core::manifest::{CheckpointName, Outcome, PartManifest};
use runtree_core::state::TensorRecord;
use runtree_core::{ErrorKind, Result, RunId, wire};

use crate::engine::Engine;
use crate::load::LoadedManifest;

mod decode;
mod diff;
mod moments;
mod numbers;
mod objects;
mod scan;
mod stats;
pub(crate) mod verify;

pub use scan::StatisticsScan;
pub use stats::{StatsReport, StatsRow};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// Checkpoints looked at.
    pub checkpoints: u64,
    /// Distinct chunks read.
    pub chunks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is damaged, in words.
    pub problems: Vec<String>,
    /// Of how many distinct chunks those that were read are a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_from: Option<u64>,
}

/// How many chunks a verification reads, chosen anew each time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// So many.
    Count(u64),
    /// This part of them, above 0 and at most 1.
    Fraction(f64),
}

impl Engine {
    /// Reads and verifies a checkpoint: part manifests and chunks by their BLAKE3, chunks against their block checksums. Or the whole store: all
    /// checkpoints, and births, launches, journals with every position that a part recorded, names, pins and attached files.
    ///
    /// # Errors
    /// `NotFound` if the named checkpoint does not exist; damage is not an error but a finding.
    pub fn verify(&self, checkpoint: Option<CheckpointName>) -> Result<VerifyReport> {
        verify::verify(self, checkpoint, None)
    }

    /// [`Engine::verify`] that reads all records and some of the chunks: what is read each night finds a failing disk in time.
    ///
    /// # Errors
    /// As [`Engine::verify`]; `Invalid` if the sample is none.
    pub fn verify_sample(
        &self,
        checkpoint: Option<CheckpointName>,
        sample: Sample,
    ) -> Result<VerifyReport> {
        let is_sample = match sample {
            Sample::Count(count) => count > 0,
            Sample::Fraction(fraction) => fraction > 0.0 && fraction <= 1.0,
        };
        if !is_sample {
            return Err(runtree_core::Error::invalid(
                "a sample is a count from 1 on, or a fraction above 0 and at most 1",
            ));
        }
        verify::verify(self, checkpoint, Some(sample))
    }

    /// The tensors of a checkpoint, in the order of parts, entries and the tree; those that a saved file names (safetensors) too, in the order of their bytes.
    ///
    /// # Errors
    /// As [`Engine::load_plan`].
    pub fn tensors(&self, checkpoint: CheckpointName) -> Result<Vec<wire::TensorInfo>> {
        let manifest = self.load_plan(checkpoint)?;
        Ok(list(&manifest, |_, _| None))
    }

    /// The same list, and how the bytes of each are kept in this store now. Asks for the objects of every chunk, and of what these are differences to.
    ///
    /// # Errors
    /// As [`Engine::load_plan`] and the store's listings.
    pub fn tensors_with_encodings(
        &self,
        checkpoint: CheckpointName,
    ) -> Result<Vec<wire::TensorInfo>> {
        let manifest = self.load_plan(checkpoint)?;
        let chunks = manifest.parts.iter().flat_map(|part| &part.chunks);
        let objects = objects::Objects::of(self, &chunks.map(|chunk| chunk.hash).collect())?;
        Ok(list(&manifest, |part, tensor| {
            objects.encoding_of(part, tensor)
        }))
    }

    /// What differs between two checkpoints, tensor by tensor. Config and metrics are [`Engine::diff_runs`]'s.
    ///
    /// # Errors
    /// As [`Engine::load_plan`] and [`Engine::read_tensors`].
    pub fn diff_checkpoints(
        &self,
        a: CheckpointName,
        b: CheckpointName,
    ) -> Result<wire::DiffReport> {
        let diff = diff::diff(self, a, b)?;
        Ok(wire::DiffReport {
            a: self.checkpoint_info(a)?.reference,
            b: self.checkpoint_info(b)?.reference,
            config: Vec::new(),
            tensors: diff.changes,
            equal_tensors: diff.equal,
            metrics: BTreeMap::new(),
        })
    }

    /// A checkpoint as lists show it, and what it takes in this store. Lists don't say that: only the store knows how an object is
    /// encoded now, and what two parts share is to be counted once.
    ///
    /// # Errors
    /// `NotFound` if it does not exist.
    pub fn checkpoint_detail(&self, checkpoint: CheckpointName) -> Result<wire::CheckpointInfo> {
        let mut info = self.checkpoint_info(checkpoint)?;
        info.stored_bytes = match self.stored_bytes(checkpoint) {
            Ok(bytes) => Some(bytes),
            // Not complete, or damaged: its state says so, and what it takes can't be told.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => None,
            Err(error) => return Err(error),
        };
        Ok(info)
    }

    /// Bytes of the distinct objects that a checkpoint needs in this store.
    ///
    /// # Errors
    /// As [`Engine::load_plan`].
    pub fn stored_bytes(&self, checkpoint: CheckpointName) -> Result<u64> {
        let manifest = self.load_plan(checkpoint)?;
        self.store()
            .stored_bytes(manifest.parts.iter().flat_map(|part| &part.chunks))
    }

    /// What the store, or one run, holds. A run is counted with what it saved itself.
    ///
    /// # Errors
    /// As the store's listings; checkpoints that can not be read are counted apart.
    pub fn stats(&self, run: Option<RunId>) -> Result<StatsReport> {
        stats::stats(self, run)
    }

    /// Committed checkpoints of these runs that are not in the trash, by run and key. Reads the store, not the index.
    pub(crate) fn existing_checkpoints(&self, runs: &[RunId]) -> Result<Vec<CheckpointName>> {
        self.existing_checkpoints_beyond(runs, &HashSet::new())
    }

    /// The same, without reading the commits of `committed` again.
    pub(crate) fn existing_checkpoints_beyond(
        &self,
        runs: &[RunId],
        committed: &HashSet<CheckpointName>,
    ) -> Result<Vec<CheckpointName>> {
        let store = self.store();
        let mut found = Vec::new();
        for &run in runs {
            let deleted: HashSet<_> = store
                .list_tombstones(run)?
                .into_iter()
                .filter(|(_, highest)| runtree_store::layout::is_deleted(*highest))
                .map(|(key, _)| key)
                .collect();
            for key in store.list_commits(run)? {
                // A commit that can not be read is somebody's damage, not nobody's checkpoint: it stays in the list.
                let name = CheckpointName { run, key };
                let exists = committed.contains(&name)
                    || store.read_commit(run, key).map_or(true, |commit| {
                        commit.is_some_and(|commit| commit.outcome == Outcome::Committed)
                    });
                if exists && !deleted.contains(&key) {
                    found.push(name);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Every tensor, in the order of parts, entries and their records.
fn list(
    manifest: &LoadedManifest,
    encoding: impl Fn(&PartManifest, &TensorRecord) -> Option<wire::TensorEncoding>,
) -> Vec<wire::TensorInfo> {
    let mut found = Vec::new();
    for part in &manifest.parts {
        for entry in &part.entries {
            let tensors = entry.content.tensors().iter();
            found.extend(tensors.map(|tensor| wire::TensorInfo {
                name: tensor.name.clone(),
                entry: entry.path.clone(),
                part: format!("{}-{}", part.component, part.rank),
                dtype: tensor.dtype.to_string(),
                shape: tensor.shape.clone(),
                global_shape: tensor.global_shape.clone(),
                bytes: tensor.byte_len().unwrap_or(0),
                encoding: encoding(part, tensor),
            }));
        }
    }
    found
}
