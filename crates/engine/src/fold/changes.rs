//! Which runs changed since somebody looked: what live updates of pages ask. A change says "look again", so one too many does no harm.

use std::collections::{BTreeSet, VecDeque};

use runtree_core::RunId;

use super::lock;
use crate::engine::Engine;

/// How many changes are remembered for [`Engine::changes_since`].
const MAX_CHANGES: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Changes {
    counter: u64,
    log: VecDeque<(u64, RunId)>,
    /// Changes up to this one were forgotten.
    forgotten: u64,
}

impl Engine {
    /// Grows whenever a refresh found something new.
    pub fn change_counter(&self) -> u64 {
        lock(&self.fold.changes).counter
    }

    /// The counter now, and the runs that changed since it was `counter`; every run of the store if that is too long ago.
    pub fn changes_since(&self, counter: u64) -> (u64, Vec<RunId>) {
        let changes = lock(&self.fold.changes);
        let now = changes.counter;
        if counter < changes.forgotten {
            drop(changes);
            return (now, self.store.list_runs().unwrap_or_default());
        }
        let runs: BTreeSet<RunId> = changes
            .log
            .iter()
            .filter(|(at, _)| *at > counter)
            .map(|(_, run)| *run)
            .collect();
        (now, runs.into_iter().collect())
    }

    pub(crate) fn note_change(&self, run: RunId) {
        let mut changes = lock(&self.fold.changes);
        changes.counter += 1;
        let counter = changes.counter;
        changes.log.push_back((counter, run));
        if changes.log.len() > MAX_CHANGES
            && let Some((at, _)) = changes.log.pop_front()
        {
            changes.forgotten = at;
        }
    }
}
