//! Memory with a name: what a process leaves in RAM for the next one, should it die.
//!
//! A [`Room`] is a directory of a file system in memory (`/dev/shm`) that belongs to one living process: its memory ([`SharedMemory`], mapped files) and notes
//! that say what the memory holds. As long as the process lives it holds a lock; the kernel takes that away with the process, however it ends. [`sweep`] finds
//! the rooms of processes that are gone: [`Abandoned`]. What this survives is the death of a process, not that of the kernel.
//!
//! ```text
//! /dev/shm/runtree-<uid>/<shelf>/        0700, owned by the user, or it is not used; a shelf holds what belongs together (a store)
//!            turn                        locked by whoever sweeps the shelf
//!            <pid>-<n>/owner             locked by the process that lives in the room
//!                      m<i>              memory
//!                      <note>            a line that names memory, then what its writer wants to say; replaced by renaming, so always whole
//! ```
//!
//! A room appears under its name with its lock: it is made under another name (`.new-…`) and renamed, so nobody waits for anybody to make one.
//!
//! Locks are those of `fcntl`: a child that was forked does not inherit them, so a worker that outlives its parent does not keep the room alive. They belong to the
//! process and not to the file handle, so what is locked here is opened nowhere else: a process never looks into a room of its own ([`Room::create`] registers it).
//!
//! Memory is reserved before it is mapped: a file system without space is an error here and not a signal later. Half of it is left to others
//! (data loaders pass their batches through it).

mod abandoned;
mod home;
mod room;
mod turn;

pub use abandoned::{Abandoned, AbandonedMemory, Sweep, sweep, tidy};
pub use room::{Room, SharedMemory, leave_all};
