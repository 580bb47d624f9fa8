//! The next launch of a run: joined, resumed, or the first.

use std::collections::BTreeMap;

use runtree_core::lineage::{AttemptId, Timeline};
use runtree_core::manifest::{AttemptKind, AttemptRecord, BasePoint, CheckpointName, RunRecord};
use runtree_core::reference::{Reference, Selector};
use runtree_core::{AttemptNumber, Error, Result, RunId, Step, WriterId};
use runtree_store::Created;

use super::fork::{effective_steps, newest_attempt_of};
use super::{LaunchKey, RunSpec};
use crate::engine::Engine;
use crate::gc::Reliance;
use crate::live::{Warning, fenced_error};
use crate::queries::effective_checkpoints;
use crate::resolve::Purpose;

/// How often a launch that meets another one takes the next number.
const TRIES: usize = 64;

/// What launch keys begin with that nobody else can have.
const RANDOM: &str = "random:";

/// Whether nothing but chance names a launch.
pub(crate) fn is_random(launch_key: &str) -> bool {
    launch_key.starts_with(RANDOM)
}

/// Whether an attempt that is newer than those of a launch is another launch's. A launch makes newer ones itself only by going back; one of the same
/// key that resumes is the same command started again.
pub(crate) fn is_rival(newer: &AttemptRecord, launch_key: &str) -> bool {
    newer.launch_key != launch_key || newer.kind != AttemptKind::Rewind
}

/// Where the own history of a run's later launches may begin at the earliest: what lies below is the parent's.
pub(crate) fn floor_of(record: &RunRecord) -> Step {
    record
        .fork
        .as_ref()
        .map_or(Step::MIN, |fork| fork.owner.step)
}

impl Engine {
    /// The attempt this process belongs to.
    pub(super) fn launch(
        &self,
        record: &RunRecord,
        spec: &RunSpec,
        writer: WriterId,
        warnings: &mut Vec<Warning>,
    ) -> Result<AttemptRecord> {
        let (key, has_seat) = match &spec.launch_key {
            LaunchKey::Launcher(key) => (key.clone(), true),
            LaunchKey::Named(key) => (key.clone(), false),
            LaunchKey::Random => (self.random_launch_key(), false),
        };
        let sits_down = |attempt: &AttemptRecord| -> Result<bool> {
            Ok(!has_seat || self.sit_down(attempt, spec.rank, writer)?)
        };
        for _ in 0..TRIES {
            let Some(newest) = self.newest_attempt(record.run)? else {
                let first = self.first_attempt(record, &key, &spec.process)?;
                if first.launch_key == key && sits_down(&first)? {
                    return Ok(first);
                }
                continue;
            };
            if newest.launch_key == key && sits_down(&newest)? {
                return Ok(newest);
            }
            let reliance = Reliance::begin(&self.store)?;
            let (next, mut passed) = self.plan_resume(record, &newest, spec, &key)?;
            match self.create_relying(&reliance, &next)? {
                Created::Created | Created::ExistsEqual if sits_down(&next)? => {
                    self.reclaim_pending(record.run, next.attempt);
                    warnings.append(&mut passed);
                    return Ok(next);
                }
                // Another launch took the number, or the seat: join it or go on after it.
                _ => {}
            }
        }
        Err(Error::conflict(format!(
            "run {} is launched by others again and again",
            record.display_id
        )))
    }

    /// Takes the seat of a rank in a launch; `false` if another process has it, so that this one is of another launch.
    pub(crate) fn sit_down(
        &self,
        attempt: &AttemptRecord,
        rank: u32,
        writer: WriterId,
    ) -> Result<bool> {
        self.store
            .take_seat(attempt.run, attempt.attempt, rank, writer)
    }

