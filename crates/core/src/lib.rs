//! The pure heart of runtree: what things are called, what is written, and what follows from it.
//!
//! No I/O, no async, no clock, no randomness: everything here is a value or a function of values, so that the promises of the
//! project rest on code that a property test can exhaust. `store` puts these records on disks, `index` folds them into tables,
//! `engine` composes; they all meet in the types of this crate.

pub mod clock;
pub mod console;
pub mod error;
pub mod event;
pub mod filter;
pub mod float;
pub mod foreign;
pub mod hash;
pub mod id;
pub mod lineage;
pub mod manifest;
pub mod media;
pub mod reference;
pub mod retention;
pub mod state;
pub mod wire;

pub use clock::{Clock, Timestamp, parse_duration};
pub use error::{Error, ErrorKind, Result};
pub use hash::{ChunkHash, PartHash};
pub use id::{
    AttemptNumber, CheckpointId, ComponentName, DisplayId, ProjectName, PutId, RunId, SaveKey,
    Step, StoreId, WriterId,
};
