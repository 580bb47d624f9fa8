//! Policies that are kept: of the store, of a project, of a run. The nearest one counts.
//!
//! They are settings of the store itself, not of a project: what is kept and deleted is a statement about one store, and does not travel to another.

use runtree_core::manifest::SettingRecord;
use runtree_core::retention::Policy;
use runtree_core::{Error, ProjectName, Result, RunId};
use runtree_store::layout::SettingScope;

use crate::engine::Engine;

/// Whose policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetentionScope {
    /// Of every run of the store.
    Store,
    /// Of every run of a project.
    Project(ProjectName),
    /// Of a run.
    Run(RunId),
}

/// A policy, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOrigin {
    /// It.
    pub policy: Policy,
    /// Whose it is.
    pub scope: RetentionScope,
}

impl RetentionScope {
    fn key(&self) -> String {
        match self {
            Self::Store => "retention".to_owned(),
            Self::Project(project) => format!("retention/project/{}", project.as_str()),
            Self::Run(run) => format!("retention/run/{run}"),
        }
    }
}

impl std::fmt::Display for RetentionScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store => f.write_str("the store"),
            Self::Project(project) => write!(f, "project {}", project.as_str()),
            Self::Run(run) => write!(f, "run {run}"),
        }
    }
}

impl Engine {
    /// The policy that counts for a run: its own, else its project's, else the store's.
    ///
    /// # Errors
    /// `NotFound` if the run is not there; `Corrupt` if a policy can not be read: then none is applied.
    pub fn retention(&self, run: RunId) -> Result<Option<PolicyOrigin>> {
        let project = self.store.read_run(run)?.project;
        let scopes = [
            RetentionScope::Run(run),
            RetentionScope::Project(project),
            RetentionScope::Store,
        ];
        for scope in scopes {
            if let Some(policy) = self.retention_of(&scope)? {
                return Ok(Some(PolicyOrigin { policy, scope }));
            }
        }
        Ok(None)
    }

    /// The policy of exactly this scope.
    ///
    /// # Errors
    /// `Corrupt` if it can not be read.
    pub fn retention_of(&self, scope: &RetentionScope) -> Result<Option<Policy>> {
        let settings = self.store.settings(&SettingScope::Store, &self.settings)?;
        let Some(value) = settings
            .get(&scope.key())
            .and_then(|record| record.value.clone())
        else {
            return Ok(None);
        };
        let policy = serde_json::from_value(value).map_err(|error| {
            Error::corrupt(format!(
                "the retention policy of {scope} is none that this runtree knows"
            ))
            .with_source(error)
            .with_hint("set it again: runtree retention")
        })?;
        Ok(Some(policy))
    }

    /// Sets a policy, or takes it away. Nothing is deleted by that: runs apply it after their next commit.
    ///
    /// # Errors
    /// `Invalid` if the policy can not be meant; `NotFound` if there is no such run or project; `Denied` if the store is open for reading only.
    pub fn set_retention(&self, scope: &RetentionScope, policy: Option<&Policy>) -> Result<()> {
        self.require_writable()?;
        if let Some(policy) = policy {
            policy.check()?;
        }
        match scope {
            RetentionScope::Run(run) => drop(self.store.read_run(*run)?),
            RetentionScope::Project(project) => {
                if !self.store.list_projects()?.contains(project) {
                    return Err(Error::not_found(format!(
                        "there is no project {:?}",
                        project.as_str()
                    )));
                }
            }
            RetentionScope::Store => {}
        }
        if self
            .retention_of(scope)
            .is_ok_and(|now| now.as_ref() == policy)
        {
            return Ok(());
        }
        let value = policy.map(serde_json::to_value).transpose();
        self.store.write_setting(
            &SettingScope::Store,
            &SettingRecord {
                key: scope.key(),
                value: value
                    .map_err(|error| Error::internal("a policy is JSON").with_source(error))?,
                created: self.now(),
            },
        )
    }
}
