//! `runtree push`

use runtree_engine::OpenMode;

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::transfer::{self, Options};

/// Copy what another store has not: runs with their history, and checkpoints
///
/// The other store is a directory or a bucket; it is made if it is not there (the bucket itself never is). What it has deleted is left out, and nothing is deleted
/// there. A push that is broken off is finished by the next.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to: a directory, s3://bucket/prefix, gs://…, az://… [default: RUNTREE_REMOTE]
    #[arg(long, value_name = "STORE")]
    to: Option<String>,
    /// REFs of runs, or of checkpoints: then of each run only these [default: every run]
    #[arg(value_name = "REF")]
    targets: Vec<Target>,
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.targets.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let selection = args.options.selection(&session, &args.targets)?;
    let place = context.remote(args.to.as_deref(), "--to")?;
    let other = transfer::destination(&place, &args.options, context)?;
    transfer::run(
        session.engine.store(),
        &other,
        &place,
        &selection,
        &args.options,
        context,
    )
}
