//! From what a user wants to fork to what is written: declared parent, owner, step, checkpoint.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use runtree_core::event::RunStatus;
use runtree_core::lineage::{self, AttemptId, Timeline};
use runtree_core::manifest::{BasePoint, CheckpointName, ForkOrigin, Outcome, RunRecord};
use runtree_core::reference::Selector;
use runtree_core::{DisplayId, Error, ErrorKind, ProjectName, Result, RunId, Step};
use runtree_index::{MetricChoice, RunRow, Snapshot};
use serde_json::Value;

use super::ForkChoice;
use crate::engine::Engine;
use crate::live::{FLUSH_INTERVAL, Warning, WarningKind};
use crate::queries::effective_checkpoints;
use crate::resolve::Purpose;

/// What a live parent is given beyond its flush interval before a step out of range is refused.
const LIVE_MARGIN: Duration = Duration::from_millis(250);

/// A fork that was resolved and may be written.
pub(super) struct ForkPlan {
    pub(super) origin: ForkOrigin,
    pub(super) experiment: String,
    pub(super) declared_name: String,
    declared_id: DisplayId,
    owner_id: DisplayId,
    pub(super) owner_config: Value,
    pub(super) owner_tags: Vec<String>,
}

impl ForkPlan {
    /// What the user should be told.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let owner = &self.origin.owner;
        let mut warnings = Vec::new();
        if owner.run != self.origin.declared {
            warnings.push(Warning {
                kind: WarningKind::Owner,
                message: format!(
                    "step {} of run {} is run {}'s own history: forked from {}",
                    owner.step, self.declared_id, self.owner_id, self.owner_id
                ),
            });
        }
        match self.origin.checkpoint {
            Some(checkpoint) if checkpoint.key.step < owner.step => warnings.push(Warning {
                kind: WarningKind::ForkGap,
                message: format!(
                    "run {} has no checkpoint at step {}; the nearest before it is at {}",
                    self.owner_id, owner.step, checkpoint.key.step
                ),
            }),
            None => warnings.push(Warning {
                kind: WarningKind::ForkGap,
                message: format!(
                    "run {} has no checkpoint at or before step {}: there is nothing to load",
                    self.owner_id, owner.step
                ),
            }),
            Some(_) => {}
        }
        warnings
    }
}

/// Steps that may be forked: what the run effectively logged, plus one, and where it has checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ForkRange {
    first: Step,
    last: Step,
}

impl Engine {
    /// Resolves what is to be forked, among what is folded; `None` if nothing is.
    pub(super) fn plan_fork(
        &self,
        choice: &ForkChoice,
        project: Option<&str>,
    ) -> Result<Option<ForkPlan>> {
        match choice {
            ForkChoice::None => Ok(None),
            ForkChoice::RunAndStep { run, step } => {
                let declared = self.resolve_run_folded(run, project, Purpose::Write)?;
                // A scan may have been throttled; what the parent logged a moment ago counts.
                self.refresh_known(declared)?;
                self.check_fork_range(declared, *step)?;
                let snapshot = self.snapshot()?;
                let leaf = newest_attempt_of(&*snapshot, declared)?;
                let owner = lineage::resolve_owner(&snapshot, leaf, *step)?;
                let timeline = Timeline::up_to(&snapshot, owner, *step)?;
                let quarantine = self.quarantine(&*snapshot, declared, &timeline)?;
                let nearest = quarantine
                    .effective_or_damaged(&*snapshot, &timeline)?
                    .into_iter()
                    .rfind(|row| row.name.key.step <= *step);
                if let Some(row) = &nearest {
                    quarantine.refuse_unreadable(row.name)?;
                }
                let owner = BasePoint {
                    run: owner.run,
                    attempt: owner.attempt,
                    step: *step,
                };
                self.finish_plan(&*snapshot, declared, owner, nearest.map(|row| row.name))
                    .map(Some)
            }
            ForkChoice::Reference(reference) => {
                let declared = self.run_of(reference, project, Purpose::Write)?;
                let name = self.resolve_checkpoint_folded(reference, project, Purpose::Write)?;
                self.require_forkable(name)?;
                let snapshot = self.snapshot()?;
                // The checkpoint's own launch owns the step: its state is what the fork starts from.
                let owner = BasePoint {
                    run: name.run,
                    attempt: name.key.attempt,
                    step: name.key.step,
                };
                self.finish_plan(&*snapshot, declared, owner, Some(name))
                    .map(Some)
            }
        }
    }

    fn finish_plan(
        &self,
        snapshot: &dyn Snapshot,
        declared: RunId,
        owner: BasePoint,
        checkpoint: Option<CheckpointName>,
    ) -> Result<ForkPlan> {
        // What is written names objects that are in the store now.
        self.store.read_attempt(owner.run, owner.attempt)?;
        if let Some(checkpoint) = checkpoint {
            self.require_forkable(checkpoint)?;
        }
        let declared_row = require_row(self, snapshot, declared)?;
        let owner_row = require_row(self, snapshot, owner.run)?;
        Ok(ForkPlan {
            experiment: declared_row.record.experiment,
            declared_name: declared_row.name,
            declared_id: declared_row.record.display_id,
            owner_id: owner_row.record.display_id,
            owner_config: owner_row.config,
            owner_tags: owner_row.tags,
            origin: ForkOrigin {
                declared,
                owner,
                checkpoint,
            },
        })
    }

