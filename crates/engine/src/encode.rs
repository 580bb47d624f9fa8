//! Encoding the cold: checkpoints that nobody is about to load are kept as differences to earlier ones of the same run.
//!
//! The newest two checkpoints of a run stay raw, so that it resumes at the speed of the disk. Of every older one each chunk gets a second object, planes and zstd, with
//! or without an XOR base ([`survivors`] says against which checkpoint, [`tensors`] which chunk of it holds the same tensors, samples whether it pays); then
//! the raw object goes, by a round of the gc protocol that first reads the new one back. Nothing else is deleted here, ever.
//!
//! [`worker`] does this while a run trains, on one thread of low priority that stands still half of the time; [`Engine::encode_cold`] does it at once. Both
//! may be stopped or killed anywhere and begin again: what is encoded is seen in the store itself.

use std::collections::HashSet;

use runtree_core::manifest::{CheckpointName, ChunkRecord, PartManifest};
use runtree_core::{ChunkHash, Error, ErrorKind, Result, RunId};
use runtree_store::{ObjectEncoding, Redundant, Rounds};

use crate::engine::Engine;
use crate::load::LoadedManifest;

mod estimate;
pub(crate) mod survivors;
mod tensors;
mod worker;

pub use estimate::CostEstimate;
pub(crate) use worker::Encoder;

use tensors::ChunkMap;

/// Raw bytes that wait to be removed before a round is worth its two objects, which stay for ever.
const ROUND_BYTES: u64 = 1 << 30;

/// What encoding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EncodeReport {
    /// Checkpoints that are cold.
    pub checkpoints: u64,
    /// Chunks that got another object.
    pub chunks: u64,
    /// Their raw bytes.
    pub raw_bytes: u64,
    /// The bytes of their new objects.
    pub encoded_bytes: u64,
    /// Raw objects that were removed.
    pub removed_objects: u64,
    /// Their bytes.
    pub freed_bytes: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// With the next chunk.
    Continue,
    /// What is redundant goes first; then ask again.
    Settle,
    /// Not now.
    Stop,
}

impl Engine {
    /// Encodes every checkpoint of these runs that is cold, and removes the raw objects that become redundant.
    ///
    /// `progress` is called after every checkpoint.
    ///
    /// # Errors
    /// `Denied` if the store was opened for reading only; else as the store says. A checkpoint that can not be read is passed over: `verify` tells.
    pub fn encode_cold(
        &self,
        runs: &[RunId],
        progress: &mut dyn FnMut(&EncodeReport),
    ) -> Result<EncodeReport> {
        self.require_writable()?;
        let mut encoding = Encoding::new(self);
        for &run in runs {
            for cold in survivors::cold(self, run, &mut HashSet::new())? {
                encoding.checkpoint(&cold, &mut || Pace::Continue)?;
                progress(&encoding.report);
            }
        }
        encoding.settle()?;
        Ok(encoding.report)
    }
}

/// Encoding under way.
pub(crate) struct Encoding<'e> {
    engine: &'e Engine,
    redundant: Vec<Redundant>,
    redundant_bytes: u64,
    report: EncodeReport,
}

impl<'e> Encoding<'e> {
    pub(crate) fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            redundant: Vec::new(),
            redundant_bytes: 0,
            report: EncodeReport::default(),
        }
    }

    /// Encodes a checkpoint, asking `pace` before each chunk; says whether it came to the end.
    pub(crate) fn checkpoint(
        &mut self,
        cold: &survivors::Cold,
        pace: &mut dyn FnMut() -> Pace,
    ) -> Result<Pace> {
        let Some(manifest) = self.readable(cold.name)? else {
            return Ok(Pace::Continue);
        };
        let bases = match cold.base {
            Some(base) => self.readable(base)?,
            None => None,
        };
        let rounds = self.engine.store().list_rounds()?;
        for part in &manifest.parts {
            let same = bases.as_ref().and_then(|bases| same_part(bases, part));
            let map = ChunkMap::of(part, same.map(AsRef::as_ref));
            for (index, chunk) in part.chunks.iter().enumerate() {
                loop {
                    match pace() {
                        Pace::Continue => break,
                        Pace::Settle => self.settle()?,
                        Pace::Stop => return Ok(Pace::Stop),
                    }
                }
                if !cold.hot.contains(&chunk.hash) {
                    let base = map.base(index);
                    self.chunk(chunk, map.item_bytes(index), base, &rounds)?;
                }
            }
        }
        self.report.checkpoints += 1;
        if self.redundant_bytes >= ROUND_BYTES {
            self.settle()?;
        }
        Ok(Pace::Continue)
    }

    /// Removes what became redundant so far.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let redundant = std::mem::take(&mut self.redundant);
        self.redundant_bytes = 0;
        let removed = self
            .engine
            .store()
            .remove_redundant(&redundant, self.engine.now())?;
        self.report.removed_objects += removed.objects;
        self.report.freed_bytes += removed.bytes;
        Ok(())
    }

    fn chunk(
        &mut self,
        chunk: &ChunkRecord,
        item_bytes: Option<u8>,
        base: Option<&ChunkRecord>,
        rounds: &Rounds,
    ) -> Result<()> {
        let store = self.engine.store();
        if store.encoded_object(chunk.hash, rounds)?.is_none() {
            if let Some(base) = base
                && store.encoded_object(base.hash, rounds)?.is_none()
            {
                // A base that is raw alone may be encoded against something itself one day: first it gets an object that stays.
                match store.encode_chunk(base, item_bytes, None, rounds) {
                    Ok(_) => {}
                    // Its checkpoint was deleted meanwhile, or is damaged: then it is no base.
                    Err(error) if is_damage(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            match store.encode_chunk(chunk, item_bytes, base, rounds) {
                Ok(Some(encoded)) => {
                    self.report.chunks += 1;
                    self.report.raw_bytes += chunk.bytes;
                    self.report.encoded_bytes += encoded.bytes;
                }
                Ok(None) => return Ok(()),
                // Damage is for `verify` and for who loads it; the other chunks can be encoded.
                Err(error) if is_damage(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for object in store.list_objects(chunk.hash)? {
            if object.encoding == ObjectEncoding::Raw && !rounds.condemns(&object) {
                self.redundant_bytes += chunk.bytes;
                self.redundant.push(Redundant {
                    chunk: chunk.clone(),
                    object,
                });
            }
        }
        Ok(())
    }

    fn readable(&self, name: CheckpointName) -> Result<Option<LoadedManifest>> {
        match self.engine.load_plan(name) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The part that the same (component, rank) wrote.
fn same_part<'m>(
    manifest: &'m LoadedManifest,
    part: &PartManifest,
) -> Option<&'m std::sync::Arc<PartManifest>> {
    manifest
        .parts
        .iter()
        .find(|other| (&other.component, other.rank) == (&part.component, part.rank))
}

/// Hashes that a checkpoint references.
fn hashes(manifest: &LoadedManifest) -> impl Iterator<Item = ChunkHash> {
    manifest
        .parts
        .iter()
        .flat_map(|part| part.chunks.iter().map(|chunk| chunk.hash))
}

type Hot = std::sync::Arc<HashSet<ChunkHash>>;

fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported
    )
}
