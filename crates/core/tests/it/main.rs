//! What crate `core` promises, through its public interface.
#![expect(
    clippy::unwrap_used,
    reason = "in helpers and properties too, a panic is how a test fails"
)]

mod filter;
mod float;
mod foreign;
mod foreign_files;
mod index;
mod lineage;
mod lineage_model;
mod manifest;
mod media;
mod record;
mod reference;
mod region;
mod retention;
mod retention_model;
mod state;
