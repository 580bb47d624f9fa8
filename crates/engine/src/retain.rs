//! Retention: which checkpoints of a run go, planned with reasons and applied.
//!
//! `core::retention` decides; this module reads the facts for it ([`facts`]), says what the decision would free, and applies it: tombstones, then the trash is emptied as far
//! as it is over its bound ([`Engine::collect_trash`]). Policies are kept in the store ([`policy`]); a live run with one applies it after each of its commits, on a
//! thread of its own ([`worker`]).
//!
//! What is relied on is read from the store: commits, tombstones, pins, forks, bases. The index tells what steps, tags and metrics are, folded up to this moment. Where it can not,
//! because a journal is damaged, nothing is deleted.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::manifest::{CheckpointName, TombstoneRecord};
use runtree_core::retention::{self, MissingMetric, Plan, Policy, Reason};
use runtree_core::{CheckpointId, DisplayId, Error, Result, RunId};
use runtree_store::Tombstone;

use crate::engine::Engine;
use crate::gc::{GcReport, TrashBound};

mod facts;
mod policy;
mod to_wire;
mod worker;

pub use policy::{PolicyOrigin, RetentionScope};
pub(crate) use worker::{LIVE_TRASH, Retainer, Said};

use facts::Facts;

/// What to do where a policy ranks by a metric that no checkpoint has a value of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownMetric {
    /// Refuse: a person spelled it.
    Refuse,
    /// Keep everything, and say so: a run that trains may not have come to it yet.
    KeepAll,
}

/// What would become of the checkpoints that a run saved itself.
#[derive(Clone, Debug, PartialEq)]
pub struct PrunePlan {
    /// The run.
    pub run: RunId,
    /// As people call it.
    pub display_id: DisplayId,
    /// What was asked for.
    pub policy: Policy,
    /// A decision for every one, ascending by step.
    pub decisions: Vec<PruneDecision>,
    /// Why nothing goes, if the policy ranks by a metric that is not known.
    pub unranked: Option<String>,
    /// Bytes that would be free in this store if those that go were gone: what others share, or are encoded against, is not counted. None if nobody asked.
    pub freed_bytes: Option<u64>,
    /// Those of them that are free at once, if the trash is as it is without being told; the others when what is deleted last has left it.
    pub freed_at_once: Option<u64>,
}

/// What would become of one.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneDecision {
    /// Its name.
    pub name: CheckpointName,
    /// Its raw bytes.
    pub bytes: u64,
    /// Whether it stays.
    pub keep: bool,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
pub struct PruneReport {
    /// What is in the trash now that was not before, oldest first.
    pub deleted: Vec<CheckpointName>,
    /// What emptying the trash freed.
    pub trash: GcReport,
}

impl PruneDecision {
    /// Its id.
    pub fn id(&self) -> CheckpointId {
        CheckpointId::of(self.name.run, self.name.key)
    }
}

impl PrunePlan {
    /// Those that go.
    pub fn deleted(&self) -> impl Iterator<Item = CheckpointName> {
        let gone = self.decisions.iter().filter(|decision| !decision.keep);
        gone.map(|decision| decision.name)
    }
}

impl Engine {
    /// Decides about every checkpoint that a run saved itself, and changes nothing.
    ///
    /// # Errors
    /// `NotFound` if the run is not there, or by [`UnknownMetric::Refuse`] the metric is not: near names are in the hint. `Invalid` if the policy can not be meant. `Corrupt` if the run's
    /// history can not be read to its end: what is not known decides nothing.
    pub fn plan_prune(
        &self,
        run: RunId,
        policy: &Policy,
        unknown: UnknownMetric,
    ) -> Result<PrunePlan> {
        let mut plan = self.plan_prune_unsized(run, policy, unknown)?;
        let mut gone: Vec<CheckpointName> = plan.deleted().collect();
        // As they are deleted.
        gone.sort_unstable();
        plan.freed_bytes = Some(self.reclaimable(&gone)?);
        // The last that are deleted are in the trash, and keep their bytes.
        let at_once = gone
            .len()
            .saturating_sub(TrashBound::default().checkpoints as usize);
        plan.freed_at_once = Some(self.reclaimable(&gone[..at_once])?);
        Ok(plan)
    }

    /// The same, without asking what it would free, which is a question to the whole store.
    pub(crate) fn plan_prune_unsized(
        &self,
        run: RunId,
        policy: &Policy,
        unknown: UnknownMetric,
    ) -> Result<PrunePlan> {
        policy.check()?;
        let facts = Facts::read(self, run, policy, &BTreeMap::new())?;
        let (plan, unranked) = self.decide(&facts, policy, unknown)?;
        Ok(PrunePlan {
            run,
            display_id: facts.display_id.clone(),
            policy: policy.clone(),
            freed_bytes: None,
            freed_at_once: None,
            decisions: plan
                .decisions
                .into_iter()
                .map(|decision| PruneDecision {
                    bytes: facts.bytes_of(decision.name),
                    name: decision.name,
                    keep: decision.keep,
                    reasons: decision.reasons,
                })
                .collect(),
            unranked,
        })
    }

