//! What `push`, `pull` and `clone` share.

use runtree_core::{ErrorKind, Result};
use runtree_engine::sync::{self, SyncCheckpoints, SyncReport, SyncSelection};
use runtree_engine::{OpenMode, Purpose, Store};
use serde::Serialize;

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;

/// How to copy.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Copy runs and their history, but only those checkpoints that a fork or a base starts from
    #[arg(long)]
    no_checkpoints: bool,
    /// Copy also what the destination has deleted, and take it out of its trash
    #[arg(long)]
    restore: bool,
    /// Only runs whose key matches this glob, and what they descend from
    #[arg(long, value_name = "GLOB")]
    keys: Option<String>,
    /// Show what is missing there; copy nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Shown {
    checkpoints: u64,
    chunks: u64,
    bytes: u64,
    deleted_there: u64,
    copied: Option<SyncReport>,
}

/// The store that is copied to. Whoever only looks makes none: where there is none yet, everything is missing.
pub(crate) fn destination(place: &str, options: &Options, context: &Context) -> Result<Store> {
    if !options.dry_run {
        return context.open_other(place, OpenMode::Create);
    }
    match context.open_other(place, OpenMode::ReadWrite) {
        Err(error) if error.kind() == ErrorKind::NotFound => sync::empty_store(),
        opened => opened,
    }
}

impl Options {
    /// What the options name of a store.
    pub(crate) fn all(&self, from: &Store) -> Result<SyncSelection> {
        let runs = self
            .keys
            .as_deref()
            .map(|keys| sync::runs_with_keys(from, keys))
            .transpose()?;
        Ok(SyncSelection {
            runs,
            checkpoints: if self.no_checkpoints {
                SyncCheckpoints::None
            } else {
                SyncCheckpoints::All
            },
            restore: self.restore,
            ..SyncSelection::default()
        })
    }

    /// What REFs of a store name beside that.
    pub(crate) fn selection(&self, session: &Session, targets: &[Target]) -> Result<SyncSelection> {
        let mut selection = self.all(session.engine.store())?;
        for target in targets {
            let run = session.run(target, Purpose::Read)?;
            let checkpoint = target
                .names_checkpoint()
                .then(|| session.checkpoint(target, Purpose::Read))
                .transpose()?;
            selection.add(run, checkpoint);
        }
        Ok(selection)
    }
}

/// Copies, with a bar, and says what was copied.
pub(crate) fn run(
    from: &Store,
    to: &Store,
    place: &str,
    selection: &SyncSelection,
    options: &Options,
    context: &mut Context,
) -> Result<(), Failure> {
    let plan = context
        .out
        .busy("comparing", || sync::plan(from, to, selection))?;
    let copied = if options.dry_run {
        None
    } else {
        let bar = context.out.bytes_bar("copying", plan.bytes);
        let report = sync::copy(from, to, &plan, &|report| {
            bar.set_position(report.bytes.min(plan.bytes));
        });
        bar.finish_and_clear();
        Some(report?)
    };
    if context.out.json {
        return context.out.json(&Shown {
            checkpoints: plan.checkpoints.len() as u64,
            chunks: plan.chunks,
            bytes: plan.bytes,
            deleted_there: plan.deleted_there,
            copied,
        });
    }
    let line = match copied {
        None => format!(
            "{} missing in {place}: {} in {}",
            human::plural(plan.checkpoints.len() as u64, "checkpoint"),
            human::bytes(plan.bytes),
            human::plural(plan.chunks, "chunk"),
        ),
        Some(report) => format!(
            "{} of {} copied to {place}: {}",
            human::plural(report.checkpoints, "checkpoint"),
            human::plural(report.runs, "run"),
            human::bytes(report.bytes),
        ),
    };
    context.out.line(line)?;
    if plan.deleted_there > 0 {
        context.out.remark(&format!(
            "{} deleted there and left out; --restore copies them.",
            human::plural(plan.deleted_there, "checkpoint")
        ));
    }
    if let Some(clashes) = copied
        .map(|report| report.clashes)
        .filter(|&clashes| clashes > 0)
    {
        context.out.remark(&format!(
            "{} taken there by other runs: those runs are found by their RunIds.",
            human::plural(clashes, "number or key")
        ));
    }
    Ok(())
}
