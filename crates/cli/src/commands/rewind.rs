//! `runtree rewind`

use runtree_core::Error;
use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Take a run back to a step, in place
///
/// The next launch that resumes the run continues from there. What was logged after it is not deleted: it becomes a ghost tail. To
/// keep the run as it is and try something else, fork it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF with a selector, like MMP-42@500 or MMP-42@last-good
    #[arg(value_name = "REF@STEP")]
    target: Target,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if !args.target.names_checkpoint() {
        return Err(Error::invalid("to which step? the REF has no selector")
            .with_hint("for example runtree rewind MMP-42@500")
            .into());
    }
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    let reference = session.reference(&args.target)?;
    let resolved = session
        .engine
        .resolve(&reference, session.project(), Purpose::Write)?;
    let step = resolved
        .step
        .ok_or_else(|| Error::invalid(format!("{reference} names no step")))?;
    let attempt = session.engine.rewind(resolved.run, step)?;
    let summary = session.engine.summary(resolved.run)?;
    if context.out.json {
        return context.out.json(&summary);
    }
    context.out.line(format!(
        "{} {} is at step {step} again, as attempt {attempt}.",
        summary.display_id, summary.id
    ))
}
