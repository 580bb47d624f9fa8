//! Jobs: what a command that knows nothing of runtree is given before it starts, and what is taken in of what it writes.
//!
//! ```text
//! wanted   what a user asks for: REFs, the latest of a project            → checkpoints
//! place    checkpoints as files, laid out as loaders of jobs expect them  → <root>/<job>/rank-0/<name>/…
//!  ├ shares    what each node has of one
//!  └ links     what makes simple loaders find it
//! watch    directories that a command writes checkpoints into             → those that are whole
//!  ├ disk      what the disk says of them
//!  ├ names     what a directory is called, and the step in it
//!  ├ whole     what its files say: torn, whole, or nothing
//!  └ snapshot  the files as they are now, whatever becomes of the directory
//! take     what is whole, into the run of a launch
//! describe what a checkpoint is to its users: an adapter of rank 16, a full model, shards
//! ```
//!
//! Processes are not started here: who does is an edge. It asks [`Watch`] what is whole, says how the command ended, and gives a launch to save into.
//! Why a directory is never taken torn is argued in docs/design/0016.

mod describe;
mod disk;
mod links;
mod names;
mod place;
mod shares;
mod snapshot;
mod take;
mod wanted;
mod watch;
mod whole;

pub use describe::{CheckpointType, Description};
pub use place::{Placed, Placing};
pub use take::{Taken, Taker, metrics_in_line};
pub use wanted::Wanted;
pub use watch::{Ending, Left, Looked, Ready, Watch, WatchOptions};
