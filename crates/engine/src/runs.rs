//! Births: new runs, forks, and the next launch of a run that exists.
//!
//! What is written, in which order, so that a crash leaves nothing that the next start does not complete:
//!
//! ```text
//! key (conditional create: the winner's RunId is the run) → number → run record → attempts/1
//! ```
//!
//! A key without a record is a birth that did not finish: whoever comes next completes it, with its own parameters, by conditional
//! create. An attempt that somebody else created first is joined if it has the same launch key, else the next number is taken and
//! fences it. Nothing here writes a chunk.
//!
//! Decisions name objects that were read from the store for the decision; the index, folded up to that moment, tells steps and
//! configs.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtree_core::manifest::{AttemptKind, AttemptRecord, RunRecord};
use runtree_core::reference::Reference;
use runtree_core::retention::Policy;
use runtree_core::{Error, ErrorKind, ProjectName, Result, RunId, Step};
use serde_json::Value;

use crate::engine::Engine;
use crate::gc::Reliance;
use crate::live::{Bounds, Launch, RunWriter, Warning, WarningKind};
use crate::retain::RetentionScope;

mod birth;
pub(crate) mod config;
mod fork;
mod launch;
mod names;
mod reclaim;

use fork::ForkPlan;
pub(crate) use fork::require_row;
pub(crate) use launch::{floor_of, is_random};
pub(crate) use names::check_name;

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
    /// Given by a launcher to all its processes, each of which is one rank: torchrun's run id and restart count, a SLURM job's. A rank that
    /// comes again under it was launched again, whatever the launcher calls that: it belongs to the next attempt.
    Launcher(String),
    /// Given by somebody who says by it which processes belong together, of one program or of several. Whoever comes under it joins.
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
    /// What is kept of this run's checkpoints, from now on; none: what was said before, of the run, its project or the store.
    pub retention: Option<Policy>,
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
            retention: None,
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
    /// The project that the fork is born in; none: its parent's.
    pub into: Option<String>,
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
            into: None,
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
    ///
    /// # Errors
    /// `Conflict` if the key is taken and may not be resumed, or names a fork of another point; `NotFound` if what is forked or must be
    /// resumed is not there; `Invalid` if a step is out of range.
    pub fn start_run(self: &Arc<Self>, spec: RunSpec) -> Result<Arc<RunWriter>> {
        self.require_writable()?;
        if let Some(policy) = &spec.retention {
            policy.check()?;
        }
        let mut warnings = Vec::new();
        // First of all: what a process that is gone had staged may be what this one starts from.
        let recovered = self.take_recovered();
        warnings.extend(recovered.warnings());
        // A scan of the whole store, once, for what has to be looked up by name; keys are read from the store.
        if spec.fork != ForkChoice::None || spec.base.is_some() {
            self.refresh()?;
        }
        let record = self.find_or_create(&spec, &mut warnings)?;
        recovered.require_nothing_left(record.run)?;
        let writer = self.new_writer_id();
        let attempt = self.launch(&record, &spec, writer, &mut warnings)?;
        if let Some(policy) = &spec.retention
            && spec.rank == 0
        {
            self.set_retention(&RetentionScope::Run(record.run), Some(policy))?;
        }
        self.refresh_known(record.run)?;
        if let Err(damage) = self.check_damage(std::iter::once(record.run)) {
            warnings.push(Warning {
                kind: WarningKind::Damaged,
                message: format!(
                    "run {} goes on, but its charts can not be shown: {}",
                    record.display_id,
                    damage.message()
                ),
            });
        }
        let bounds = self.bounds(&record, &attempt, &spec)?;
        RunWriter::start(
            Arc::clone(self),
            Launch {
                record,
                attempt,
                writer,
                has_seat: matches!(spec.launch_key, LaunchKey::Launcher(_)),
                bounds,
                rank: spec.rank,
                world_size: spec.world_size,
                log_ranks: spec.log_ranks,
                process: spec.process,
                warnings,
            },
        )
    }

    /// Forks a run without a process: it waits, `created`, for its first launch. Reads and writes no chunk.
    ///
    /// # Errors
    /// As [`Engine::start_run`].
    pub fn fork(&self, spec: ForkSpec) -> Result<RunId> {
        self.fork_with_warnings(spec).map(|(run, _)| run)
    }

    /// [`Engine::fork`], with what the user should be told: another owner than the named parent, an older checkpoint.
    ///
    /// # Errors
    /// As [`Engine::fork`].
    pub fn fork_with_warnings(&self, spec: ForkSpec) -> Result<(RunId, Vec<Warning>)> {
        self.require_writable()?;
        self.refresh()?;
        let parents = self.project_of_fork(&spec.fork, spec.project.as_deref())?;
        let project = match &spec.into {
            Some(into) => into.parse()?,
            None => parents.clone(),
        };
        if let Some(key) = &spec.key
            && let Some(existing) = self.find_born(&project, key)?
        {
            // The same fork asked for again is the same run.
            self.check_same_fork(&existing, &spec.fork, Some(parents.as_str()))?;
            return Ok((existing.run, Vec::new()));
        }
        let reliance = Reliance::begin(&self.store)?;
        let plan = self
            .plan_fork(&spec.fork, spec.project.as_deref())?
            .ok_or_else(|| {
                Error::invalid("a fork needs a run to fork").with_hint("runtree fork RUN@STEP")
            })?;
        let wish = birth::Wish {
            project: &project,
            name: spec.name.as_deref(),
            key: spec.key.as_deref(),
            config: spec.config.as_ref(),
            tags: &spec.tags,
            notes: spec.notes.as_deref(),
            inherit_config: spec.inherit_config,
            inherit_tags: spec.inherit_tags,
            base: None,
            fork: Some(&plan),
        };
        let record = match self.give_birth(&wish)? {
            birth::Birth::Born(record) => {
                self.check_birth(&reliance, &record)?;
                record
            }
            birth::Birth::Existed(record) => {
                self.check_same_fork(&record, &spec.fork, Some(parents.as_str()))?;
                record
            }
        };
        self.first_attempt(&record, &self.random_launch_key(), &BTreeMap::new())?;
        self.refresh_known(record.run)?;
        Ok((record.run, plan.warnings()))
    }

    /// Sets the letters of a project's display ids, before its first run.
    ///
    /// # Errors
    /// `Invalid` if they do not fit; `Conflict` if the project has others.
    pub fn set_project_prefix(&self, project: &ProjectName, prefix: &str) -> Result<()> {
        self.require_writable()?;
        let winner = self.store.set_prefix(project, prefix)?;
        if winner == prefix {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "project {project} already has the prefix {winner}"
        )))
    }

    /// The run that a spec means, made if it is not there.
    fn find_or_create(&self, spec: &RunSpec, warnings: &mut Vec<Warning>) -> Result<RunRecord> {
        if let Some(run) = spec.run {
            return self.store.read_run(run);
        }
        if let Some(name) = &spec.name {
            check_name(name)?;
        }
        let existing = match &spec.key {
            Some(key) => self.find_born(&spec.project, key)?,
            None => None,
        };
        if let Some(record) = existing {
            return self.take_existing(record, spec);
        }
        if spec.resume == ResumePolicy::Must {
            return Err(match &spec.key {
                Some(key) => Error::not_found(format!(
                    "run key {key:?} is not in project {}, and resume=\"must\"",
                    spec.project
                ))
                .with_hint("pass resume=\"allow\" to start it where it does not exist"),
                None => Error::invalid(
                    "resume=\"must\" needs a run_id: without one nothing can be resumed",
                ),
            });
        }
        let reliance = Reliance::begin(&self.store)?;
        let plan = self.plan_fork(&spec.fork, Some(spec.project.as_str()))?;
        let base = match &spec.base {
            Some(reference) => Some(self.resolve_checkpoint_folded(
                reference,
                Some(spec.project.as_str()),
                crate::Purpose::Write,
            )?),
            None => None,
        };
        if let Some(base) = base {
            self.require_forkable(base)?;
        }
        let wish = birth::Wish {
            project: &spec.project,
            name: spec.name.as_deref(),
            key: spec.key.as_deref(),
            config: spec.config.as_ref(),
            tags: &spec.tags,
            notes: spec.notes.as_deref(),
            inherit_config: spec.inherit_config,
            inherit_tags: spec.inherit_tags,
            base,
            fork: plan.as_ref(),
        };
        match self.give_birth(&wish)? {
            birth::Birth::Born(record) => {
                self.check_birth(&reliance, &record)?;
                warnings.extend(plan.iter().flat_map(ForkPlan::warnings));
                Ok(record)
            }
            birth::Birth::Existed(record) => self.take_existing(record, spec),
        }
    }

    /// A run of that key that is born already, if there is one.
    fn find_born(&self, project: &ProjectName, key: &str) -> Result<Option<RunRecord>> {
        let Some(run) = self.store.find_key(project, key)? else {
            return Ok(None);
        };
        match self.store.read_run(run) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the caller may go on with a run that exists.
    fn take_existing(&self, record: RunRecord, spec: &RunSpec) -> Result<RunRecord> {
        let key = record.key.clone().unwrap_or_default();
        self.check_same_fork(&record, &spec.fork, Some(spec.project.as_str()))?;
        // A key with a fork names one child: the first call forks it, later ones go on with it.
        let refused = spec.resume == ResumePolicy::Never && spec.fork == ForkChoice::None;
        if refused && !self.is_same_launch(&record, spec)? {
            return Err(Error::conflict(format!(
                "run key {key:?} of project {} is taken by run {}",
                record.project, record.display_id
            ))
            .with_hint("pass resume=\"allow\" to continue it, or another run_id"));
        }
        Ok(record)
    }

    fn is_same_launch(&self, record: &RunRecord, spec: &RunSpec) -> Result<bool> {
        let (LaunchKey::Launcher(key) | LaunchKey::Named(key)) = &spec.launch_key else {
            return Ok(false);
        };
        // A sibling rank may just have claimed the key: no attempt yet is the same launch, too.
        let Some(newest) = self.newest_attempt(record.run)? else {
            return Ok(true);
        };
        let may_join = match spec.launch_key {
            LaunchKey::Launcher(_) => {
                let seat = self.store.find_seat(record.run, newest.attempt, spec.rank);
                seat?.is_none()
            }
            _ => true,
        };
        Ok(newest.launch_key == *key && may_join)
    }

    /// What a launch may log.
    fn bounds(
        &self,
        record: &RunRecord,
        attempt: &AttemptRecord,
        spec: &RunSpec,
    ) -> Result<Bounds> {
        let snapshot = self.snapshot()?;
        let own = snapshot
            .attempts(record.run)?
            .into_iter()
            .find(|row| row.record.attempt == attempt.attempt);
        // All ranks of a launch begin at the same step, however far the first of them has come; a process alone that comes back goes on.
        let is_alone = spec.world_size == 1 && !matches!(spec.launch_key, LaunchKey::Launcher(_));
        let last = own
            .as_ref()
            .filter(|_| is_alone)
            .and_then(|row| row.steps)
            .map(|(_, last)| last);
        let lowered = own.and_then(|row| row.lowered_start);
        let Some(base) = attempt.base else {
            return Ok(Bounds {
                first: Step::MIN,
                floor: None,
                start: Step(0),
                inherited_last: None,
                last,
            });
        };
        let first = lowered.map_or(base.step, |lowered| lowered.min(base.step));
        let moves = attempt.kind != AttemptKind::Fork && last.is_none();
        Ok(Bounds {
            first,
            floor: moves.then(|| floor_of(record)),
            start: lowered.unwrap_or(base.step.next()),
            inherited_last: Some(base.step),
            last,
        })
    }
}
