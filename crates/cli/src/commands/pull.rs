//! `runtree pull`

use runtree_engine::OpenMode;

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::transfer::{self, Options};

/// Copy what this store has not from another one: runs with their history, and checkpoints
///
/// What this store has deleted is left out, unless `--restore` is given. A pull that is broken off is finished by the next.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where from: a directory, s3://bucket/prefix, gs://…, az://… [default: RUNTREE_REMOTE]
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
    /// REFs of runs there, or of checkpoints: then of each run only these [default: every run]
    #[arg(value_name = "REF")]
    targets: Vec<Target>,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let place = context.remote(args.from.as_deref(), "--from")?;
    let there = context.open_at(&place, OpenMode::ReadOnly)?;
    let selection = args.options.selection(&there, &args.targets)?;
    let here = context.location(None)?;
    let here = transfer::destination(&here.to_string_lossy(), &args.options, context)?;
    transfer::run(
        there.engine.store(),
        &here,
        "this store",
        &selection,
        &args.options,
        context,
    )
}
