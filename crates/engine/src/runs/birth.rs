//! Giving birth to a run: key → number → record, each a conditional create.

use runtree_core::manifest::{CheckpointName, RunRecord};
use runtree_core::{ProjectName, Result, RunId};
use runtree_store::Created;
use serde_json::Value;

use super::fork::ForkPlan;
use super::{config, names};
use crate::engine::Engine;
use crate::gc::Reliance;

/// What a new run should be.
pub(super) struct Wish<'a> {
    pub(super) project: &'a ProjectName,
    pub(super) name: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) config: Option<&'a Value>,
    pub(super) tags: &'a [String],
    pub(super) notes: Option<&'a str>,
    pub(super) inherit_config: bool,
    pub(super) inherit_tags: bool,
    pub(super) base: Option<CheckpointName>,
    pub(super) fork: Option<&'a ForkPlan>,
}

/// Who made the run.
pub(super) enum Birth {
    /// This call.
    Born(RunRecord),
    /// Somebody else of the same key, a moment before.
    Existed(RunRecord),
}

impl Engine {
    pub(super) fn give_birth(&self, wish: &Wish<'_>) -> Result<Birth> {
        let config = config_at_birth(wish)?;
        let fresh = self.new_run_id();
        let run: RunId = match wish.key {
            Some(key) => {
                names::check_key(key)?;
                self.store.claim_key(wish.project, key, fresh)?
            }
            None => fresh,
        };
        if run != fresh
            && let Some(record) = self.read_born(run)?
        {
            return Ok(Birth::Existed(record));
        }
        let display_id = self.store.take_number(wish.project, run)?;
        let name = match (wish.name, wish.fork) {
            (Some(name), _) => {
                names::check_name(name)?;
                name.to_owned()
            }
            (None, Some(plan)) => self.fork_name(wish.project, plan)?,
            (None, None) => names::generate(self.options.entropy.bits()),
        };
        let mut tags = Vec::new();
        let inherited = wish.fork.filter(|_| wish.inherit_tags);
        let inherited = inherited.map(|plan| plan.owner_tags.as_slice());
        for tag in inherited.unwrap_or_default().iter().chain(wish.tags) {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        let (config, inherited_config) = config;
        let record = RunRecord {
            run,
            project: wish.project.clone(),
            display_id,
            key: wish.key.map(str::to_owned),
            experiment: wish
                .fork
                .map_or_else(|| name.clone(), |plan| plan.experiment.clone()),
            name,
            created: self.now(),
            fork: wish.fork.map(|plan| plan.origin.clone()),
            base: wish.base,
            config,
            inherited_config,
            tags,
            notes: wish.notes.map(str::to_owned),
        };
        match self.store.create_run(&record)? {
            Created::Created | Created::ExistsEqual => Ok(Birth::Born(record)),
            // Two processes completed the birth of one key at once; the record that is there is the run.
            Created::ExistsOther(_) => self.store.read_run(run).map(Birth::Existed),
        }
    }

    /// Looks again whether the checkpoints that a new run starts from are there (W4); a run that has nothing to start from is deleted at once.
    pub(super) fn check_birth(&self, reliance: &Reliance, record: &RunRecord) -> Result<()> {
        let forked = record.fork.as_ref().and_then(|fork| fork.checkpoint);
        for name in forked.into_iter().chain(record.base) {
            if let Err(lost) = reliance.check(&self.store, name) {
                self.delete_run(record.run)?;
                return Err(lost);
            }
        }
        Ok(())
    }

    fn read_born(&self, run: RunId) -> Result<Option<RunRecord>> {
        match self.store.read_run(run) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The config a run is born with, and which of its keys were inherited.
fn config_at_birth(wish: &Wish<'_>) -> Result<(Value, Vec<String>)> {
    let own = match wish.config {
        Some(own) => config::require_object(own)?.clone(),
        None => Value::Object(serde_json::Map::new()),
    };
    let inherited = wish.fork.filter(|_| wish.inherit_config);
    Ok(match inherited {
        Some(plan) => {
            let merged = config::merge(&plan.owner_config, &own);
            let keys = config::inherited_keys(&plan.owner_config, &own);
            (merged, keys)
        }
        None => (own, Vec::new()),
    })
}
