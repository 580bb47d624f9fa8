//! `runtree unpin`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Take a pin back
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    let name = session.checkpoint(&args.target, Purpose::Write)?;
    session.engine.unpin(name)?;
    let info = session.checkpoint_info(name)?;
    super::tag::print_checkpoint(&info, "unpinned", context)
}
