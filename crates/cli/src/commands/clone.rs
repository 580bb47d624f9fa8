//! `runtree clone`

use runtree_engine::OpenMode;

use crate::context::Context;
use crate::error::Failure;
use crate::transfer::{self, Options};

/// Copy a whole store to a new place
///
/// As `runtree push` to a store that is not there yet. A clone that is broken off is finished by the same command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where from: a directory, s3://bucket/prefix, gs://…, az://…
    #[arg(value_name = "FROM")]
    from: String,
    /// Where to
    #[arg(value_name = "TO")]
    to: String,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let from = context.open_other(&args.from, OpenMode::ReadOnly)?;
    let to = transfer::destination(&args.to, &args.options, context)?;
    let selection = args.options.all(&from)?;
    transfer::run(&from, &to, &args.to, &selection, &args.options, context)
}
