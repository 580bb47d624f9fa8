//! Metric points, from what one flush logged to what a chart draws.
//!
//! ```text
//! log ─▶ batch (payload of a journal frame) ─▶ points by series ─▶ block + summaries (rows of the index)
//!        └──▶ segment (Parquet, what is sealed) ──▶ the same points        │
//!                     chart ◀─ buckets (M4) ◀─ series (stitched along a lineage::Timeline)
//! ```
//!
//! Pure: no I/O, clock or threads. Decoders trust nothing: lengths are capped before anything is allocated, every byte is
//! accounted for, and what is wrong is `Corrupt`. Values are kept bit for bit; NaN and ±Inf are data.

pub mod batch;
pub mod block;
pub mod buckets;
mod bytes;
mod column;
pub mod export;
pub mod joined;
pub mod point;
pub mod segment;
pub mod series;
pub mod summary;
mod thin;

pub use batch::{BatchBuilder, Limits, PointsBatch, SeriesIndex, SeriesName, check_name};
pub use block::Block;
pub use buckets::{Bucket, Buckets, Query};
pub use joined::{Joined, JoinedBucket, JoinedQuery, joined};
pub use point::{Point, Points};
pub use segment::{SealedSeries, Segment, SegmentBuilder, SegmentHead};
pub use series::{BlockSource, Stitched, StitchedPoints, StoredBlock, Times, relative_shifts};
pub use summary::{Summaries, Summary};
