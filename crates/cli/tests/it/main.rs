//! The built binary on real stores: exit codes, streams, text.

#![expect(clippy::unwrap_used, reason = "a test that can not go on panics")]

mod fixture;
mod help;
mod look;
mod streams;
mod write;
