//! What tests of several crates share. Development only: nothing that ships depends on it.
//!
//! [`sim`] interleaves real writers and reclaimers of `runtree-store` with a collector, crashes them, and checks after every step that no committed
//! checkpoint lost a chunk. [`faulty`] is a store that stops answering in the middle of something.

pub mod faulty;
pub mod sim;
