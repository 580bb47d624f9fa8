//! In: what a trainer wrote, as checkpoints of a run.
//!
//! ```text
//! list, pass over what is not whole ─ compare the steps that are here ─┬─ one differs: refused, nothing was written
//!                                                                      └─ take in the missing ones, oldest first, one at a time
//! ```
//!
//! A run is born with its first checkpoint, so that nothing stays of an import that finds nothing. A model of ART is a run with the model's name as its key and one launch
//! called `art-import`, as the compatible package makes it: who trains on with that package finds the model, and an import that comes later joins the launch.

use std::sync::Arc;

use runtree_core::event::RunStatus;
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_core::{Error, ErrorKind, Result, RunId, Step};

use super::art::{self, Model};
use super::look::{Candidate, look, nothing_whole};
use super::place::Files;
use super::same::find_difference;
use super::{ImportInto, ImportReport, ImportedCheckpoint, RunImport, RunLayout, Skipped};
use crate::engine::Engine;
use crate::live::RunWriter;
use crate::queries::CheckpointScope;
use crate::runs::{LaunchKey, ResumePolicy, RunSpec, floor_of};

/// All imports of one model are one launch: a checkpoint that is imported later may be of an earlier step, which in a launch of its own would take the run back to there.
const LAUNCH: &str = "art-import";
/// Rows after which what was logged is written, long before the queue is full.
const ROWS_A_FLUSH: u64 = 1000;
pub(super) fn import(
    engine: &Arc<Engine>,
    import: &RunImport,
    into: &ImportInto,
) -> Result<ImportReport> {
    engine.require_writable()?;
    let files = Files::open(engine, &import.place)?;
    let mut found = look(&files, import)?;
    if found.candidates.is_empty() {
        return Err(nothing_whole(&files, import, &found));
    }
    let mut present = Vec::new();
    let mut missing = Vec::new();
    let mut has_deleted = false;
    let here = Here::of(engine, into)?;
    for candidate in std::mem::take(&mut found.candidates) {
        match here.find(candidate.step, import.step.is_some())? {
            Standing::Missing => missing.push(candidate),
            Standing::Deleted => {
                has_deleted = true;
                found.skipped.push(Skipped {
                    name: candidate.name,
                    reason: format!(
                        "deleted here; --step {} takes it in all the same",
                        candidate.step
                    ),
                });
            }
            Standing::There(info) => {
                require_same(engine, &files, &candidate, info)?;
                present.push(candidate.step);
            }
        }
    }
    let mut taking = Taking {
        engine,
        files: &files,
        import,
        into,
        run: here.run,
        model: None,
        logged_steps: 0,
    };
    if let Some(beside) = found.beside.filter(|_| import.layout == RunLayout::Art) {
        taking.model = Some(art::read(&files, beside)?);
    }
    let mut imported = Vec::new();
    for candidate in missing {
        match taking.take(&candidate)? {
            Ok(info) => imported.push(ImportedCheckpoint {
                step: info.step,
                id: info.id,
                reference: info.reference,
                bytes: info.bytes,
            }),
            Err(reason) => found.skipped.push(Skipped {
                name: candidate.name,
                reason,
            }),
        }
    }
    let (Some(run), false) = (
        taking.run,
        imported.is_empty() && present.is_empty() && !has_deleted,
    ) else {
        return Err(nothing_whole(&files, import, &found));
    };
    if imported.is_empty() {
        taking.log_news(run)?;
    }
    let model = taking.model.unwrap_or_default();
    found.skipped.extend(model.left_out.map(|reason| Skipped {
        name: "history.jsonl".to_owned(),
        reason,
    }));
    Ok(ImportReport {
        run: engine.store().read_run(run)?.display_id.to_string(),
        imported,
        present,
        skipped: found.skipped,
        logged_steps: taking.logged_steps,
        unreadable_lines: model.history.bad_lines,
    })
}

