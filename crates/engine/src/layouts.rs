//! The layouts of other trainers, in and out: the checkpoints of a whole run, each in a directory of its own.
//!
//! ```text
//! ART        models/<model>/checkpoints/0042/…      and beside it history.jsonl, model.json
//! prime-rl   <output_dir>/checkpoints/step_42/{trainer,orchestrator}/…
//! ```
//!
//! Neither trainer says of all it wrote that it is whole, so names and files are looked at before anything is taken (`art`, `prime_rl`); what is
//! not whole is passed over by name, with the reason. `place` is where they lie, a directory or a prefix of a bucket, which is only ever read. `bring`
//! takes in what is missing, oldest first; `send` writes what a run has. Both compare what is there already (`same`) and overwrite nothing. What ART's
//! part of the Python package does with one checkpoint on the way of a fork, by the same rules, is in `python/runtree/compat/art`.
//!
//! What the files of one checkpoint are is nobody's business here: they are saved and given back byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtree_core::manifest::CheckpointName;
use runtree_core::{ProjectName, Result, RunId, Step};

use crate::engine::Engine;

pub(crate) mod adapter;
mod art;
mod bring;
mod fetched;
mod history;
mod look;
mod place;
pub(crate) mod prime_rl;
pub(crate) mod same;
mod send;
mod single;

pub use fetched::{Folder, Incoming};
pub use place::Place;
pub(crate) use place::{odd_below, read_small, unreadable, walk as walk_sizes};
pub use single::DirectoryLayout;

/// How a trainer lays out the checkpoints of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunLayout {
    /// `OpenPipe` ART's: `checkpoints/0042`.
    Art,
    /// prime-rl's: `checkpoints/step_42`.
    PrimeRl,
}

/// The folder that both keep their checkpoints in.
const CHECKPOINTS: &str = "checkpoints";

/// Files below a directory and their bytes, by path with `/` between its parts.
pub(crate) type Sizes = BTreeMap<String, u64>;

impl RunLayout {
    /// What people call it.
    fn trainer(self) -> &'static str {
        match self {
            Self::Art => "ART",
            Self::PrimeRl => "prime-rl",
        }
    }

    /// The directory of a step; none of a negative one, which no such trainer has.
    fn directory_of(self, step: Step) -> Option<String> {
        let number = u64::try_from(step.0).ok()?;
        Some(match self {
            Self::Art => format!("{number:04}"),
            Self::PrimeRl => format!("step_{number}"),
        })
    }

    /// The step that a directory's name has in it, however it is spelled.
    fn number_in(self, name: &str) -> Option<Step> {
        let digits = match self {
            Self::Art => name,
            Self::PrimeRl => name.strip_prefix("step_")?,
        };
        // ART's own reader asks whether all are digits, and stumbles over the superscript ones.
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok().map(Step)).flatten()
    }

    /// The step of a directory that is called exactly as the trainer calls it.
    fn step_of(self, name: &str) -> Option<Step> {
        self.number_in(name)
            .filter(|&step| self.directory_of(step).as_deref() == Some(name))
    }

    /// Why files of these sizes can be no whole checkpoint; none if only their bytes can tell.
    fn find_gap(self, sizes: &Sizes) -> Option<String> {
        match self {
            Self::Art => adapter::find_gap(sizes),
            Self::PrimeRl => prime_rl::find_gap(sizes),
        }
    }

    /// Why a directory whose sizes have no gap is no whole checkpoint; none if it is one.
    fn find_damage(self, directory: &Path, sizes: &Sizes) -> Result<Option<String>> {
        match self {
            Self::Art => adapter::find_damage(directory, sizes),
            Self::PrimeRl => prime_rl::find_damage(directory, sizes),
        }
    }
}

/// What to take in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunImport {
    /// Where it lies: what holds the checkpoints, or the folder `checkpoints` itself.
    pub place: Place,
    /// How it is laid out.
    pub layout: RunLayout,
    /// This step alone; also if it was deleted here.
    pub step: Option<Step>,
    /// Name of that one checkpoint.
    pub name: Option<String>,
}

