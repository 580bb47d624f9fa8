//! Sealed points: what a stretch of one journal says, as a Parquet file that anybody can read.
//!
//! A segment replaces the frames `[from, to)` of one writer's journal. Its rows are their points, sorted by (metric, step): of several points of one
//! series at one step only the last, which is the one that counts. The control events of these frames stand in the same file before the rows, where
//! Parquet readers pass over them. So whoever has the segment needs the frames no more, and folding either gives the same.
//!
//! Writing is deterministic: two processes that seal the same frames make the same bytes. [`Segment::open`] trusts nothing: what a header claims is
//! compared with limits before anything is allocated for it. That no bit was flipped is for the caller to check, by the hash in the object's name.
//! Layout: `docs/formats/segment.md`.

use runtree_core::{AttemptNumber, Error, RunId, Timestamp, WriterId};
use serde::{Deserialize, Serialize};

mod pages;
mod read;
mod rows;
mod schema;
mod write;

pub use read::{SealedSeries, Segment};
pub use write::SegmentBuilder;

/// Points after which a segment should be finished: what sealing and folding hold in memory at once is about 40 bytes each.
pub const TARGET_POINTS: usize = 2 << 20;
/// Most bytes of a segment that are read.
pub const MAX_BYTES: usize = 1 << 30;

/// Version of the format.
const VERSION: u32 = 1;
/// Key of the head in the footer's metadata.
const HEAD_KEY: &str = "runtree.segment";
/// A metric with as many rows has row groups of its own; smaller ones share one until it has as many.
const OWN_GROUP_ROWS: usize = 64 << 10;
/// Most rows of a row group.
const MAX_GROUP_ROWS: usize = 1 << 20;
/// Most row groups that are read: of the largest batches, each metric in groups of its own.
const MAX_GROUPS: usize = 4096;
/// Most bytes of the footer that are read.
const MAX_FOOTER_BYTES: usize = 16 << 20;
/// Most raw bytes of control events: as many as a journal frame holds, and what comes together before a segment is finished.
const MAX_EVENTS_BYTES: usize = 256 << 20;

/// What a segment covers, and what it holds beside its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHead {
    /// Version of the format.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Whose journal.
    pub writer: WriterId,
    /// The launch that the writer opened.
    pub attempt: AttemptNumber,
    /// First frame that is covered.
    pub from: u64,
    /// First frame that is not.
    pub to: u64,
    /// Running hash of the journal before frame `from`.
    #[serde(with = "hash")]
    pub hash_from: u64,
    /// Running hash of the journal before frame `to`.
    #[serde(with = "hash")]
    pub hash_to: u64,
    /// Rows.
    pub points: u64,
    /// The largest timestamp of any point in the frames, those that were written again included.
    pub newest: Option<Timestamp>,
    /// Where the control events stand.
    pub events: EventsPlace,
}

/// Where the control events of a segment stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsPlace {
    /// Byte in the file.
    pub offset: u64,
    /// Length of the zstd frame; 0 if there are none.
    pub bytes: u64,
    /// Length of what is in it.
    pub raw_bytes: u64,
    /// How many events.
    pub count: u64,
}

/// Running hashes as journals' records write them: 16 hexadecimal digits.
mod hash {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = digits
            .then(|| u64::from_str_radix(&text, 16).ok())
            .flatten();
        parsed.ok_or_else(|| serde::de::Error::custom("a running hash is 16 hexadecimal digits"))
    }
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("segment of sealed points: {why}"))
}

/// An error of the Parquet library about bytes that somebody else wrote.
fn unreadable(error: parquet::errors::ParquetError) -> Error {
    corrupt("it is not the Parquet file that it should be").with_source(error)
}
