//! Out: a run's checkpoints as a trainer lays them out, byte for byte as they were imported or saved.

use std::path::Path;

use runtree_core::manifest::CheckpointName;
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_core::{Error, ErrorKind, Result, RunId};

use super::same::find_difference;
use super::{CHECKPOINTS, RunExportReport, RunLayout, Sizes, Skipped, WrittenCheckpoint};
use crate::engine::Engine;
use crate::export::directory::{self, Access, Durability};
use crate::export::members::{self, Body, Member};
use crate::queries::CheckpointScope;

pub(super) fn export(
    engine: &Engine,
    run: RunId,
    only: Option<CheckpointName>,
    directory: &Path,
    layout: RunLayout,
) -> Result<RunExportReport> {
    let chosen = choose(engine, run, only)?;
    let mut report = RunExportReport {
        directory: directory.to_owned(),
        written: Vec::new(),
        present: Vec::new(),
        skipped: Vec::new(),
    };
    let mut missing = Vec::new();
    for info in &chosen {
        if let Some(reason) = find_obstacle(engine, info, layout)? {
            report.skipped.push(Skipped {
                name: info.reference.clone(),
                reason,
            });
            continue;
        }
        let name = layout.directory_of(info.step).unwrap_or_default();
        let target = directory.join(CHECKPOINTS).join(name);
        match directory::check_target(&target) {
            Ok(()) => missing.push((info, target)),
            Err(error) if error.kind() == ErrorKind::Conflict && target.is_dir() => {
                if let Some(difference) = find_difference(engine, info.checkpoint_name()?, &target)?
                {
                    return Err(Error::conflict(format!(
                        "{} holds another checkpoint than {}: {difference} there",
                        target.display(),
                        info.reference
                    ))
                    .with_hint("nothing was written; export into another directory"));
                }
                report.present.push(info.step);
            }
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() && report.present.is_empty() {
        return Err(nothing_fits(run, layout, &report.skipped));
    }
    for (info, target) in missing {
        let manifest = engine.load_plan(info.checkpoint_name()?)?;
        let members = members::as_saved(&manifest, None)?;
        let (files, bytes) = directory::write(
            engine,
            &manifest,
            &members,
            &target,
            Access::AsSaved,
            Durability::Durable,
        )?;
        report.written.push(WrittenCheckpoint {
            step: info.step,
            directory: target,
            files,
            bytes,
        });
    }
    Ok(report)
}

/// Those that are meant, oldest first: of a step the one that counts.
fn choose(
    engine: &Engine,
    run: RunId,
    only: Option<CheckpointName>,
) -> Result<Vec<CheckpointInfo>> {
    if let Some(name) = only {
        return Ok(vec![engine.checkpoint_info(name)?]);
    }
    let scope = CheckpointScope {
        inherited: true,
        ..CheckpointScope::default()
    };
    let mut all = engine.checkpoints(run, scope)?;
    // A damaged one is said to be damaged where nothing better is of its step.
    all.retain(|info| {
        (info.effective && !info.superseded) || info.state == CheckpointState::Quarantined
    });
    Ok(all)
}

/// Why a checkpoint can not be written as a trainer reads it.
fn find_obstacle(
    engine: &Engine,
    info: &CheckpointInfo,
    layout: RunLayout,
) -> Result<Option<String>> {
    if info.state == CheckpointState::Quarantined {
        return Ok(Some("damaged".to_owned()));
    }
    if layout.directory_of(info.step).is_none() {
        return Ok(Some(format!("{} has no negative steps", layout.trainer())));
    }
    let manifest = engine.load_plan(info.checkpoint_name()?)?;
    let members = members::as_saved(&manifest, None)?;
    let is_file = |member: &&Member| !matches!(member.body, Body::Directory);
    let sizes: Sizes = members
        .iter()
        .filter(is_file)
        .map(|member| (member.path.clone(), size(member)))
        .collect();
    Ok(layout.find_gap(&sizes))
}

fn size(member: &Member) -> u64 {
    match &member.body {
        // What it leads to is a file of its own; it counts as one.
        Body::Symlink(_) => 1,
        body => body.bytes(),
    }
}

fn nothing_fits(run: RunId, layout: RunLayout, skipped: &[Skipped]) -> Error {
    let trainer = layout.trainer();
    let Some(first) = skipped.first() else {
        return Error::not_found(format!("run {run} has no checkpoint"));
    };
    Error::unsupported(format!(
        "no checkpoint here is what {trainer} reads: {}: {}",
        first.name, first.reason
    ))
    .with_hint(format!(
        "as it was saved: runtree export {} DIRECTORY",
        first.name
    ))
}