/// The run that checkpoints are taken into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportInto {
    /// One that is there.
    Run(RunId),
    /// One that is born with its first checkpoint, if there is one.
    New {
        /// Its project.
        project: ProjectName,
        /// Its name; of ART's models also its key, as the compatible package has it.
        name: String,
    },
}

/// What was taken in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ImportReport {
    /// The run's display id.
    pub run: String,
    /// Checkpoints, oldest first.
    pub imported: Vec<ImportedCheckpoint>,
    /// Steps that were here already, with the same content.
    pub present: Vec<Step>,
    /// What was not taken in, and why.
    pub skipped: Vec<Skipped>,
    /// Rows of metrics that were logged: one for each step.
    pub logged_steps: u64,
    /// Lines of the history that can not be read.
    pub unreadable_lines: u64,
}

/// A checkpoint that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ImportedCheckpoint {
    /// Its step.
    pub step: Step,
    /// `ck_…`.
    pub id: String,
    /// REF that loads it.
    pub reference: String,
    /// Raw bytes.
    pub bytes: u64,
}

/// What was passed over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Its directory, or the REF of a checkpoint.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What was written out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunExportReport {
    /// The directory that was named.
    pub directory: PathBuf,
    /// Checkpoints, oldest first.
    pub written: Vec<WrittenCheckpoint>,
    /// Steps that were there already, with the same content.
    pub present: Vec<Step>,
    /// Checkpoints that were not written, and why.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that was written out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WrittenCheckpoint {
    /// Its step.
    pub step: Step,
    /// Where.
    pub directory: PathBuf,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl Engine {
    /// Takes in the checkpoints that a trainer wrote and that are not here yet, each at its step, and ART's history as points. Done again, nothing happens.
    ///
    /// Everything that is here is compared before anything is written. What was deleted here stays deleted unless its step is asked for.
    ///
    /// # Errors
    /// `NotFound` if nothing whole is there, or not the step that is asked for; `Conflict` if a step has another checkpoint here; `Denied` if the place may
    /// not be looked into; else as [`Engine::import_dir`], of which what came before stays.
    pub fn import_layout(
        self: &Arc<Self>,
        import: &RunImport,
        into: &ImportInto,
    ) -> Result<ImportReport> {
        bring::import(self, import, into)
    }

    /// Writes checkpoints of a run, inherited ones too, as a trainer lays them out; or `only` one. Each directory appears whole or not at all.
    ///
    /// # Errors
    /// `Conflict` if a directory holds something else already: then nothing was written. `Unsupported` if nothing there is what that trainer reads.
    pub fn export_layout(
        &self,
        run: RunId,
        only: Option<CheckpointName>,
        directory: &Path,
        layout: RunLayout,
    ) -> Result<RunExportReport> {
        send::export(self, run, only, directory, layout)
    }

    /// One directory to import, looked at: here, or fetched from a bucket until what is returned is dropped.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Invalid` if it is not laid out like that.
    pub fn incoming(&self, place: &Place, layout: DirectoryLayout) -> Result<Incoming> {
        single::incoming(self, place, layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_its_trainer_would_call_it() {
        for (layout, name, step) in [
            (RunLayout::Art, "0000", Some(0)),
            (RunLayout::Art, "0042", Some(42)),
            (RunLayout::Art, "100000", Some(100_000)),
            (RunLayout::Art, "7", None),
            (RunLayout::Art, "00042", None),
            (RunLayout::Art, "²", None),
            (RunLayout::Art, "99999999999999999999", None),
            (RunLayout::PrimeRl, "step_7", Some(7)),
            (RunLayout::PrimeRl, "step_007", None),
            (RunLayout::PrimeRl, "step_7.tmp", None),
            (RunLayout::PrimeRl, "step_", None),
            (RunLayout::PrimeRl, "step_+7", None),
        ] {
            assert_eq!(layout.step_of(name), step.map(Step), "{name}");
        }
        assert_eq!(RunLayout::Art.directory_of(Step(-1)), None);
    }
}
