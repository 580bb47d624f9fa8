//! `runtree reindex`

use runtree_engine::OpenMode;

use crate::context::Context;
use crate::error::Failure;
use crate::human;

/// Build the index again from the store
///
/// The index is a cache: nothing is lost by deleting it, and everything comes back identical.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[])?;
    let bar = context.out.bar("reading the store");
    let report = session.engine.reindex_with(&mut |progress| {
        bar.set_length(progress.runs);
        bar.set_position(progress.runs_done);
    });
    bar.finish_and_clear();
    let report = report?;
    if context.out.json {
        return context.out.json(&report);
    }
    context.out.line(format!(
        "{}, {}, {}, {}",
        human::plural(report.runs, "run"),
        human::plural(report.attempts, "attempt"),
        human::plural(report.checkpoints, "checkpoint"),
        human::plural(report.frames, "journal frame")
    ))
}
