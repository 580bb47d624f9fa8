//! Checkpoints that can not be read, or could not when a launch tried: they are passed over aloud or not at all.
//!
//! Nothing is written that condemns a checkpoint. Damage of a commit or of a part is found by the fold, whenever it reads them; damage
//! of a chunk by the launch that loads it, which journals it. The first is a fact, the second a suspicion: a launch that would resume
//! from such a checkpoint verifies it, takes it if it was mended, and else the newest one that is whole. That launch decides for all its
//! ranks at once, in its attempt's record.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::lineage::Timeline;
use runtree_core::manifest::CheckpointName;
use runtree_core::{CheckpointId, Error, Result, RunId};
use runtree_index::{CheckpointRow, Snapshot};

use super::checkpoints::{is_on, sort};
use crate::engine::Engine;
use crate::live::{Warning, WarningKind};
use crate::ship::evicted_to;

/// What is known to be wrong with checkpoints of a timeline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quarantine {
    /// Their commit or a part can not be read.
    unreadable: BTreeMap<CheckpointName, String>,
    /// A launch met damage when it loaded them.
    suspected: BTreeMap<CheckpointName, String>,
}

impl Quarantine {
    /// What is or may be wrong with a checkpoint.
    pub(crate) fn of(&self, name: CheckpointName) -> Option<&str> {
        let text = self.unreadable.get(&name).or(self.suspected.get(&name));
        text.map(String::as_str)
    }

    /// Refuses a checkpoint that is known not to be readable.
    ///
    /// # Errors
    /// `Corrupt` that says what is wrong.
    pub(crate) fn refuse_unreadable(&self, name: CheckpointName) -> Result<()> {
        let Some(text) = self.unreadable.get(&name) else {
            return Ok(());
        };
        Err(Error::corrupt(format!("{} is damaged: {text}", described(name)))
            .with_hint("name an older checkpoint, or restore the file; runtree verify lists everything that is damaged"))
    }

    /// Checkpoints on a timeline as [`super::effective_checkpoints`] lists them, unreadable ones among them: who takes one of those must
    /// refuse, or say so.
    pub(crate) fn effective_or_damaged(
        &self,
        snapshot: &dyn Snapshot,
        timeline: &Timeline,
    ) -> Result<Vec<CheckpointRow>> {
        let mut rows = self.effective_or_elsewhere(snapshot, timeline)?;
        rows.retain(|row| !row.deleted);
        Ok(rows)
    }

    /// The same, with those that were deleted here because another store keeps them: who takes one of those must refuse, and say where it is.
    pub(crate) fn effective_or_elsewhere(
        &self,
        snapshot: &dyn Snapshot,
        timeline: &Timeline,
    ) -> Result<Vec<CheckpointRow>> {
        let segments = timeline.segments().iter();
        let runs: BTreeSet<RunId> = segments.map(|segment| segment.id.run).collect();
        let runs: Vec<RunId> = runs.into_iter().collect();
        let mut rows = snapshot.checkpoints_of(&runs)?;
        for run in runs {
            add_unlisted(&mut rows, run, self);
        }
        rows.retain(|row| {
            let exists = if row.deleted {
                evicted_to(row).is_some()
            } else {
                row.is_complete() || self.unreadable.contains_key(&row.name)
            };
            exists && is_on(timeline, row.name)
        });
        sort(&mut rows, timeline);
        Ok(rows)
    }
}

impl Engine {
    /// What is wrong with checkpoints that `run` may show or resume from.
    pub(crate) fn quarantine(
        &self,
        snapshot: &dyn Snapshot,
        run: RunId,
        timeline: &Timeline,
    ) -> Result<Quarantine> {
        let mut quarantine = Quarantine::default();
        let segments = timeline.segments().iter().map(|segment| segment.id.run);
        let runs: BTreeSet<RunId> = segments.chain([run]).collect();
        let runs: Vec<RunId> = runs.into_iter().collect();
        quarantine.suspected.extend(snapshot.damage(&runs)?);
        for run in runs {
            let unreadable = self.damaged_checkpoints(run).into_iter();
            quarantine
                .unreadable
                .extend(unreadable.map(|(key, text)| (CheckpointName { run, key }, text)));
        }
        Ok(quarantine)
    }

    /// The newest checkpoint of a timeline that a launch may resume from. Each newer one that it passes over is a warning.
    pub(crate) fn newest_sound(
        &self,
        run: RunId,
        timeline: &Timeline,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<CheckpointName>> {
        let (rows, quarantine) = {
            let snapshot = self.snapshot()?;
            let quarantine = self.quarantine(&*snapshot, run, timeline)?;
            let rows = quarantine.effective_or_damaged(&*snapshot, timeline)?;
            (rows, quarantine)
        };
        let mut passed = Vec::new();
        let mut found = None;
        for name in rows.iter().rev().map(|row| row.name) {
            let wrong = match (
                quarantine.unreadable.get(&name),
                quarantine.suspected.contains_key(&name),
            ) {
                (Some(text), _) => Some(text.clone()),
                (None, true) => self.still_wrong(name)?,
                (None, false) => None,
            };
            let Some(wrong) = wrong else {
                found = Some(name);
                break;
            };
            passed.push((name, wrong));
        }
        let instead = match found {
            Some(name) => format!("resuming from step {} instead", name.key.step),
            None => "no older one can be loaded".to_owned(),
        };
        warnings.extend(passed.into_iter().map(|(name, wrong)| Warning {
            kind: WarningKind::Damaged,
            message: format!("{} is damaged: {wrong}; {instead}", described(name)),
        }));
        Ok(found)
    }

    /// What is wrong with a suspected checkpoint, if it was not mended since.
    fn still_wrong(&self, name: CheckpointName) -> Result<Option<String>> {
        match self.verify(Some(name)) {
            Ok(report) if report.problems.is_empty() => Ok(None),
            Ok(report) => Ok(Some(report.problems.join("; "))),
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => {
                Ok(Some(error.chain()))
            }
            Err(error) => Err(error),
        }
    }
}

/// Adds rows for unreadable checkpoints of `run` that nothing else mentions.
pub(super) fn add_unlisted(rows: &mut Vec<CheckpointRow>, run: RunId, quarantine: &Quarantine) {
    for name in quarantine.unreadable.keys().filter(|name| name.run == run) {
        if rows.iter().all(|row| row.name != *name) {
            rows.push(CheckpointRow {
                name: *name,
                id: CheckpointId::of(name.run, name.key),
                outcome: None,
                deleted: false,
                tombstone: None,
                label: None,
                created: None,
                bytes: 0,
                tensors: 0,
                metrics: BTreeMap::new(),
                tags: Vec::new(),
                pins: Vec::new(),
                parts: Vec::new(),
            });
        }
    }
}

fn described(name: CheckpointName) -> String {
    format!(
        "checkpoint {} (step {} of run {})",
        CheckpointId::of(name.run, name.key),
        name.key.step,
        name.run
    )
}
