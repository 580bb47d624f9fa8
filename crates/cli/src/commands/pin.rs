//! `runtree pin`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Keep a checkpoint whatever retention says
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Why
    #[arg(long, default_value = "pinned by hand")]
    reason: String,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    let name = session.checkpoint(&args.target, Purpose::Write)?;
    session.engine.pin(name, &args.reason)?;
    let info = session.checkpoint_info(name)?;
    super::tag::print_checkpoint(&info, "pinned", context)
}
