//! Who is refused because of damage, and who is not: a query names what it relies on, and damage of anything else does not stop it.
//!
//! Answers from what folds found ([`RunDamage`]); reads nothing of the store but the births of runs, to follow a fork to its owner.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::{Result, RunId, SaveKey};

use super::damage::{RunDamage, as_error};
use super::lock;
use crate::engine::Engine;

impl Engine {
    /// Refuses to show what can not be shown whole: points of a run with a damaged journal or launch.
    ///
    /// # Errors
    /// `Corrupt` that names what is damaged.
    pub(crate) fn check_damage(&self, runs: impl Iterator<Item = RunId>) -> Result<()> {
        self.refuse_damage(runs, |damage| {
            damage.lineage.iter().chain(&damage.journals).collect()
        })
    }

    /// Refuses to say what belongs to a run if its birth or launches, or those of a run that it was forked from, are damaged.
    ///
    /// # Errors
    /// `Corrupt` that names what is damaged.
    pub(crate) fn check_lineage(&self, run: RunId) -> Result<()> {
        let hurt: BTreeSet<RunId> = {
            let damaged = lock(&self.fold.damaged);
            let hurt = damaged.iter();
            let hurt = hurt.filter(|(_, damage)| !damage.lineage.is_empty());
            hurt.map(|(run, _)| *run).collect()
        };
        if hurt.is_empty() {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let mut next = Some(run);
        while let Some(run) = next.filter(|run| seen.insert(*run)) {
            self.refuse_damage(std::iter::once(run), |damage| {
                damage.lineage.iter().collect()
            })?;
            let record = self.store.try_read_run(run)?;
            let fork = record.and_then(|record| record.fork);
            next = fork.map(|fork| fork.owner.run);
        }
        Ok(())
    }

    fn refuse_damage(
        &self,
        runs: impl Iterator<Item = RunId>,
        relevant: impl Fn(&RunDamage) -> Vec<&String>,
    ) -> Result<()> {
        let damaged = lock(&self.fold.damaged);
        for run in runs {
            let Some(damage) = damaged.get(&run) else {
                continue;
            };
            let texts: Vec<&str> = relevant(damage).into_iter().map(String::as_str).collect();
            if !texts.is_empty() {
                return Err(as_error(&texts));
            }
        }
        Ok(())
    }

    /// Checkpoints of a run whose commit or parts can not be read, and why. Known as far as the run was folded.
    pub(crate) fn damaged_checkpoints(&self, run: RunId) -> BTreeMap<SaveKey, String> {
        lock(&self.fold.damaged)
            .get(&run)
            .map(|damage| damage.checkpoints.clone())
            .unwrap_or_default()
    }

    /// What is damaged so that it can not be folded, by run, in words.
    pub fn damaged_runs(&self) -> Vec<(RunId, String)> {
        let mut damaged: Vec<_> = lock(&self.fold.damaged)
            .iter()
            .map(|(run, damage)| (*run, damage.to_error().message().to_owned()))
            .collect();
        damaged.sort();
        damaged
    }
}
