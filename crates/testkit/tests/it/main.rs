//! The simulator on the real store, and the proof that it would notice.

mod gc_beside_writers;
