//! `runtree encode`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;

/// Make cold checkpoints small now
///
/// The newest two checkpoints of a run stay as they were saved; older ones are kept as differences to earlier ones. A training run does this in the background
/// while it goes on; this command does what is left. Nothing is lost at any moment: what is encoded is read back before the original goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run [default: every run of the store]
    #[arg(value_name = "REF")]
    target: Option<Target>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.target.iter().collect();
    let session = context.open(OpenMode::ReadWrite, &targets)?;
    let runs = match &args.target {
        Some(target) => vec![session.run(target, Purpose::Write)?],
        None => session.engine.store().list_runs()?,
    };
    let waiting = match runs.as_slice() {
        [run] => session.engine.stats(Some(*run))?.waiting,
        _ => session.engine.stats(None)?.waiting,
    };
    let bar = context.out.bar("encoding");
    bar.set_length(waiting);
    let report = session.engine.encode_cold(&runs, &mut |report| {
        bar.set_position(report.checkpoints.min(waiting));
    });
    bar.finish_and_clear();
    let report = report?;
    if context.out.json {
        return context.out.json(&report);
    }
    context.out.line(format!(
        "{}: {} encoded to {}; {} freed",
        human::plural(report.checkpoints, "cold checkpoint"),
        human::bytes(report.raw_bytes),
        human::bytes(report.encoded_bytes),
        human::bytes(report.freed_bytes),
    ))
}
