//! What a collection is asked for, and what it did.

use std::time::Duration;

use super::roots::TrashBound;

/// How long an object is nobody's garbage after it was put, if nobody says otherwise: a save may be under way that will need it.
const GRACE: Duration = Duration::from_secs(3600);

/// What a collection of the whole store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// Objects that were put a shorter time ago stay, by the store's own stamps. Not needed for safety: a writer whose chunks are taken away puts them again, if it still has them.
    pub grace: Duration,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
    /// How much of each run's trash stays.
    pub trash: TrashBound,
    /// Bytes of all trash together; a twentieth of the free disk if it is not said.
    pub trash_bytes: Option<u64>,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            grace: GRACE,
            dry_run: false,
            trash: TrashBound::default(),
            trash_bytes: None,
        }
    }
}

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GcProgress {
    /// Directories of chunks that were listed, of 256.
    Listed(u64),
    /// Objects that were deleted, of those that are to be.
    Deleted(u64, u64),
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct GcReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Chunk objects that were removed.
    pub removed_objects: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Chunk objects that are there and needed.
    pub kept_objects: u64,
    /// What keeps them.
    pub kept: Kept,
    /// Temporary files of killed writers that were removed.
    pub leftover_files: u64,
    /// Their bytes.
    pub leftover_bytes: u64,
    /// Leases that had lapsed and were removed.
    pub lapsed_leases: u64,
    /// Pieces of journals that were removed, because segments stand for all their frames.
    pub journal_pieces: u64,
    /// Their bytes.
    pub journal_bytes: u64,
    /// Rounds that were opened, and are closed again.
    pub rounds: u64,
    /// Whether another collector was at work, so that this one left everything to it.
    pub gave_way: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Why objects stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Checkpoints that are there.
    pub checkpoints: u64,
    /// Saves that are not decided yet.
    pub pending: u64,
    /// Deleted checkpoints that can be taken back.
    pub trash: u64,
    /// Deleted checkpoints that a fork, a base, a pin or a lease needs.
    pub protected: u64,
    /// Objects that nothing needs, put too short a time ago.
    pub young_objects: u64,
    /// Their bytes.
    pub young_bytes: u64,
}
