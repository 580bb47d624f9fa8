//! The index: a SQL database, derived from a store, that answers queries.
//!
//! It is a cache. Whoever reads a store (the engine) hands what it read to [`Index::apply`] as [`FoldItem`]s; everything that
//! is asked goes through a [`Snapshot`], one consistent view. Delete the database and fold again: every answer is the same,
//! because no answer depends on how facts were batched or in which order those of different writers arrived (the suite in
//! `tests/it` holds that against a naive model). Nothing reads the index to decide what to write or delete.
//!
//! ```text
//! engine ── FoldItem ──▶ apply ──▶ facts (rows as they were read)
//!                                    │  settle: what follows from them per attempt and run, for what changed
//!                                    ▼
//! engine ◀── rows ────── Snapshot ◀─ runs, latest metrics, inherited values, blocks and tails
//! ```
//!
//! What does not belong here: reading stores, resolving REFs, drawing charts, decisions.

mod item;
mod query;
mod row;
mod sqlite;
mod r#trait;

pub use item::{
    FoldItem, Frame, FrameContent, FrameRange, JournalCursor, PartFacts, PinFacts, SealedPoints,
};
pub use query::{
    ConsoleFilter, ConsoleQuery, Deleted, Liveness, MediaQuery, MetricChoice, Order, RunLookup,
    RunQuery, RunSort, SeriesFilter, StepSpan,
};
pub use row::{
    AlertCount, AlertRow, AttemptRow, CheckpointRow, ConsoleRow, ConsoleSlice, Extremes, FileRow,
    KnownKeys, LostRow, MediaKeyRow, MediaRow, MetricPoint, MetricRow, NonFiniteRow, PartRow,
    RunRow, RunSlice, SeriesId, SeriesRow, SeriesStats, WriterRow,
};
pub use sqlite::SqliteIndex;
#[cfg(feature = "count-statements")]
pub use sqlite::statements;
pub use r#trait::{Index, Snapshot};
