//! The trash: which deleted checkpoints still keep their bytes. A rule without a clock of its own: of the same tombstones it says the same everywhere.

use std::collections::HashMap;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Result, RunId, Timestamp};

/// A checkpoint that was deleted and that nothing protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buried {
    /// Which.
    pub name: CheckpointName,
    /// When the store stamped its tombstone.
    pub since: Timestamp,
}

/// Of deleted checkpoints those that still keep their bytes, the newest tombstone first: of each run as many as `count` says, and in all no more than `limit` bytes, of which
/// the oldest tombstones go first.
///
/// `bytes` is asked for what a checkpoint alone keeps beside those it was asked for before, in this order; if they are more than `limit` together, that one and all older
/// ones are out. What is protected is never in the trash, and is not to be among `buried`.
///
/// # Errors
/// What `bytes` says.
pub fn in_trash(
    mut buried: Vec<Buried>,
    count: impl Fn(RunId) -> u32,
    limit: Option<u64>,
    mut bytes: impl FnMut(CheckpointName) -> Result<u64>,
) -> Result<Vec<CheckpointName>> {
    buried.sort_unstable_by_key(|buried| std::cmp::Reverse((buried.since, buried.name)));
    let mut of_run: HashMap<RunId, u32> = HashMap::new();
    let mut kept = Vec::new();
    let mut all = 0_u64;
    for Buried { name, .. } in buried {
        let so_far = of_run.entry(name.run).or_default();
        if *so_far >= count(name.run) {
            continue;
        }
        *so_far += 1;
        if let Some(limit) = limit {
            all = all.saturating_add(bytes(name)?);
            if all > limit {
                break;
            }
        }
        kept.push(name);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtree_core::{AttemptNumber, SaveKey, Step};

    fn buried(run: u64, step: i64, since: i64) -> Buried {
        Buried {
            name: CheckpointName {
                run: RunId::from_parts(run, 0),
                key: SaveKey {
                    attempt: AttemptNumber::FIRST,
                    step: Step(step),
                    k: 0,
                },
            },
            since: Timestamp(since),
        }
    }

    fn steps(kept: &[CheckpointName]) -> Vec<i64> {
        kept.iter().map(|name| name.key.step.0).collect()
    }

    #[test]
    fn the_newest_tombstones_of_each_run_count_not_the_newest_steps() {
        let all = vec![
            buried(1, 100, 5),
            buried(1, 200, 3),
            buried(1, 300, 4),
            buried(2, 10, 1),
        ];
        let kept = in_trash(all, |_| 2, None, |_| unreachable!("no limit")).unwrap();
        assert_eq!(steps(&kept), [100, 300, 10]);
    }

    #[test]
    fn a_bound_of_none_keeps_nothing_and_each_run_has_its_own() {
        let all = vec![buried(1, 1, 1), buried(1, 2, 2), buried(2, 3, 3)];
        let count = |run| u32::from(run == RunId::from_parts(2, 0));
        assert_eq!(steps(&in_trash(all, count, None, |_| Ok(0)).unwrap()), [3]);
    }

    #[test]
    fn where_space_is_short_the_oldest_tombstones_go_first() {
        let all = vec![buried(1, 1, 1), buried(2, 2, 2), buried(3, 3, 3)];
        let bytes = |name: CheckpointName| Ok(if name.key.step == Step(1) { 1 } else { 40 });
        let kept = in_trash(all.clone(), |_| 2, Some(100), bytes).unwrap();
        assert_eq!(steps(&kept), [3, 2, 1]);
        // The oldest is small, and out all the same: what was deleted later stays longer, whatever it takes.
        let kept = in_trash(all, |_| 2, Some(60), bytes).unwrap();
        assert_eq!(steps(&kept), [3]);
    }

    #[test]
    fn equal_stamps_are_decided_by_name() {
        let all = vec![buried(1, 1, 7), buried(1, 2, 7), buried(1, 3, 7)];
        let mut turned = all.clone();
        turned.reverse();
        let keep = |all| steps(&in_trash(all, |_| 2, None, |_| Ok(0)).unwrap());
        assert_eq!(keep(all), [3, 2]);
        assert_eq!(keep(turned), [3, 2]);
    }
}
