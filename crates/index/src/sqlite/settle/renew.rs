//! What launches inherit, renewed for those that were marked and all that is built on them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use runtree_core::{Result, Step};
use rusqlite::Connection;

use super::super::from_sqlite;
use super::super::keys::Keys;
use super::super::latest::{self, Launch};

/// The steps S for which the history of a launch up to S may have changed: `from <= S`, and `S < until` if there is such a bound.
#[derive(Clone, Copy)]
struct Changed {
    from: Step,
    until: Option<Step>,
}

impl Changed {
    fn holds(self, step: Step) -> bool {
        step >= self.from && self.until.is_none_or(|until| step < until)
    }
}

/// Renews what the marked launches and those built on them inherit, each once, bases first; collects their runs.
///
/// A launch that inherits the same as before does not end the walk: one built on it *below* its base step has the history of an
/// ancestor there, which may have changed under what this launch shows of it. So every launch passes on for which steps its
/// history may have changed, and only what is based at one of those is renewed.
pub(super) fn renew(
    connection: &Connection,
    keys: &mut Keys,
    marked: &HashMap<i64, Step>,
    runs: &mut BTreeSet<i64>,
) -> Result<()> {
    let mut queue: BinaryHeap<Reverse<(u32, i64)>> = depths(connection, marked)?
        .into_iter()
        .map(Reverse)
        .collect();
    // What the base of a queued launch passed on.
    let mut passed: HashMap<i64, Changed> = HashMap::new();
    let mut done = HashSet::new();
    while let Some(Reverse((depth, id))) = queue.pop() {
        if !done.insert(id) {
            continue;
        }
        let launch = Launch::load(connection, id)?;
        let above = passed.remove(&id);
        let own = marked.get(&id).copied();
        let limit = launch.last_inherited();
        let based_on_change = above
            .zip(limit)
            .is_some_and(|(above, limit)| above.holds(limit));
        let changed = (based_on_change || own == Some(Step::MIN))
            && latest::renew_inherited(connection, keys, &launch)?;
        if changed || own.is_some() {
            runs.insert(launch.run_id);
        }
        let here = Changed {
            from: [
                above.map(|above| above.from),
                limit.filter(|_| changed),
                own,
            ]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Step::MIN),
            until: if changed || own.is_some() {
                None
            } else {
                // Below its base step it is its base's history, from there on its own.
                [above.and_then(|above| above.until), limit]
                    .into_iter()
                    .flatten()
                    .min()
            },
        };
        if here.until.is_some_and(|until| until <= here.from) {
            continue;
        }
        let mut statement = connection
            .prepare_cached("SELECT id FROM attempt WHERE base = ?1")
            .map_err(from_sqlite)?;
        let built_on: Vec<i64> = statement
            .query_map([id], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(from_sqlite)?;
        for child in built_on {
            let limit = Launch::load(connection, child)?.last_inherited();
            if limit.is_some_and(|limit| limit >= here.from) {
                passed.insert(child, here);
                queue.push(Reverse((depth + 1, child)));
            }
        }
    }
    Ok(())
}

/// How far below the root each marked launch stands. One launch alone needs no order, and no walk.
fn depths(connection: &Connection, marked: &HashMap<i64, Step>) -> Result<Vec<(u32, i64)>> {
    let mut depths: HashMap<i64, u32> = HashMap::new();
    if marked.len() == 1 {
        return Ok(marked.keys().map(|&launch| (0, launch)).collect());
    }
    for &launch in marked.keys() {
        let mut path = Vec::new();
        let mut on_path = HashSet::new();
        let mut next = Some(launch);
        let mut depth = 0;
        while let Some(id) = next {
            if let Some(&known) = depths.get(&id) {
                depth = known + 1;
                break;
            }
            if !on_path.insert(id) {
                break;
            }
            path.push(id);
            next = Launch::load(connection, id)?.base.map(|(base, _)| base);
        }
        for id in path.into_iter().rev() {
            depths.insert(id, depth);
            depth += 1;
        }
    }
    Ok(marked
        .keys()
        .map(|launch| (depths.get(launch).copied().unwrap_or(0), *launch))
        .collect())
}
