//! What is fuzzed: one function for each parser of persisted bytes, of foreign files and of names. Each panics if a promise is broken.
//!
//! `cargo fuzz` runs them under libFuzzer (`make fuzz`); an ordinary test runs the same over the seeds beside this file and some seconds of damaged ones
//! (crates/testkit/tests/it/fuzz_targets.rs), which is what CI does.

mod chunk;
mod foreign;
mod journal;
mod names;
mod part;
mod points;
mod records;
mod segment;

pub use self::chunk::chunk;
pub use self::foreign::foreign;
pub use self::journal::journal;
pub use self::names::names;
pub use self::part::part;
pub use self::points::points;
pub use self::records::records;
pub use self::segment::segment;

/// Takes any bytes, and panics if a promise is broken.
pub type Target = fn(&[u8]);

/// Name → function.
pub const TARGETS: &[(&str, Target)] = &[
    ("chunk", chunk),
    ("foreign", foreign),
    ("journal", journal),
    ("names", names),
    ("part", part),
    ("points", points),
    ("records", records),
    ("segment", segment),
];
