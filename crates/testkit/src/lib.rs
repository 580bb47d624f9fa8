//! What tests of several crates share. Development only: nothing that ships depends on it.
//!
//! [`sim`] interleaves real writers and reclaimers of `runtree-store` with a collector, crashes them, and checks after every step that no committed
//! checkpoint lost a chunk. [`faulty`] is a store that stops answering in the middle of something.
//! [`place`] says where the stores of suites are: on disk or in a bucket.

pub mod faulty;
pub mod place;
pub mod sim;
