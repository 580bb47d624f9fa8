//! What is missing where.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use runtree_core::manifest::{AttemptRecord, CheckpointName, Outcome, RunRecord};
use runtree_core::{Error, ErrorKind, Result, RunId};
use runtree_store::{Copying, Store};

use super::keep::deleted;
use super::{SyncCheckpoints, SyncPlan, SyncSelection};
use crate::export::glob_matches;

/// Finds out what a selection of `from` is not at `to`, and how many bytes that is; writes nothing.
///
/// # Errors
/// `NotFound` if a run is not there; `Denied` if the destination is open for reading only; as the stores say.
pub fn plan(from: &Store, to: &Store, selection: &SyncSelection) -> Result<SyncPlan> {
    let mut plan = missing(from, to, selection)?;
    let copying = Copying::begin(from, to)?;
    let mut counted = HashSet::new();
    for commit in &plan.checkpoints {
        for part in &commit.parts {
            for chunk in from
                .read_committed_part(commit.run, commit.key, part)?
                .chunks
            {
                if counted.insert(chunk.hash) {
                    let cost = copying.cost(&chunk)?;
                    plan.chunks += u64::from(cost > 0);
                    plan.bytes += cost;
                }
            }
        }
    }
    Ok(plan)
}

/// The runs of a store whose keys match a glob, `llm/sft-*`: a run's key is what `init(run_id=)` gave it.
///
/// # Errors
/// `NotFound` if there is none; else as the store says.
pub fn runs_with_keys(store: &Store, keys: &str) -> Result<BTreeSet<RunId>> {
    let mut found = BTreeSet::new();
    for run in store.list_runs()? {
        let key = store.try_read_run(run)?.and_then(|record| record.key);
        if key.is_some_and(|key| glob_matches(keys, key.as_str())) {
            found.insert(run);
        }
    }
    if found.is_empty() {
        return Err(Error::not_found(format!(
            "no run has a key like {keys:?} in {}",
            store.objects()
        ))
        .with_hint("a key is what init(run_id=) gave a run: runtree runs --json shows them"));
    }
    Ok(found)
}

/// [`plan`] without counting chunks.
pub(super) fn missing(from: &Store, to: &Store, selection: &SyncSelection) -> Result<SyncPlan> {
    let mut family = Family::default();
    let wanted: Vec<RunId> = match &selection.runs {
        Some(runs) => runs.iter().copied().collect(),
        None => from.list_runs()?,
    };
    let mut starts = BTreeSet::new();
    for &run in &wanted {
        if selection.alone {
            family.add_alone(from, run)?;
        } else {
            family.add(from, run, selection.runs.is_some(), &mut starts)?;
        }
    }
    let mut plan = SyncPlan {
        runs: family.order,
        projects: family.projects,
        concurrency: selection.concurrency,
        ..SyncPlan::default()
    };
    let chosen: HashSet<RunId> = wanted.into_iter().collect();
    for &run in &plan.runs {
        let gone_there = deleted(to, run)?;
        let gone_here = deleted(from, run)?;
        let there: BTreeSet<_> = to.list_commits(run)?.into_iter().collect();
        for key in from.list_commits(run)? {
            let name = CheckpointName { run, key };
            let is_wanted = starts.contains(&name)
                || chosen.contains(&run)
                    && match &selection.checkpoints {
                        SyncCheckpoints::All => true,
                        SyncCheckpoints::Only(names) => names.contains(&name),
                        SyncCheckpoints::None => false,
                    };
            if !is_wanted || gone_here.contains(&key) {
                continue;
            }
            if gone_there.contains(&key) && !selection.restore {
                plan.deleted_there += 1;
                continue;
            }
            if there.contains(&key) && !gone_there.contains(&key) {
                continue;
            }
            let Some(commit) = from
                .read_commit(run, key)?
                .filter(|commit| commit.outcome == Outcome::Committed)
            else {
                continue;
            };
            plan.checkpoints.push(commit);
        }
    }
    Ok(plan)
}

/// Runs with their ancestors, ancestors first.
#[derive(Default)]
struct Family {
    order: Vec<RunId>,
    known: HashSet<RunId>,
    projects: BTreeMap<RunId, runtree_core::ProjectName>,
}

impl Family {
    /// Adds a run without what it descends from.
    fn add_alone(&mut self, store: &Store, run: RunId) -> Result<()> {
        if self.known.insert(run) {
            self.projects.insert(run, store.read_run(run)?.project);
            self.order.push(run);
        }
        Ok(())
    }

    /// Adds a run after everything that it descends from. `starts` collects the checkpoints that it and they start from.
    fn add(
        &mut self,
        store: &Store,
        run: RunId,
        is_named: bool,
        starts: &mut BTreeSet<CheckpointName>,
    ) -> Result<()> {
        // A loop, not a recursion: a chain of forks may be thousands long.
        let mut open = vec![(run, false)];
        while let Some((run, parents_are_in)) = open.pop() {
            if self.known.contains(&run) {
                continue;
            }
            if parents_are_in {
                self.known.insert(run);
                self.order.push(run);
                continue;
            }
            let record = match store.read_run(run) {
                // A birth that was interrupted is nobody's run yet.
                Err(error) if error.kind() == ErrorKind::NotFound && !is_named => continue,
                record => record?,
            };
            let attempts = store
                .list_attempts(run)?
                .into_iter()
                .map(|attempt| store.read_attempt(run, attempt))
                .collect::<Result<Vec<_>>>()?;
            self.projects.insert(run, record.project.clone());
            open.push((run, true));
            for (ancestor, start) in ancestors(&record, &attempts) {
                starts.extend(start);
                if ancestor != run && !self.known.contains(&ancestor) {
                    open.push((ancestor, false));
                }
            }
        }
        Ok(())
    }
}

/// What a run descends from, and where it starts there.
fn ancestors(
    record: &RunRecord,
    attempts: &[AttemptRecord],
) -> Vec<(RunId, Option<CheckpointName>)> {
    let mut found = Vec::new();
    if let Some(fork) = &record.fork {
        found.push((fork.declared, None));
        found.push((fork.owner.run, None));
        found.extend(fork.checkpoint.map(|name| (name.run, Some(name))));
    }
    found.extend(record.base.map(|name| (name.run, Some(name))));
    for attempt in attempts {
        found.extend(attempt.base.map(|base| (base.run, None)));
        let other = attempt.checkpoint.filter(|name| name.run != record.run);
        found.extend(other.map(|name| (name.run, Some(name))));
    }
    found
}