    /// A launch that is newer than `launch` and not its own, if there is one. Errors of the store say nothing about launches.
    pub(crate) fn find_rival(&self, launch: &AttemptRecord) -> Option<AttemptNumber> {
        let mut next = launch.attempt.next();
        while let Ok(newer) = self.store.read_attempt(launch.run, next) {
            // A rewind of the launch itself, by another of its ranks, is no rival.
            if is_rival(&newer, &launch.launch_key) {
                return Some(next);
            }
            next = next.next();
        }
        None
    }

    pub(crate) fn random_launch_key(&self) -> String {
        format!("{RANDOM}{:032x}", self.options.entropy.bits())
    }

    pub(super) fn newest_attempt(&self, run: RunId) -> Result<Option<AttemptRecord>> {
        let newest = self.store.list_attempts(run)?.pop();
        newest
            .map(|attempt| self.store.read_attempt(run, attempt))
            .transpose()
    }

    /// `attempts/1`, as the run's record says it must be; whoever made it first.
    pub(super) fn first_attempt(
        &self,
        record: &RunRecord,
        launch_key: &str,
        process: &BTreeMap<String, String>,
    ) -> Result<AttemptRecord> {
        let fork = record.fork.as_ref();
        let first = AttemptRecord {
            run: record.run,
            attempt: AttemptNumber::FIRST,
            base: fork.map(|fork| fork.owner),
            checkpoint: fork.and_then(|fork| fork.checkpoint).or(record.base),
            kind: if fork.is_some() {
                AttemptKind::Fork
            } else {
                AttemptKind::Start
            },
            launch_key: launch_key.to_owned(),
            created: self.now(),
            launch: process.clone(),
        };
        match self.store.create_attempt(&first)? {
            Created::Created | Created::ExistsEqual => Ok(first),
            Created::ExistsOther(_) => self.store.read_attempt(record.run, AttemptNumber::FIRST),
        }
    }

    /// Attempt n + 1: where it continues, and from which checkpoint, decided once for all ranks.
    fn plan_resume(
        &self,
        record: &RunRecord,
        newest: &AttemptRecord,
        spec: &RunSpec,
        launch_key: &str,
    ) -> Result<(AttemptRecord, Vec<Warning>)> {
        if record.fork.is_some() {
            // The history of a fork is its ancestors', too.
            self.refresh()?;
        }
        self.finish_pending(record.run)?;
        self.refresh_anew(record.run)?;
        self.check_lineage(record.run)?;
        let mut passed = Vec::new();
        let (base, checkpoint) =
            self.resume_point(record, newest, &spec.resume_from, &mut passed)?;
        let next = AttemptRecord {
            run: record.run,
            attempt: newest.attempt.next(),
            base,
            checkpoint,
            kind: AttemptKind::Resume,
            launch_key: launch_key.to_owned(),
            created: self.now(),
            launch: spec.process.clone(),
        };
        Ok((next, passed))
    }

    fn resume_point(
        &self,
        record: &RunRecord,
        newest: &AttemptRecord,
        resume_from: &str,
        passed: &mut Vec<Warning>,
    ) -> Result<(Option<BasePoint>, Option<CheckpointName>)> {
        let run = record.run;
        let checkpoint = self.resume_checkpoint(record, resume_from, passed)?;
        let fork_step = record.fork.as_ref().map(|fork| fork.owner.step);
        let at = |attempt: AttemptNumber, step: Step| BasePoint { run, attempt, step };
        if let Some(name) = checkpoint {
            if name.run == run {
                return Ok((Some(at(name.key.attempt, name.key.step)), checkpoint));
            }
            if let Some(fork_step) = fork_step {
                // Nothing of its own was saved: the run starts again where it was forked.
                return Ok((Some(at(newest.attempt, fork_step)), checkpoint));
            }
        }
        // Without a checkpoint the run continues after what it logged last.
        let snapshot = self.snapshot()?;
        let leaf = AttemptId {
            run,
            attempt: newest.attempt,
        };
        let timeline = Timeline::of(&snapshot, leaf)?;
        let logged = effective_steps(&*snapshot, &timeline)?.map(|(_, last)| last);
        let last = logged.max(fork_step);
        let base = last.map(|last| at(newest.attempt, last));
        Ok((base, record.base))
    }