fn require_same(
    engine: &Engine,
    files: &Files<'_>,
    candidate: &Candidate,
    info: &CheckpointInfo,
) -> Result<()> {
    let incoming = files.check_out(&candidate.folder, &candidate.sizes)?;
    let Some(difference) = find_difference(engine, info.checkpoint_name()?, incoming.path())?
    else {
        return Ok(());
    };
    let (reference, step, place) = (&info.reference, info.step, files.place());
    Err(Error::conflict(format!(
        "{reference} is another checkpoint than {} of {place}: {difference} there",
        candidate.name
    ))
    .with_hint(format!(
        "nothing was written; import it into a run of its own (--run PROJECT/NAME), or, if that of {place} is the right one: \
         runtree delete {reference}, and import again with --step {step}"
    )))
}

/// What a run has already.
struct Here {
    run: Option<RunId>,
    checkpoints: Vec<CheckpointInfo>,
    /// Steps below are its parent's; none of a run that is no fork.
    floor: Option<Step>,
}

/// What there is of a step.
enum Standing<'h> {
    Missing,
    Deleted,
    There(&'h CheckpointInfo),
}

impl Here {
    fn of(engine: &Engine, into: &ImportInto) -> Result<Self> {
        let ImportInto::Run(run) = into else {
            return Ok(Self {
                run: None,
                checkpoints: Vec::new(),
                floor: None,
            });
        };
        let scope = CheckpointScope {
            inherited: true,
            pending: false,
            deleted: true,
        };
        let record = engine.store().read_run(*run)?;
        Ok(Self {
            run: Some(*run),
            checkpoints: engine.checkpoints(*run, scope)?,
            floor: record.fork.is_some().then(|| floor_of(&record)),
        })
    }

    fn find(&self, step: Step, is_asked_for: bool) -> Result<Standing<'_>> {
        let of_step = || self.checkpoints.iter().filter(|info| info.step == step);
        let is_there = |info: &&CheckpointInfo| {
            info.state == CheckpointState::Complete && info.effective && !info.superseded
        };
        if let Some(info) = of_step().rfind(is_there) {
            return Ok(Standing::There(info));
        }
        if of_step().any(|info| info.state == CheckpointState::Deleted) && !is_asked_for {
            return Ok(Standing::Deleted);
        }
        match self.floor {
            Some(floor) if step < floor => Err(Error::invalid(format!(
                "step {step} lies below the fork step {floor} of the run: it would be its parent's"
            ))
            .with_hint(
                "import into a run of its own, --run PROJECT/NAME, or the later steps with --step",
            )),
            _ => Ok(Standing::Missing),
        }
    }
}

/// An import that takes in one checkpoint after the other.
struct Taking<'t> {
    engine: &'t Arc<Engine>,
    files: &'t Files<'t>,
    import: &'t RunImport,
    into: &'t ImportInto,
    /// None until it is born.
    run: Option<RunId>,
    /// What is known of a model of ART until its metrics are logged, which is before its first checkpoint.
    model: Option<Model>,
    logged_steps: u64,
}

