//! `runtree head`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::look::clean;

/// Print the head of a run's experiment, or make the run the head
///
/// An experiment is a lineage: a run and everything that was forked from it. Its head is what it has come to: the run that somebody made the
/// head, else the one that was active last.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run of the experiment
    #[arg(value_name = "REF")]
    target: Target,
    /// Make this run the head
    #[arg(long)]
    set: bool,
    /// Leave the experiment without a head that somebody set
    #[arg(long, conflicts_with = "set")]
    clear: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let (mode, purpose) = if args.set || args.clear {
        (OpenMode::ReadWrite, Purpose::Write)
    } else {
        (OpenMode::ReadOnly, Purpose::Read)
    };
    let session = context.open(mode, &[&args.target])?;
    let run = session.run(&args.target, purpose)?;
    if args.set {
        session.engine.set_head(run)?;
    }
    if args.clear {
        session.engine.clear_head(run)?;
    }
    let head = session.engine.summary(session.engine.head(run)?)?;
    if context.out.json {
        return context.out.json(&head);
    }
    context.out.line(&head.display_id)?;
    let text = format!("{}, of experiment {}.", head.name, head.experiment);
    context.out.remark(&clean(&text));
    Ok(())
}
