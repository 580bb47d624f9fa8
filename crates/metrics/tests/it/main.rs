//! What crate `metrics` promises, through its public interface.

mod batch;
mod block;
mod buckets;
mod points;
mod series;
mod size;
mod support;
