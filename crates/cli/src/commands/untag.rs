//! `runtree untag`

use crate::context::{Context, Target};
use crate::error::Failure;

/// Remove tags from a run, or from a checkpoint if the REF has a selector
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
    super::tag::change(&args.target, Vec::new(), args.tags, context)
}