impl Taking<'_> {
    /// Takes one in; why it is not whole otherwise.
    fn take(
        &mut self,
        candidate: &Candidate,
    ) -> Result<std::result::Result<CheckpointInfo, String>> {
        let incoming = self.files.check_out(&candidate.folder, &candidate.sizes)?;
        let layout = self.import.layout;
        match layout.find_damage(incoming.path(), &candidate.sizes) {
            Ok(None) => {}
            Ok(Some(damage)) => return Ok(Err(damage)),
            Err(error) => return Ok(Err(format!("it can not be read: {}", error.chain()))),
        }
        let run = self.begin()?;
        let name = self.import.name.clone();
        match self
            .engine
            .import_dir(run, incoming.path(), candidate.step, name)
        {
            Ok(info) => Ok(Ok(info)),
            // One that can not be taken in is no reason to leave out those after it.
            Err(error) if error.kind() == ErrorKind::Invalid => Ok(Err(error.chain())),
            Err(error) => Err(error.in_context(format!("can not import {}", candidate.name))),
        }
    }

    /// The run, born if need be, with the metrics there are: once.
    fn begin(&mut self) -> Result<RunId> {
        if let (Some(run), None) = (self.run, self.pending_history()) {
            return Ok(run);
        }
        let run = match (self.run, self.into) {
            (Some(run), _) | (None, &ImportInto::Run(run)) => {
                self.log_into(run, true)?;
                run
            }
            (None, ImportInto::New { project, name }) => {
                let is_art = self.import.layout == RunLayout::Art;
                let base_model = self
                    .model
                    .as_ref()
                    .and_then(|model| model.trained_from.as_ref());
                let writer = self.engine.start_run(RunSpec {
                    name: Some(name.clone()),
                    key: is_art.then(|| name.clone()),
                    resume: ResumePolicy::Allow,
                    config: base_model.map(|base| serde_json::json!({"base_model": base})),
                    tags: is_art.then(|| "art".to_owned()).into_iter().collect(),
                    notes: Some(format!("imported from {}", self.location())),
                    launch_key: if is_art {
                        LaunchKey::Named(LAUNCH.to_owned())
                    } else {
                        LaunchKey::Random
                    },
                    ..RunSpec::new(project.clone())
                })?;
                self.log(&writer, None)?;
                writer.run()
            }
        };
        self.run = Some(run);
        Ok(run)
    }

    /// Rows that came to the history since the last import, where no checkpoint did.
    fn log_news(&mut self, run: RunId) -> Result<()> {
        self.log_into(run, false)
    }

    fn pending_history(&self) -> Option<()> {
        let model = self.model.as_ref()?;
        (!model.history.points.is_empty()).then_some(())
    }

    /// Logs what a run that is there does not have. Only a run that stands for a model and was not trained on has metrics that are the model's.
    fn log_into(&mut self, run: RunId, again: bool) -> Result<()> {
        let Some(model) = &mut self.model else {
            return Ok(());
        };
        let last = self.engine.summary(run)?.last_step;
        let newest = model.history.points.last_key_value().map(|(&step, _)| step);
        // A row may have been added at the last step, too: it is logged again with those that are new.
        if newest.is_none() || (!again && newest <= last) {
            return Ok(());
        }
        let attempts = self.engine.store().list_attempts(run)?;
        let launch = attempts.last().copied();
        let launch = launch.map(|attempt| self.engine.store().read_attempt(run, attempt));
        let record = self.engine.store().read_run(run)?;
        if launch
            .transpose()?
            .is_none_or(|launch| launch.launch_key != LAUNCH)
        {
            model.left_out = Some(format!("{} has metrics of its own", record.display_id));
            model.history.points.clear();
            return Ok(());
        }
        let writer = self.engine.start_run(RunSpec {
            run: Some(run),
            launch_key: LaunchKey::Named(LAUNCH.to_owned()),
            ..RunSpec::new(record.project)
        })?;
        self.log(&writer, last)
    }

    /// Logs from step `from` on, and ends the writer whatever happens.
    fn log(&mut self, writer: &Arc<RunWriter>, from: Option<Step>) -> Result<()> {
        let model = self.model.get_or_insert_default();
        let points = std::mem::take(&mut model.history.points);
        let mut log = || -> Result<()> {
            for (step, values) in points
                .iter()
                .filter(|&(&step, _)| from.is_none_or(|from| step >= from))
            {
                let values: Vec<(&str, f64)> = values
                    .iter()
                    .map(|(name, &value)| (name.as_str(), value))
                    .collect();
                let time = model.history.times.get(step).copied();
                writer.log(Some(*step), time, &values, true)?;
                self.logged_steps += 1;
                if self.logged_steps.is_multiple_of(ROWS_A_FLUSH) {
                    writer.flush()?;
                }
            }
            writer.flush().map(drop)
        };
        let logged = log();
        let status = if logged.is_ok() {
            RunStatus::Completed
        } else {
            RunStatus::Failed
        };
        let finished = writer.finish(Some(status), Some("imported".to_owned()), None);
        // What is told is what went wrong first.
        logged?;
        finished.map(drop)
    }

    fn location(&self) -> String {
        match self.files.place() {
            super::Place::Directory(path) => std::path::absolute(path)
                .unwrap_or_else(|_| path.clone())
                .display()
                .to_string(),
            bucket @ super::Place::Bucket(_) => bucket.to_string(),
        }
    }
}
