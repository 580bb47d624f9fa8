//! What is folded: facts as they stand in a store, read by the engine and handed over.
//!
//! Every item is idempotent. Items may come in any order and in any batching; only the frames of one journal must come in their
//! order, which [`FrameRange`] enforces with cursors.

use std::collections::BTreeMap;

use runtree_core::event::Event;
use runtree_core::manifest::{
    AttemptRecord, CheckpointName, CommitRecord, PartManifest, PinRecord, RunRecord,
    TombstoneRecord,
};
use runtree_core::{ComponentName, RunId, Timestamp, WriterId};
use runtree_metrics::{PointsBatch, SealedSeries};

/// A fact about the store.
#[derive(Clone, Debug)]
pub enum FoldItem {
    /// A run's birth record.
    RunBorn(Box<RunRecord>),
    /// A launch of a run.
    Attempt(Box<AttemptRecord>),
    /// A part of a checkpoint is there, confirmed or not.
    Part(Box<PartFacts>),
    /// The fate of a checkpoint was decided.
    Commit(CommitRecord),
    /// A tombstone: even numbers delete, odd ones restore, the highest decides.
    Tombstone {
        /// The checkpoint.
        checkpoint: CheckpointName,
        /// Its number.
        number: u32,
        /// What it says.
        record: TombstoneRecord,
    },
    /// A pin as it stands now, or its absence. The one fact that may change in a store, so the last call decides.
    Pin(PinFacts),
    /// Frames of a journal.
    Frames(FrameRange),
    /// Remembers an opaque value under a key in the same transaction, for [`crate::Index::stamp`].
    Stamp {
        /// The key.
        key: String,
        /// The value; empty forgets it.
        value: Vec<u8>,
    },
}

/// What the index keeps of a part manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct PartFacts {
    /// The checkpoint it belongs to.
    pub checkpoint: CheckpointName,
    /// Who wrote it.
    pub component: ComponentName,
    /// Which of them.
    pub rank: u32,
    /// The declared part set.
    pub declared: BTreeMap<ComponentName, u32>,
    /// The checkpoint's own name.
    pub name: Option<String>,
    /// When `save` was called.
    pub created: Timestamp,
    /// Metrics given with the save.
    pub metrics: BTreeMap<String, f64>,
    /// Raw bytes.
    pub bytes: u64,
    /// Tensors in it: of its state trees, and those that its files name.
    pub tensors: u64,
    /// Whether its writer looked again (the `.ok` object).
    pub confirmed: bool,
}

impl PartFacts {
    /// Takes what the index keeps from a manifest.
    pub fn of(manifest: &PartManifest, confirmed: bool) -> Self {
        let tensors = manifest
            .entries
            .iter()
            .map(|entry| entry.content.tensors().len() as u64)
            .sum();
        Self {
            checkpoint: CheckpointName {
                run: manifest.run,
                key: manifest.key,
            },
            component: manifest.component.clone(),
            rank: manifest.rank,
            declared: manifest.parts.clone(),
            name: manifest.name.clone(),
            created: manifest.created,
            metrics: manifest.metrics.clone(),
            bytes: manifest.bytes,
            tensors,
            confirmed,
        }
    }
}

/// A pin as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinFacts {
    /// Its name.
    pub name: String,
    /// What it says; none if it is gone.
    pub record: Option<PinRecord>,
}

/// How far a journal was folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCursor {
    /// Byte in the journal after the last folded frame.
    pub offset: u64,
    /// Ordinal of the next frame.
    pub ordinal: u64,
    /// Running hash before it.
    pub hash: u64,
}

/// Consecutive frames of one journal.
#[derive(Clone, Debug)]
pub struct FrameRange {
    /// The run.
    pub run: RunId,
    /// The journal's one writer.
    pub writer: WriterId,
    /// Where they start: applied only if the index stands exactly here.
    pub before: JournalCursor,
    /// Where they end: skipped if the index is here already.
    pub after: JournalCursor,
    /// The frames, in order. Those whose kind is not known are left out.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number in the journal.
    pub ordinal: u64,
    /// What it holds.
    pub content: FrameContent,
}

/// What a frame holds.
#[derive(Clone, Debug)]
pub enum FrameContent {
    /// A control event.
    Event(Event),
    /// Points that one flush logged.
    Points(PointsBatch),
    /// The points of this frame and of those before it, as a segment keeps them.
    Sealed(SealedPoints),
}

/// Points that were sealed: those of several frames of one journal, of each series and step only the one that arrived last.
#[derive(Clone, Debug, Default)]
pub struct SealedPoints {
    /// Series, in any order; one may come in several pieces.
    pub series: Vec<SealedSeries>,
    /// The largest timestamp of any point in the frames.
    pub newest: Option<Timestamp>,
}
