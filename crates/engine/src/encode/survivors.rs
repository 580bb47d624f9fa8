//! Which checkpoints are cold, and against which each is encoded.
//!
//! The checkpoints that a run saved itself are numbered 0, 1, 2, … in the order of saving, in segments of 64. Number i is a difference to i with its lowest set bit
//! cleared; 0 is full, or, in a fork, a difference to the checkpoint that it was forked at. So at most six differences lie between any checkpoint and a full one
//! (seven in a fork), three in the mean, and half of all checkpoints are nobody's base:
//!
//! ```text
//! 0 ◀── 1     0 ◀── 2 ◀── 3     0 ◀── 4 ◀── 5     4 ◀── 6 ◀── 7     0 ◀── 8 …
//! ```
//!
//! Numbers are not stored. If checkpoints are deleted, later ones move up: what is encoded keeps the base it has, and the store refuses chains that
//! are too long, so nothing depends on numbers staying.

use std::collections::HashSet;
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::{AttemptNumber, ErrorKind, Result, RunId};

use super::{Hot, hashes, is_damage};
use crate::engine::Engine;

/// Checkpoints of a run that stay raw: the ones it resumes from.
const NEWEST_RAW: usize = 2;
/// Checkpoints after which a full one is kept again.
pub(super) const SEGMENT: usize = 64;

/// A checkpoint to encode.
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    pub(crate) name: CheckpointName,
    /// Its base, if it has one.
    pub(crate) base: Option<CheckpointName>,
    /// Chunks that the newest checkpoints hold too: they stay raw.
    pub(crate) hot: Hot,
}

/// The cold checkpoints that a run saved, oldest first: whatever one is a difference to comes before it.
///
/// `known` are checkpoints that a call before this one found committed: a commit never changes, so it is not read again.
pub(crate) fn cold(
    engine: &Engine,
    run: RunId,
    known: &mut HashSet<CheckpointName>,
) -> Result<Vec<Cold>> {
    let own = engine.existing_checkpoints_beyond(&[run], known)?;
    known.extend(&own);
    let Some(count) = own.len().checked_sub(NEWEST_RAW).filter(|&n| n > 0) else {
        return Ok(Vec::new());
    };
    let mut hot = HashSet::new();
    for &name in &own[count..] {
        match engine.load_plan(name) {
            Ok(manifest) => hot.extend(hashes(&manifest)),
            Err(error) if is_damage(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let hot = Arc::new(hot);
    let before = forked_at(engine, run)?;
    Ok((0..count)
        .map(|number| Cold {
            name: own[number],
            base: match number {
                0 => before,
                _ => base_of(number).map(|base| own[base]),
            },
            hot: Arc::clone(&hot),
        })
        .collect())
}

/// The number that number `i` is a difference to; none if it is full.
fn base_of(i: usize) -> Option<usize> {
    let within = i % SEGMENT;
    (within > 0).then(|| i - within + (within & (within - 1)))
}

/// The checkpoint of another run that this one began with.
fn forked_at(engine: &Engine, run: RunId) -> Result<Option<CheckpointName>> {
    match engine.store().read_attempt(run, AttemptNumber::FIRST) {
        Ok(first) => Ok(first.checkpoint),
        // A run without its first launch is `verify`'s to tell of.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_short_and_half_of_all_are_nobodys_base() {
        let mut depth = [0; 200];
        let mut is_base = [false; 200];
        for number in 0..200 {
            if let Some(base) = base_of(number) {
                assert!(base < number && base / SEGMENT == number / SEGMENT);
                depth[number] = depth[base] + 1;
                is_base[base] = true;
            } else {
                assert!(number.is_multiple_of(SEGMENT));
            }
        }
        assert_eq!(depth.iter().max(), Some(&6));
        assert_eq!(depth[..64].iter().sum::<u32>(), 192, "three in the mean");
        assert!((0..199).all(|number| number % 2 == 0 || !is_base[number]));
        assert_eq!(base_of(7), Some(6));
        assert_eq!(base_of(64), None);
        assert_eq!(base_of(72), Some(64));
    }
}
