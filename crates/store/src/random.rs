//! The operating system's randomness.

use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// 64 bits straight from the operating system.
///
/// Never from a generator that this process keeps: a forked child would go on with a copy of its state, and two processes would draw the same
/// writer ids, put ids and launch keys.
///
/// # Panics
/// If the operating system has no randomness: no id would be safe then.
pub fn system_random() -> u64 {
    OsRng
        .try_next_u64()
        .expect("BUG: the operating system gives no randomness")
}
