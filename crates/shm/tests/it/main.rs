//! Rooms of processes that live, that leave, and that are killed for real.

#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod rooms;
