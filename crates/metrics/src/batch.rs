//! What one flush logged: the payload of a journal's points frame.
//!
//! A row is one `log` call: some series, one step, one timestamp. Rows with the same series in the same order form a *group* and
//! share the columns of steps and timestamps; in practice a trainer has one or two groups. Names stand inside, so every batch
//! can be read on its own. Layout: `docs/formats/batch.md`.

mod builder;
mod decode;

pub use builder::{BatchBuilder, SeriesIndex, check_name};
pub use decode::PointsBatch;

/// Most points of a batch that is written; at 24 bytes each at worst it fits a journal frame (64 MiB).
pub const MAX_POINTS: usize = 2 << 20;
/// Most bytes of names in a batch that is written.
pub const MAX_NAMES_BYTES: usize = 8 << 20;
/// Most series of a batch that is written, those of every group counted.
pub const MAX_SERIES: usize = 1 << 18;
/// Longest name of a series, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

const MAGIC: [u8; 3] = *b"RTB";
const VERSION: u8 = 1;
/// The body went through zstd.
const BODY_ZSTD: u8 = 1;
const SERIES_SYSTEM: u64 = 1;
const SERIES_RANK: u64 = 2;

/// What a series is called inside its attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesName {
    /// The metric: `train/loss`.
    pub name: String,
    /// Whether runtree sampled it (`true`), or the user logged it.
    pub system: bool,
    /// Which rank logged it, if every rank keeps a series of its own.
    pub rank: Option<u32>,
}

impl SeriesName {
    /// A metric that the user logs on the main rank.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            system: false,
            rank: None,
        }
    }
}

/// How much a decoder accepts: a batch that claims more is `Corrupt` before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most points.
    pub max_points: usize,
    /// Most series, those of every group counted.
    pub max_series: usize,
    /// Most bytes of names.
    pub max_names_bytes: usize,
    /// Longest name, in bytes.
    pub max_name_bytes: usize,
}

impl Default for Limits {
    /// What [`BatchBuilder`] may write.
    fn default() -> Self {
        Self {
            max_points: MAX_POINTS,
            max_series: MAX_SERIES,
            max_names_bytes: MAX_NAMES_BYTES,
            max_name_bytes: MAX_NAME_BYTES,
        }
    }
}
