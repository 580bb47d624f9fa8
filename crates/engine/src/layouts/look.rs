//! What a place has that a trainer wrote: steps that may be taken in, and what is passed over. Only names and sizes are looked at.

use runtree_core::{Error, Result, Step};

use super::place::{Beside, Files};
use super::{CHECKPOINTS, RunImport, RunLayout, Sizes, Skipped};
use crate::queries::legible;

/// How many names an error lists.
const LISTED: usize = 12;

/// What may be a checkpoint.
pub(super) struct Candidate {
    pub(super) step: Step,
    pub(super) name: String,
    pub(super) folder: String,
    pub(super) sizes: Sizes,
}

/// What a place has.
pub(super) struct Found {
    /// Ascending by step.
    pub(super) candidates: Vec<Candidate>,
    pub(super) skipped: Vec<Skipped>,
    /// Where a trainer's other files are, if that is known.
    pub(super) beside: Option<Beside>,
    /// Steps that have a directory, whatever is in it.
    pub(super) there: Vec<Step>,
}

/// Lists a place. Only names and sizes are looked at.
pub(super) fn look(files: &Files<'_>, import: &RunImport) -> Result<Found> {
    let layout = import.layout;
    let (folder, beside) = if files.has_directory(CHECKPOINTS) {
        (CHECKPOINTS, Some(Beside::Inside))
    } else if files.last_part().as_deref() == Some(CHECKPOINTS) {
        ("", Some(Beside::Above))
    } else {
        ("", None)
    };
    let children = files.children(folder)?;
    let is_step = |name: &str| layout.number_in(name).is_some();
    if beside.is_none()
        && !children
            .iter()
            .any(|child| child.is_directory && is_step(&child.name))
    {
        return Err(no_such_layout(files, layout)?);
    }
    let mut found = Found {
        candidates: Vec::new(),
        skipped: Vec::new(),
        beside,
        there: Vec::new(),
    };
    for child in children {
        let number = layout.number_in(&child.name);
        found.there.extend(number);
        if import.step.is_some() && number != import.step {
            continue;
        }
        let path = if folder.is_empty() {
            child.name.clone()
        } else {
            format!("{folder}/{}", child.name)
        };
        let gap = match layout.step_of(&child.name) {
            None => Err(no_step(layout, number)),
            Some(_) if !child.is_directory => Err("a file".to_owned()),
            Some(step) => {
                let sizes = files.sizes(&path)?;
                let gap = layout.find_gap(&sizes).or(files.find_odd(&path)?);
                gap.map_or(Ok((step, sizes)), Err)
            }
        };
        match gap {
            Ok((step, sizes)) => found.candidates.push(Candidate {
                step,
                name: child.name,
                folder: path,
                sizes,
            }),
            Err(reason) => found.skipped.push(Skipped {
                name: child.name,
                reason,
            }),
        }
    }
    found.candidates.sort_by_key(|candidate| candidate.step);
    Ok(found)
}

fn no_step(layout: RunLayout, number: Option<Step>) -> String {
    let called = number.and_then(|step| layout.directory_of(step));
    let called = called.map_or_else(String::new, |name| format!(", {name}"));
    format!("not called as {} calls a step{called}", layout.trainer())
}

fn no_such_layout(files: &Files<'_>, layout: RunLayout) -> Result<Error> {
    let place = files.place();
    let example = layout.directory_of(Step(42)).unwrap_or_default();
    let error = Error::not_found(format!(
        "{place} is nothing that {} wrote: it has no {CHECKPOINTS}/, and no {example}",
        layout.trainer()
    ));
    // One level too high: a folder of runs, or of models.
    let mut below = Vec::new();
    for child in files.children("")? {
        let inside = format!("{}/{CHECKPOINTS}", child.name);
        if child.is_directory && files.has_directory(&inside) {
            below.push(legible(&child.name).into_owned());
        }
    }
    below.truncate(LISTED);
    Ok(if below.is_empty() {
        error.with_hint(format!(
            "name the directory that has {CHECKPOINTS}/ in it, or that folder itself"
        ))
    } else {
        error.with_hint(format!("name one of those in it: {}", below.join(", ")))
    })
}

pub(super) fn nothing_whole(files: &Files<'_>, import: &RunImport, found: &Found) -> Error {
    let place = files.place();
    let of = import
        .step
        .map_or_else(String::new, |step| format!(" of step {step}"));
    let error = Error::not_found(format!("{place} has no whole checkpoint{of}"));
    if found.skipped.is_empty() {
        let mut steps = found.there.clone();
        steps.sort_unstable();
        let first = steps.len().saturating_sub(LISTED);
        let steps: Vec<String> = steps[first..].iter().map(Step::to_string).collect();
        return error.with_hint(format!("steps there: {}", steps.join(", ")));
    }
    let told: Vec<String> = found
        .skipped
        .iter()
        .take(LISTED)
        .map(|skipped| format!("{} ({})", legible(&skipped.name), skipped.reason))
        .collect();
    error.with_hint(format!("passed over: {}", told.join(", ")))
}
