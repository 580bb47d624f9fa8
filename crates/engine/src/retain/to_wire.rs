//! Plans as the edges show them.

use runtree_core::{Result, wire};

use super::{PrunePlan, PruneReport};
use crate::engine::Engine;

impl Engine {
    /// A plan, and what became of it if it was applied, as the edges show it.
    ///
    /// # Errors
    /// `NotFound` if the run is gone.
    pub fn prune_info(
        &self,
        plan: &PrunePlan,
        applied: Option<&PruneReport>,
    ) -> Result<wire::PruneInfo> {
        let decision = |decision: &super::PruneDecision| wire::PruneDecisionInfo {
            id: decision.id().to_string(),
            attempt: decision.name.key.attempt,
            step: decision.name.key.step,
            k: decision.name.key.k,
            bytes: decision.bytes,
            keep: decision.keep,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        };
        let policy = serde_json::to_value(&plan.policy);
        Ok(wire::PruneInfo {
            run: self.run_label(plan.run)?,
            policy: policy.map_err(|error| {
                runtree_core::Error::internal("a policy is JSON").with_source(error)
            })?,
            decisions: plan.decisions.iter().map(decision).collect(),
            unranked: plan.unranked.clone(),
            freed_bytes: plan.freed_bytes,
            deleted: applied.map(|report| report.deleted.len() as u64),
            trash_freed_bytes: applied.map(|report| report.trash.freed_bytes),
        })
    }
}
