//! `runtree undelete`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Bring back a deleted run, or a deleted checkpoint
///
/// A deleted checkpoint is named by its id, which `delete` printed and `runtree checkpoints REF --deleted --json` shows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run, or id of a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    if args.target.names_checkpoint() {
        let name = session.checkpoint(&args.target, Purpose::Write)?;
        session.engine.undelete_checkpoint(name)?;
        let info = session.checkpoint_info(name)?;
        return super::tag::print_checkpoint(&info, "is back", context);
    }
    let run = session.run(&args.target, Purpose::Write)?;
    session.engine.undelete_run(run)?;
    let summary = session.engine.summary(run)?;
    super::tag::print_run(&summary, "is back", context)
}
