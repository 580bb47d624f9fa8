//! The simulator on the real store, and the proof that it would notice; the fuzz targets in their short form.

mod fuzz_targets;
mod gc_beside_writers;
mod gc_crowd;
mod gc_stops;
mod support;
