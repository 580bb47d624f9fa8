//! `runtree undelete`

use runtree_core::manifest::CheckpointName;
use runtree_core::reference::{Reference, Selector};
use runtree_core::wire::CheckpointState;
use runtree_core::{ErrorKind, Result};
use runtree_engine::{CheckpointScope, OpenMode, Purpose};

use crate::context::{Context, Session, Target};
use crate::error::Failure;

/// Bring back a deleted run, or a deleted checkpoint
///
/// A deleted checkpoint is named by the id that `delete` printed, or by run and step.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
}

pub(crate) fn run(args: Args, context: &mut Context) -> std::result::Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    if args.target.names_checkpoint() {
        let name = match session.checkpoint(&args.target, Purpose::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                deleted(&session, &args.target)?.ok_or(error)?
            }
            known => known?,
        };
        session.engine.undelete_checkpoint(name)?;
        let info = session.checkpoint_info(name)?;
        return super::tag::print_checkpoint(&info, "is back", context);
    }
    let run = session.run(&args.target, Purpose::Write)?;
    session.engine.undelete_run(run)?;
    let summary = session.engine.summary(run)?;
    super::tag::print_run(&summary, "is back", context)
}

/// The newest deleted checkpoint at the step that `target` names.
fn deleted(session: &Session, target: &Target) -> Result<Option<CheckpointName>> {
    let Target::Reference(Reference {
        selector: Some(Selector::Step(step)),
        ..
    }) = target
    else {
        return Ok(None);
    };
    let run = session.run(target, Purpose::Write)?;
    let scope = CheckpointScope {
        deleted: true,
        ..CheckpointScope::default()
    };
    let checkpoints = session.engine.checkpoints(run, scope)?;
    checkpoints
        .iter()
        .filter(|info| info.state == CheckpointState::Deleted && info.step == *step)
        .max_by_key(|info| (info.attempt, info.k))
        .map(|info| session.engine.find_checkpoint(info.id.parse()?))
        .transpose()
}