    /// The checkpoint that a resume starts from, if there is one; what is damaged and passed over is a warning.
    fn resume_checkpoint(
        &self,
        record: &RunRecord,
        resume_from: &str,
        passed: &mut Vec<Warning>,
    ) -> Result<Option<CheckpointName>> {
        let run = record.run;
        let born_with = record.fork.as_ref().and_then(|fork| fork.checkpoint);
        let selector: Selector = resume_from.parse()?;
        let (timeline, quarantine) = {
            let snapshot = self.snapshot()?;
            let leaf = newest_attempt_of(&*snapshot, run)?;
            let timeline = Timeline::of(&snapshot, leaf)?;
            let quarantine = self.quarantine(&*snapshot, run, &timeline)?;
            (timeline, quarantine)
        };
        if selector == Selector::Latest {
            let latest = self.newest_sound(run, &timeline, passed)?;
            // What a fork was born with stays its start: neither its deletion nor another save of that step changes the child.
            if let Some(born) = born_with
                && quarantine.of(born).is_none()
                && latest.is_none_or(|name| name.run != run && name.key.step <= born.key.step)
            {
                return Ok(Some(born));
            }
            return latest
                .map(|name| self.require_forkable(name).map(|()| name))
                .transpose();
        }
        let reference = Reference {
            store: None,
            project: None,
            run: run.to_string(),
            nth: None,
            selector: Some(selector),
        };
        let name = self.resolve_checkpoint_folded(&reference, None, Purpose::Read)?;
        let saver = AttemptId {
            run: name.run,
            attempt: name.key.attempt,
        };
        let started_with = [born_with, record.base].contains(&Some(name));
        if name.run != run && !started_with && !timeline.holds(saver, name.key.step) {
            return Err(Error::invalid(format!(
                "resume_from={resume_from:?} is a checkpoint of run {}, which is not in the history of run {}",
                self.store.read_run(name.run)?.display_id,
                record.display_id
            ))
            .with_hint("fork that run, or start a new one with base="));
        }
        self.require_forkable(name)?;
        Ok(Some(name))
    }

    /// Writes a launch, and looks again whether what it loads is there (W4). The launch stays if it is not: the next one chooses again.
    fn create_relying(&self, reliance: &Reliance, next: &AttemptRecord) -> Result<Created> {
        let created = self.store.create_attempt(next)?;
        if let (Some(name), Created::Created | Created::ExistsEqual) = (next.checkpoint, &created) {
            reliance.check(&self.store, name)?;
        }
        Ok(created)
    }

    /// Takes a run back to `step`, from outside: the attempt after its newest.
    pub(crate) fn create_rewind(
        &self,
        record: &RunRecord,
        step: Step,
        launch_key: &str,
    ) -> Result<AttemptRecord> {
        for _ in 0..TRIES {
            self.refresh_known(record.run)?;
            let reliance = Reliance::begin(&self.store)?;
            let leaf = newest_attempt_of(&*self.snapshot()?, record.run)?.attempt;
            let next = self.plan_rewind(record, leaf, step, launch_key, &BTreeMap::new())?;
            match self.create_relying(&reliance, &next)? {
                Created::Created | Created::ExistsEqual => return Ok(next),
                Created::ExistsOther(_) => {}
            }
        }
        Err(Error::conflict(format!(
            "run {} is launched by others again and again",
            record.display_id
        )))
    }

