//! The remote's own retention: whoever commits there applies it, as who commits in any store does.

use std::sync::Arc;

use runtree_core::Result;
use runtree_core::manifest::CheckpointName;
use runtree_store::Store;
use runtree_store::layout::SettingScope;

use super::RemoteSpec;
use crate::engine::{Engine, EngineOptions, OpenMode};
use crate::retain::{LIVE_TRASH, UnknownMetric};

/// The remote as an engine, once there is a policy to apply: it needs an index of what is there.
#[derive(Debug, Default)]
pub(super) struct Pruner(Option<Arc<Engine>>);

impl Pruner {
    /// Applies the policy that counts for a run at the remote. `newest` was read and verified as it was sent.
    pub(super) fn prune(
        &mut self,
        here: &Engine,
        there: &Store,
        spec: &RemoteSpec,
        newest: CheckpointName,
    ) -> Result<()> {
        if self.0.is_none() && there.list_settings(&SettingScope::Store)?.is_empty() {
            return Ok(());
        }
        let engine = if let Some(engine) = &self.0 {
            engine
        } else {
            let options = EngineOptions {
                location: spec.location.clone(),
                settings: spec.settings.clone(),
                mode: OpenMode::ReadWrite,
                ..here.options.clone()
            };
            self.0.insert(Engine::over(there.clone(), options)?)
        };
        engine.refresh_now()?;
        let Some(origin) = engine.retention(newest.run)? else {
            return Ok(());
        };
        let plan = engine.plan_prune_unsized(newest.run, &origin.policy, UnknownMetric::KeepAll)?;
        engine.apply_prune(&plan, Some(newest), LIVE_TRASH)?;
        Ok(())
    }
}
