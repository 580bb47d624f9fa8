//! The members of a family.

use std::collections::HashMap;

use runtree_core::{Result, RunId};

use super::keys::{run_blob, run_of};
use super::read::SqliteSnapshot;

/// Everything that shares a root, parents before children, then by birth.
pub(super) fn of(snapshot: &SqliteSnapshot<'_>, root: RunId) -> Result<Vec<RunId>> {
    let members = snapshot.rows(
        "SELECT run, owner FROM run WHERE root = ?1 AND +shown IS NOT NULL ORDER BY created, run",
        [run_blob(root)],
        |row| {
            let run: [u8; 16] = row.get(0)?;
            let owner: Option<[u8; 16]> = row.get(1)?;
            Ok((run_of(run), owner.map(run_of)))
        },
    )?;
    Ok(parents_first(&members))
}

/// Orders (run, owner) so that owners stand before what was forked from them, and else as given (by birth).
fn parents_first(members: &[(RunId, Option<RunId>)]) -> Vec<RunId> {
    let mut children: HashMap<RunId, Vec<RunId>> = HashMap::new();
    let known: std::collections::HashSet<RunId> = members.iter().map(|&(run, _)| run).collect();
    // Births before forks of them in all but damaged clocks: a heap by position keeps that order and repairs the rest.
    let position: HashMap<RunId, usize> = members
        .iter()
        .enumerate()
        .map(|(position, &(run, _))| (run, position))
        .collect();
    let mut ready = std::collections::BTreeSet::new();
    for &(run, owner) in members {
        match owner.filter(|owner| known.contains(owner) && *owner != run) {
            Some(owner) => children.entry(owner).or_default().push(run),
            None => {
                ready.insert(position[&run]);
            }
        }
    }
    let mut ordered = Vec::with_capacity(members.len());
    while let Some(next) = ready.pop_first() {
        let run = members[next].0;
        ordered.push(run);
        for child in children.remove(&run).unwrap_or_default() {
            ready.insert(position[&child]);
        }
    }
    ordered
}
