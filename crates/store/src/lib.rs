//! Objects, chunks, journals and commits of a runtree store.
//!
//! A store is a directory or a prefix of a bucket that holds everything; what is written in which order, and why nothing is lost, is
//! `docs/design/0001`. The crate is synchronous: see [`Store`]. Bottom up:
//!
//! - [`layout`] builds and parses every path. [`LocalStore`] is a directory as an [`ObjectStore`]; [`wrappers`] count and retry around any.
//! - [`Store`] is the handle: typed records, listings, project numbers and keys.
//! - [`chunk`] holds content-addressed bytes, verified block by block; [`SaveSession`] writes them and publishes a part, following W1–W5 of
//!   the protocol; [`commit`] decides which checkpoints exist.
//! - [`journal`] is the append-only record of what a process did.
//!
//! Nothing read from a store is trusted: names are parsed strictly, lengths are capped, bytes are verified.

pub mod chunk;
pub mod commit;
mod error;
pub mod journal;
pub mod layout;
mod local;
mod numbers;
mod random;
pub mod remote;
mod rounds;
mod seats;
mod settings;
mod store;
mod wait;
mod word;
pub mod wrappers;

pub use chunk::{
    ChunkSum, ChunkVerdict, Copying, EncodedChunk, Estimate, FileList, ItemBytes, PutChunk,
    SaveSession, checksum,
};
pub use commit::{CommitProgress, ConfirmedPart, PublishedPart};
pub use journal::{Cursor, Frame, FrameKind, JournalReader, JournalWriter};
pub use layout::{ObjectEncoding, ObjectName, ObjectPath, PinName, SegmentName};
pub use local::{DirSync, DirectorySync, LocalError, LocalStore};
pub use object_store::{self, ObjectStore};
pub use random::system_random;
pub use rounds::{KEPT_ROUNDS, MAX_ROUND_OBJECTS, OpenRounds, Redundant, Removed, Rounds};
pub use settings::SettingsCache;
pub use store::{
    Created, ListedJournal, ListedPart, Mode, OutlinedChunk, Random, RunStamp, RunTrace, Store,
    Tombstone, Touches, parse_part_manifest,
};