    /// The project that a fork is born in: its parent's.
    pub(super) fn project_of_fork(
        &self,
        choice: &ForkChoice,
        project: Option<&str>,
    ) -> Result<ProjectName> {
        let declared = self.declared_parent(choice, project)?;
        Ok(self.store.read_run(declared)?.project)
    }

    fn declared_parent(&self, choice: &ForkChoice, project: Option<&str>) -> Result<RunId> {
        match choice {
            ForkChoice::None => {
                Err(Error::invalid("a fork needs a run to fork").with_hint("runtree fork RUN@STEP"))
            }
            ForkChoice::RunAndStep { run, .. } => {
                self.resolve_run_folded(run, project, Purpose::Write)
            }
            ForkChoice::Reference(reference) => self.run_of(reference, project, Purpose::Write),
        }
    }

    /// Refuses a key whose run was forked from another point. A selector that moves (`latest`, `last-good`) is not resolved again:
    /// the run that was forked decides.
    pub(super) fn check_same_fork(
        &self,
        existing: &RunRecord,
        choice: &ForkChoice,
        project: Option<&str>,
    ) -> Result<()> {
        if *choice == ForkChoice::None {
            return Ok(());
        }
        let declared = self.declared_parent(choice, project)?;
        let step = match choice {
            ForkChoice::RunAndStep { step, .. } => Some(*step),
            ForkChoice::Reference(reference) => match &reference.selector {
                Some(Selector::Step(step)) => Some(*step),
                Some(Selector::Id(_) | Selector::Name(_)) => {
                    let name = self.resolve_checkpoint_folded(reference, project, Purpose::Read)?;
                    Some(name.key.step)
                }
                _ => None,
            },
            ForkChoice::None => None,
        };
        let parent = |run: RunId| {
            existing
                .fork
                .as_ref()
                .is_some_and(|fork| fork.declared == run || fork.owner.run == run)
        };
        let same_step = step.is_none_or(|step| {
            existing
                .fork
                .as_ref()
                .is_some_and(|fork| fork.owner.step == step)
        });
        if same_step && (parent(declared) || self.owns(existing, declared, step)?) {
            return Ok(());
        }
        let name = |run: RunId| {
            self.store
                .read_run(run)
                .map_or_else(|_| run.to_string(), |record| record.display_id.to_string())
        };
        let was = existing.fork.as_ref().map_or_else(
            || "was not forked".to_owned(),
            |fork| {
                format!(
                    "was forked from {}@{}",
                    name(fork.owner.run),
                    fork.owner.step
                )
            },
        );
        let wanted = step.map_or_else(
            || name(declared),
            |step| format!("{}@{step}", name(declared)),
        );
        Err(Error::conflict(format!(
            "run key {:?} is taken by run {}, which {was}, not from {wanted}",
            existing.key.as_deref().unwrap_or_default(),
            existing.display_id
        ))
        .with_hint("pass another run_id for another fork"))
    }

    /// Whether the step of `declared` is the history of the run that `existing` was forked from.
    fn owns(&self, existing: &RunRecord, declared: RunId, step: Option<Step>) -> Result<bool> {
        let (Some(step), Some(fork)) = (step, &existing.fork) else {
            return Ok(false);
        };
        let snapshot = self.snapshot()?;
        let leaf = newest_attempt_of(&*snapshot, declared)?;
        Ok(lineage::resolve_owner(&snapshot, leaf, step)?.run == fork.owner.run)
    }

    /// A checkpoint that exists and is not in the trash, by what the store says now.
    pub(crate) fn require_forkable(&self, name: CheckpointName) -> Result<()> {
        let commit = self.store.read_commit(name.run, name.key)?;
        if commit.is_none_or(|commit| commit.outcome != Outcome::Committed) {
            return Err(Error::not_found(format!(
                "checkpoint {} of run {} is not complete",
                name.key, name.run
            )));
        }
        let tombstones = self.store.list_tombstones(name.run)?;
        let deleted = tombstones
            .iter()
            .any(|&(key, number)| key == name.key && runtree_store::layout::is_deleted(number));
        if deleted {
            let record = self.store.read_run(name.run)?;
            return Err(Error::conflict(format!(
                "checkpoint {}@{} is in the trash",
                record.display_id, name.key.step
            ))
            .with_hint(format!(
                "undelete it first: runtree undelete {}@{}",
                record.display_id,
                runtree_core::CheckpointId::of(name.run, name.key)
            )));
        }
        Ok(())
    }