    /// Puts into the trash what a plan says, and empties the trash as far as it is over its bound.
    ///
    /// The facts are read again: what was pinned, tagged, forked or leased since stays, and so does everything that a plan of now would keep. The newest checkpoint, which
    /// everything else may go for, is read and verified first, unless it is `trusted`; one that is damaged counts for nothing, and the one before it is the newest.
    ///
    /// # Errors
    /// As [`Engine::plan_prune`] and as the store says. What is in the trash by then is there.
    pub fn apply_prune(
        &self,
        plan: &PrunePlan,
        trusted: Option<CheckpointName>,
        trash: TrashBound,
    ) -> Result<PruneReport> {
        self.require_writable()?;
        let deleted = self.bury_pruned(plan, trusted)?;
        let trash = self.collect_trash(plan.run, trash)?;
        Ok(PruneReport { deleted, trash })
    }

    /// Puts into the trash what a plan says.
    pub(crate) fn bury_pruned(
        &self,
        plan: &PrunePlan,
        trusted: Option<CheckpointName>,
    ) -> Result<Vec<CheckpointName>> {
        self.bury_planned(plan, trusted, &|decision| {
            let reason = decision.reasons.first().map(ToString::to_string);
            format!("prune: {}", reason.unwrap_or_default())
        })
    }

    /// The same, with another reason in the tombstones.
    pub(crate) fn bury_planned(
        &self,
        plan: &PrunePlan,
        trusted: Option<CheckpointName>,
        reason: &dyn Fn(&retention::Decision) -> String,
    ) -> Result<Vec<CheckpointName>> {
        let wanted: BTreeSet<CheckpointName> = plan.deleted().collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut damaged = BTreeMap::new();
        let now = loop {
            let facts = Facts::read(self, plan.run, &plan.policy, &damaged)?;
            let (now, _) = self.decide(&facts, &plan.policy, UnknownMetric::KeepAll)?;
            let Some(newest) = now.newest().filter(|newest| Some(*newest) != trusted) else {
                break now;
            };
            let problems = self.verify(Some(newest))?.problems;
            if problems.is_empty() {
                break now;
            }
            damaged.insert(newest, problems.join("; "));
        };
        let mut deleted = Vec::new();
        for decision in now.decisions.iter().filter(|decision| !decision.keep) {
            if !wanted.contains(&decision.name) {
                continue;
            }
            let record = TombstoneRecord {
                checkpoint: decision.name,
                reason: reason(decision),
                created: self.now(),
            };
            if self.store.write_tombstone(Tombstone::Deleted, &record)? {
                deleted.push(decision.name);
            }
        }
        self.refresh_known(plan.run)?;
        Ok(deleted)
    }

    fn decide(
        &self,
        facts: &Facts,
        policy: &Policy,
        unknown: UnknownMetric,
    ) -> Result<(Plan, Option<String>)> {
        match retention::plan(policy, &facts.candidates, facts.now) {
            Ok(plan) => Ok((plan, None)),
            Err(MissingMetric(rule)) => {
                let error = self.unknown_metric(facts, &rule.metric)?;
                match unknown {
                    UnknownMetric::Refuse => Err(error),
                    UnknownMetric::KeepAll => {
                        let hint = error.hint().map(|hint| format!(" ({hint})"));
                        let why = format!("{}{}", error.message(), hint.unwrap_or_default());
                        Ok((Plan::keep_all(&facts.candidates, &rule), Some(why)))
                    }
                }
            }
        }
    }

    fn unknown_metric(&self, facts: &Facts, metric: &str) -> Result<Error> {
        let error = Error::not_found(format!(
            "no checkpoint of {} has a finite value of {metric:?}, so none can be the best; nothing is deleted",
            facts.display_id
        ));
        let names = facts.metric_names(self)?;
        if names.iter().any(|name| name == metric) {
            return Ok(error.with_hint(
                "log it at the steps that are saved, or give it with save(metrics=...)",
            ));
        }
        let near = crate::queries::near_names(metric, &names);
        Ok(match near.as_slice() {
            [] if names.is_empty() => error.with_hint("the run has logged nothing yet"),
            [] => error.with_hint("no metric of the run is called so"),
            near => error.with_hint(format!("did you mean {}?", near.join(" or "))),
        })
    }
}
