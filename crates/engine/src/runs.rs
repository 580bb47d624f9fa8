//! Births: new runs, forks, and the next launch of a run that exists.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtree_core::reference::Reference;
use runtree_core::{Error, ProjectName, Result, RunId, Step};
use serde_json::Value;

use crate::engine::Engine;
use crate::live::RunWriter;

/// What to do if a run of the key exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResumePolicy {
    /// Refuse.
    #[default]
    Never,
    /// Resume it; start one if there is none.
    Allow,
    /// Resume it; refuse if there is none.
    Must,
}

/// What a new run is forked from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ForkChoice {
    /// Nothing: a root.
    #[default]
    None,
    /// Exactly this step, whether a checkpoint is there or not (seed 001's `fork_run_id`, `fork_step`).
    RunAndStep {
        /// The declared parent: RunId, display id, key, name, or a number in the project.
        run: String,
        /// Inclusive.
        step: Step,
    },
    /// A checkpoint: `run`, `run@500`, `run@<=500`, `run@last-good`.
    Reference(Reference),
}

/// What makes processes the same launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchKey {
    /// Equal in all processes of the launch: torchrun's run id and restart count, a SLURM job's.
    Named(String),
    /// One process alone.
    Random,
}

/// Which ranks log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogRanks {
    /// Rank 0.
    #[default]
    Main,
    /// All, each in a series of its own.
    All,
}

/// What `init` asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpec {
    /// The project.
    pub project: ProjectName,
    /// The run's name; generated if there is none.
    pub name: Option<String>,
    /// The caller's own key, unique in the project.
    pub key: Option<String>,
    /// What to do if the key is taken.
    pub resume: ResumePolicy,
    /// `latest`, or the selector of the checkpoint to resume from (`500`, `<=500`, `best:loss`, `last-good`).
    pub resume_from: String,
    /// What it is forked from.
    pub fork: ForkChoice,
    /// REF of a checkpoint of another run to start from without forking.
    pub base: Option<Reference>,
    /// Config: an object.
    pub config: Option<Value>,
    /// Tags.
    pub tags: Vec<String>,
    /// Notes.
    pub notes: Option<String>,
    /// Whether a fork takes its owner's config.
    pub inherit_config: bool,
    /// Whether a fork takes its owner's tags.
    pub inherit_tags: bool,
    /// What makes processes the same launch.
    pub launch_key: LaunchKey,
    /// The run a joining rank was told.
    pub run: Option<RunId>,
    /// This process's rank.
    pub rank: u32,
    /// How many ranks there are.
    pub world_size: u32,
    /// Which ranks log.
    pub log_ranks: LogRanks,
    /// Host, pid, command line, versions, commit; for people.
    pub process: BTreeMap<String, String>,
}

impl RunSpec {
    /// A run of its own in `project`, by one process.
    pub fn new(project: ProjectName) -> Self {
        Self {
            project,
            name: None,
            key: None,
            resume: ResumePolicy::Never,
            resume_from: "latest".to_owned(),
            fork: ForkChoice::None,
            base: None,
            config: None,
            tags: Vec::new(),
            notes: None,
            inherit_config: true,
            inherit_tags: false,
            launch_key: LaunchKey::Random,
            run: None,
            rank: 0,
            world_size: 1,
            log_ranks: LogRanks::Main,
            process: BTreeMap::new(),
        }
    }
}

/// What `fork` without a process asks for (command line, server, `Store.fork`).
#[derive(Clone, Debug, PartialEq)]
pub struct ForkSpec {
    /// What is forked; [`ForkChoice::None`] is refused.
    pub fork: ForkChoice,
    /// The project that bare names and numbers are looked up in.
    pub project: Option<String>,
    /// Name of the new run; `<parent>-f<k>` if there is none.
    pub name: Option<String>,
    /// The caller's own key, unique in the project.
    pub key: Option<String>,
    /// Config keys to change, deep-merged.
    pub config: Option<Value>,
    /// Tags.
    pub tags: Vec<String>,
    /// Notes.
    pub notes: Option<String>,
    /// Whether the owner's config is taken.
    pub inherit_config: bool,
    /// Whether the owner's tags are taken.
    pub inherit_tags: bool,
}

impl ForkSpec {
    /// A fork that changes nothing.
    pub fn new(fork: ForkChoice) -> Self {
        Self {
            fork,
            project: None,
            name: None,
            key: None,
            config: None,
            tags: Vec::new(),
            notes: None,
            inherit_config: true,
            inherit_tags: false,
        }
    }
}

impl Engine {
    /// `init`: creates, forks, joins or resumes, as the spec says, and starts this process's writer.
    pub fn start_run(self: &Arc<Self>, spec: RunSpec) -> Result<Arc<RunWriter>> {
        let _ = spec;
        Err(Error::internal("not built yet"))
    }

    /// Forks a run without a process: it waits, `created`, for its first launch. Reads and writes no chunk.
    pub fn fork(&self, spec: ForkSpec) -> Result<RunId> {
        let _ = spec;
        Err(Error::internal("not built yet"))
    }

    /// Sets the letters of a project's display ids, before its first run.
    pub fn set_project_prefix(&self, project: &ProjectName, prefix: &str) -> Result<()> {
        let _ = (project, prefix);
        Err(Error::internal("not built yet"))
    }
}