    /// Refuses a step that the run does not have; a parent that is alive is given one flush interval to deliver it.
    fn check_fork_range(&self, run: RunId, step: Step) -> Result<()> {
        let range = self.fork_range(run)?;
        if range.is_some_and(|range| range.first <= step && step <= range.last) {
            return Ok(());
        }
        let row = {
            let snapshot = self.snapshot()?;
            require_row(self, &*snapshot, run)?
        };
        let may_come = range.is_none_or(|range| step > range.last);
        if row.status == RunStatus::Running && may_come {
            wait_for(FLUSH_INTERVAL + LIVE_MARGIN);
            self.refresh_known(run)?;
            let range = self.fork_range(run)?;
            if range.is_some_and(|range| range.first <= step && step <= range.last) {
                return Ok(());
            }
            return Err(out_of_range(&row, step, range));
        }
        Err(out_of_range(&row, step, range))
    }

    fn fork_range(&self, run: RunId) -> Result<Option<ForkRange>> {
        let snapshot = self.snapshot()?;
        let leaf = newest_attempt_of(&*snapshot, run)?;
        let timeline = Timeline::of(&snapshot, leaf)?;
        let logged = effective_steps(&*snapshot, &timeline)?;
        let saved = effective_checkpoints(&*snapshot, &timeline)?;
        let saved = saved
            .first()
            .zip(saved.last())
            .map(|(first, last)| (first.name.key.step, last.name.key.step));
        let forked = require_row(self, &*snapshot, run)?.record.fork;
        let mut range: Option<ForkRange> = None;
        let ranges = [
            logged.map(|(first, last)| (first, last.next())),
            saved,
            // A fork that has logged nothing yet can itself be forked where it begins, and one step on.
            forked.map(|fork| (fork.owner.step, fork.owner.step.next())),
        ];
        for (first, last) in ranges.into_iter().flatten() {
            let range = range.get_or_insert(ForkRange { first, last });
            range.first = range.first.min(first);
            range.last = range.last.max(last);
        }
        Ok(range)
    }
}

fn out_of_range(row: &RunRow, step: Step, range: Option<ForkRange>) -> Error {
    let run = &row.record.display_id;
    match range {
        Some(range) => Error::invalid(format!(
            "step {step} is out of range for run {run}, which can be forked at {} to {}",
            range.first, range.last
        ))
        .with_hint(format!(
            "fork_step is the last step that is inherited: pass one from {} to {}",
            range.first, range.last
        )),
        None => Error::invalid(format!(
            "step {step} is out of range for run {run}, which has logged no step yet"
        ))
        .with_hint("fork it when it has logged, or start a run of its own"),
    }
}

/// First and last step of users' metrics on a timeline.
pub(crate) fn effective_steps(
    snapshot: &dyn Snapshot,
    timeline: &Timeline,
) -> Result<Option<(Step, Step)>> {
    let mut found: Option<(Step, Step)> = None;
    let mut rows: Option<(RunId, Vec<runtree_index::AttemptRow>)> = None;
    let mut look = |segment: &lineage::Segment| -> Result<Option<(Step, Step)>> {
        if rows.as_ref().is_none_or(|(run, _)| *run != segment.id.run) {
            rows = Some((segment.id.run, snapshot.attempts(segment.id.run)?));
        }
        let steps = rows.iter().flat_map(|(_, rows)| rows).find_map(|row| {
            (row.record.attempt == segment.id.attempt)
                .then_some(row.steps)
                .flatten()
        });
        Ok(steps.and_then(|(first, last)| {
            let (first, last) = (first.max(segment.first), last.min(segment.last));
            (first <= last).then_some((first, last))
        }))
    };
    // From both ends: most of a long chain need not be asked.
    for segment in timeline.segments() {
        if let Some(steps) = look(segment)? {
            found = Some(steps);
            break;
        }
    }
    for segment in timeline.segments().iter().rev() {
        if let Some((_, last)) = look(segment)? {
            found = found.map(|(first, before)| (first, before.max(last)));
            break;
        }
    }
    Ok(found)
}

/// The newest attempt of a run.
pub(super) fn newest_attempt_of(snapshot: &dyn Snapshot, run: RunId) -> Result<AttemptId> {
    let newest = snapshot.attempts(run)?.pop();
    newest
        .map(|row| AttemptId {
            run,
            attempt: row.record.attempt,
        })
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("run {run} has no launch in this store"),
            )
        })
}

pub(crate) fn require_row(engine: &Engine, snapshot: &dyn Snapshot, run: RunId) -> Result<RunRow> {
    snapshot
        .run(run, &MetricChoice::None, engine.liveness())?
        .ok_or_else(|| Error::not_found(format!("run {run} is not in this store")))
}

/// Lets time pass: nothing here is signalled, because the writer that is waited for is another process.
fn wait_for(time: Duration) {
    let never = Mutex::new(());
    let guard = never.lock().unwrap_or_else(PoisonError::into_inner);
    drop(Condvar::new().wait_timeout(guard, time));
}
