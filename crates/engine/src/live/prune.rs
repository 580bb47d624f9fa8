//! Deleting a live run's older checkpoints, asked for in the training loop.

use runtree_core::Result;
use runtree_core::manifest::CheckpointName;
use runtree_core::retention::Policy;

use super::{RunWriter, WarningKind, lock};
use crate::retain::{PrunePlan, UnknownMetric};

impl RunWriter {
    /// What [`RunWriter::prune`] would do now.
    ///
    /// # Errors
    /// As [`crate::Engine::plan_prune`]; a metric that is not known yet is none: everything is kept.
    pub fn plan_prune(&self, policy: &Policy) -> Result<PrunePlan> {
        // What was logged so far is what ranks.
        self.flush()?;
        self.engine
            .plan_prune(self.run(), policy, UnknownMetric::KeepAll)
    }

    /// Puts into the trash what a policy does not keep of what is committed by now. The trash is emptied in the background, before the next save of the run is written.
    ///
    /// # Errors
    /// As [`RunWriter::plan_prune`] and as the store says; `Conflict` if the run continues elsewhere.
    pub fn prune(&self, policy: &Policy) -> Result<PrunePlan> {
        self.check_fence()?;
        let plan = self.plan_prune(policy)?;
        if let Some(why) = &plan.unranked {
            self.warn(WarningKind::Retention, why.clone());
        }
        let trusted = *lock(&self.committed);
        self.engine.bury_pruned(&plan, trusted)?;
        let retainer = self.engine.retainer();
        retainer.collect(&self.engine, self.run(), self.retention_report());
        Ok(plan)
    }

    /// Remembers what was committed, and lets what is older be deleted if this process is the one to do it.
    pub(crate) fn note_committed(&self, name: CheckpointName, made_commit: bool) {
        *lock(&self.committed) = Some(name);
        self.engine.retainer().expect(name.run);
        if let Some(shipper) = self.shipper.get() {
            shipper.add(name.key);
        }
        if made_commit {
            self.prune_older(name);
        }
    }
}
