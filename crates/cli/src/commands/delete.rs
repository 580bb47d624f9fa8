//! `runtree delete`

use runtree_core::wire::ChildInfo;
use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Children that are named; of more, how many.
const MAX_NAMED: usize = 5;

/// Delete a run, or a checkpoint if the REF has a selector
///
/// `undelete` takes it back. A deleted run's children keep what they show; a deleted checkpoint waits in the trash, and keeps its
/// bytes while a fork, a base or a pin needs them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Why
    #[arg(long, default_value = "deleted by hand")]
    reason: String,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    if args.target.names_checkpoint() {
        let name = session.checkpoint(&args.target, Purpose::Write)?;
        // A deleted checkpoint no longer answers to its step: what is printed is what it was called.
        let reference = session.checkpoint_info(name)?.reference;
        session.engine.delete_checkpoint(name, &args.reason)?;
        let info = session.checkpoint_info(name)?;
        let what = format!(
            "deleted from run {}; runtree undelete {} takes it back",
            name.run, info.id
        );
        return super::tag::print_checkpoint_as(&reference, &info, &what, context);
    }
    let run = session.run(&args.target, Purpose::Write)?;
    let children = session.engine.run(run)?.children;
    session.engine.delete_run(run)?;
    let summary = session.engine.summary(run)?;
    let what = format!(
        "deleted{}; runtree undelete {run} takes it back",
        what_children_keep(&children)
    );
    super::tag::print_run(&summary, &what, context)
}

/// Who deletes a parent wants to know whose history it is.
fn what_children_keep(children: &[ChildInfo]) -> String {
    let name = |child: &ChildInfo| child.run.display_id.clone();
    let named: Vec<String> = children.iter().take(MAX_NAMED).map(name).collect();
    match (named.as_slice(), children.len() - named.len()) {
        ([], _) => String::new(),
        ([only], 0) => format!("; its fork {only} keeps what it shows"),
        (_, 0) => format!("; its forks {} keep what they show", named.join(", ")),
        (_, more) => format!(
            "; its forks {} and {more} more keep what they show",
            named.join(", ")
        ),
    }
}
