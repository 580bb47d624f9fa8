//! Looking into checkpoints: tensors, differences, verification, what the store holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use runtree_core::manifest::{CheckpointName, ChunkRecord, Outcome};
use runtree_core::{ChunkHash, ErrorKind, Result, RunId, wire};

use crate::engine::Engine;

mod diff;
mod numbers;
mod verify;

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
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StatsReport {
    /// Runs.
    pub runs: u64,
    /// Complete checkpoints.
    pub checkpoints: u64,
    /// Raw bytes of all of them, each counted whole.
    pub logical_bytes: u64,
    /// Bytes of distinct objects.
    pub stored_bytes: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// What sharing chunks (forks included) and encoding them saves: logical minus stored.
    pub saved_bytes: u64,
    /// Checkpoints that could not be read, and are not counted.
    pub unreadable: u64,
}

impl Engine {
    /// Reads and verifies a checkpoint: part manifests and chunks by their BLAKE3, chunks against their block checksums. Or the whole store: all
    /// checkpoints, and births, launches, journals with every position that a part recorded, names, pins and attached files.
    ///
    /// # Errors
    /// `NotFound` if the named checkpoint does not exist; damage is not an error but a finding.
    pub fn verify(&self, checkpoint: Option<CheckpointName>) -> Result<VerifyReport> {
        verify::verify(self, checkpoint)
    }

    /// The tensors of a checkpoint, in the order of parts, entries and the tree; those that a saved file names (safetensors) too, in the order of their bytes.
    ///
    /// # Errors
    /// As [`Engine::load_plan`].
    pub fn tensors(&self, checkpoint: CheckpointName) -> Result<Vec<wire::TensorInfo>> {
        let manifest = self.load_plan(checkpoint)?;
        let mut found = Vec::new();
        for part in &manifest.parts {
            for entry in &part.entries {
                found.extend(
                    entry
                        .content
                        .tensors()
                        .iter()
                        .map(|tensor| wire::TensorInfo {
                            name: tensor.name.clone(),
                            entry: entry.path.clone(),
                            part: format!("{}-{}", part.component, part.rank),
                            dtype: tensor.dtype.to_string(),
                            shape: tensor.shape.clone(),
                            global_shape: tensor.global_shape.clone(),
                            bytes: tensor.byte_len().unwrap_or(0),
                        }),
                );
            }
        }
        Ok(found)
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

    /// What the store, or one run, holds. A run is counted with what it saved itself.
    ///
    /// # Errors
    /// As the store's listings; checkpoints that can not be read are counted apart.
    pub fn stats(&self, run: Option<RunId>) -> Result<StatsReport> {
        let store = self.store();
        let runs = match run {
            Some(run) => vec![run],
            None => store.list_runs()?,
        };
        let mut report = StatsReport {
            runs: runs.len() as u64,
            ..StatsReport::default()
        };
        let mut chunks: HashMap<ChunkHash, ChunkRecord> = HashMap::new();
        for name in self.existing_checkpoints(&runs)? {
            match self.load_plan(name) {
                Ok(manifest) => {
                    report.checkpoints += 1;
                    for part in &manifest.parts {
                        report.logical_bytes += part.bytes;
                        for chunk in &part.chunks {
                            chunks.entry(chunk.hash).or_insert_with(|| chunk.clone());
                        }
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    report.unreadable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        report.chunks = chunks.len() as u64;
        report.stored_bytes = store.stored_bytes(chunks.values())?;
        report.saved_bytes = report.logical_bytes.saturating_sub(report.stored_bytes);
        Ok(report)
    }

    /// Committed checkpoints of these runs that are not in the trash, by run and key. Reads the store, not the index.
    pub(crate) fn existing_checkpoints(&self, runs: &[RunId]) -> Result<Vec<CheckpointName>> {
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
                let committed = store.read_commit(run, key).map_or(true, |commit| {
                    commit.is_some_and(|commit| commit.outcome == Outcome::Committed)
                });
                if committed && !deleted.contains(&key) {
                    found.push(CheckpointName { run, key });
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}
