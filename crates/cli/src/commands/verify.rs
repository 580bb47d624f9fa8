//! `runtree verify`

use runtree_core::Error;
use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// Read every byte of a checkpoint, or of all, and check it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint [default: all of the store]
    #[arg(value_name = "REF")]
    target: Option<Target>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.target.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let name = args
        .target
        .as_ref()
        .map(|target| session.checkpoint(target, Purpose::Read))
        .transpose()?;
    let report = context
        .out
        .busy("verifying", || session.engine.verify(name))?;
    if context.out.json {
        context.out.json(&report)?;
    } else {
        for problem in &report.problems {
            context.out.line(clean(problem))?;
        }
        if report.problems.is_empty() {
            context.out.line(format!(
                "{} good: {}, {}",
                human::plural(report.checkpoints, "checkpoint"),
                human::plural(report.chunks, "chunk"),
                human::bytes(report.bytes)
            ))?;
        }
    }
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{} in {}",
        human::plural(report.problems.len() as u64, "problem"),
        human::plural(report.checkpoints, "checkpoint")
    ))
    .with_hint("what is not named above is good; load or fork an older checkpoint of the run")
    .into())
}
