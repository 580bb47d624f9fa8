//! What crate `metrics` promises, through its public interface.
#![expect(
    clippy::unwrap_used,
    reason = "in helpers and properties too, a panic is how a test fails"
)]
#![expect(clippy::float_cmp, reason = "values are kept bit for bit")]

mod batch;
mod block;
mod buckets;
mod joined;
mod points;
mod segment;
mod series;
mod size;
mod support;
mod thin;
