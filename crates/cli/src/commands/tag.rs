//! `runtree tag`, and what `untag` shares with it.

use std::collections::BTreeMap;

use runtree_core::wire::{CheckpointInfo, RunSummary};
use runtree_engine::{Annotation, OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::look::clean;

/// Tag a run, or a checkpoint if the REF has a selector
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Tags
    #[arg(value_name = "TAG", required = true)]
    tags: Vec<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    change(&args.target, args.tags, Vec::new(), context)
}

/// Adds and removes tags, and prints which there are.
pub(super) fn change(
    target: &Target,
    add: Vec<String>,
    remove: Vec<String>,
    context: &mut Context,
) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[target])?;
    if target.names_checkpoint() {
        let name = session.checkpoint(target, Purpose::Write)?;
        session
            .engine
            .annotate_checkpoint(name, BTreeMap::new(), add, remove)?;
        let info = session.checkpoint_info(name)?;
        let what = format!("tags: {}", info.tags.join(", "));
        return print_checkpoint(&info, &what, context);
    }
    let run = session.run(target, Purpose::Write)?;
    let annotation = Annotation {
        add_tags: add,
        remove_tags: remove,
        ..Annotation::default()
    };
    session.engine.annotate(run, annotation)?;
    let summary = session.engine.summary(run)?;
    let what = format!("tags: {}", summary.tags.join(", "));
    print_run(&summary, &what, context)
}

/// Says what became of a checkpoint.
pub(super) fn print_checkpoint(
    info: &CheckpointInfo,
    what: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    print_checkpoint_as(&info.reference, info, what, context)
}

/// As [`print_checkpoint`], by another REF than it has now.
pub(super) fn print_checkpoint_as(
    reference: &str,
    info: &CheckpointInfo,
    what: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    if context.out.json {
        return context.out.json(info);
    }
    context
        .out
        .line(clean(&format!("{reference} {} {what}", info.id)))
}

/// Says what became of a run, by the id it was resolved to.
pub(super) fn print_run(
    summary: &RunSummary,
    what: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    if context.out.json {
        return context.out.json(summary);
    }
    context.out.line(clean(&format!(
        "{} {} {what}",
        summary.display_id, summary.id
    )))
}