    /// Takes the launch `current` back to `step`, from inside: the attempt after it. Every rank of the launch does so, one sooner, one later; the
    /// first makes the attempt, the others find it. So its number is the one after `current`, never the one after the newest.
    pub(crate) fn rewind_launch(
        &self,
        record: &RunRecord,
        current: &AttemptRecord,
        step: Step,
        process: &BTreeMap<String, String>,
    ) -> Result<AttemptRecord> {
        let number = current.attempt.next();
        let listed = self.store.list_attempts(record.run)?;
        if !listed.contains(&number) {
            self.refresh_known(record.run)?;
            let reliance = Reliance::begin(&self.store)?;
            let key = &current.launch_key;
            let next = self.plan_rewind(record, current.attempt, step, key, process)?;
            match self.create_relying(&reliance, &next)? {
                Created::Created | Created::ExistsEqual => return Ok(next),
                Created::ExistsOther(_) => {}
            }
        }
        let other = self.store.read_attempt(record.run, number)?;
        if is_rival(&other, &current.launch_key) {
            return Err(fenced_error(&record.display_id, number));
        }
        match other.base {
            Some(base) if base.step == step => Ok(other),
            base => Err(Error::conflict(format!(
                "another rank of this launch of run {} went back to step {}, this one to {step}",
                record.display_id,
                base.map_or_else(|| "none".to_owned(), |base| base.step.to_string())
            ))
            .with_hint("rewind to the same step on every rank")),
        }
    }

    /// The attempt that follows `leaf` and goes back to `step`.
    fn plan_rewind(
        &self,
        record: &RunRecord,
        leaf: AttemptNumber,
        step: Step,
        launch_key: &str,
        process: &BTreeMap<String, String>,
    ) -> Result<AttemptRecord> {
        let run = record.run;
        let snapshot = self.snapshot()?;
        let timeline = Timeline::of(&snapshot, AttemptId { run, attempt: leaf })?;
        self.check_rewind(record, &timeline, step)?;
        let checkpoint = effective_checkpoints(&*snapshot, &timeline)?
            .into_iter()
            .rfind(|row| row.name.key.step <= step)
            .map(|row| row.name);
        // The latest launch of the run that holds the step: its own points at the step stay.
        let owner = timeline
            .segments()
            .iter()
            .rfind(|segment| segment.id.run == run && segment.first <= step && step <= segment.last)
            .map_or(leaf, |segment| segment.id.attempt);
        Ok(AttemptRecord {
            run,
            attempt: leaf.next(),
            base: Some(BasePoint {
                run,
                attempt: owner,
                step,
            }),
            checkpoint,
            kind: AttemptKind::Rewind,
            launch_key: launch_key.to_owned(),
            created: self.now(),
            launch: process.clone(),
        })
    }

    fn check_rewind(&self, record: &RunRecord, timeline: &Timeline, step: Step) -> Result<()> {
        let snapshot = self.snapshot()?;
        let logged = effective_steps(&*snapshot, timeline)?;
        let saved = effective_checkpoints(&*snapshot, timeline)?;
        let saved_first = saved.first().map(|row| row.name.key.step);
        let saved_last = saved.last().map(|row| row.name.key.step);
        let first = logged
            .map(|(first, _)| first)
            .into_iter()
            .chain(saved_first)
            .min();
        let last = logged
            .map(|(_, last)| last)
            .into_iter()
            .chain(saved_last)
            .max();
        let first = first.map(|first| first.max(floor_of(record)));
        let Some((first, last)) = first.zip(last) else {
            return Err(Error::invalid(format!(
                "run {} has logged no step yet, there is nothing to go back to",
                record.display_id
            )));
        };
        // A fork can always begin anew at its fork step, which may lie above all that its parent delivered so far.
        let last = last.max(first);
        if (first..=last).contains(&step) {
            return Ok(());
        }
        let error = Error::invalid(format!(
            "step {step} is out of range for run {}, which can be rewound to {first} to {last}",
            record.display_id
        ));
        Err(if step < first && record.fork.is_some() {
            error
                .with_hint("what lies below is the parent's history: fork the parent there instead")
        } else {
            error
        })
    }
}
