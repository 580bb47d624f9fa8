//! The built binary on real stores: exit codes, streams, text.

mod fixture;
mod help;
mod look;
mod streams;
mod write;
