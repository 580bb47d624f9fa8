//! `runtree annotate`

use std::collections::BTreeMap;

use runtree_core::event::RunStatus;
use runtree_core::{Error, Result};
use runtree_engine::{Annotation, OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;

/// Say something about a run or a checkpoint
///
/// On a run, KEY=VALUE sets config keys; --name, --notes and --status change those.
/// On a checkpoint (`MMP-42@500`), KEY=VALUE gives it metric values, by which
/// `best:METRIC` and retention then rank it.
///
///   runtree annotate MMP-42 seed=3 --notes "warm-up was too short"
///   runtree annotate MMP-42@500 eval/mmlu=0.61
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Config keys of a run, metric values of a checkpoint
    #[arg(value_name = "KEY=VALUE")]
    values: Vec<String>,
    /// New name of the run
    #[arg(long)]
    name: Option<String>,
    /// Notes of the run; empty removes them
    #[arg(long)]
    notes: Option<String>,
    /// Status of the run: completed, failed, stopped or lost
    #[arg(long)]
    status: Option<RunStatus>,
    /// Why it has that status
    #[arg(long, requires = "status")]
    reason: Option<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let about_run = args.name.is_some() || args.notes.is_some() || args.status.is_some();
    if args.values.is_empty() && !about_run {
        return Err(Error::invalid("nothing to say: no KEY=VALUE and no option")
            .with_hint("runtree annotate --help shows what can be said")
            .into());
    }
    let session = context.open(OpenMode::ReadWrite, &[&args.target])?;
    if args.target.names_checkpoint() {
        if about_run {
            return Err(Error::invalid("a checkpoint takes KEY=VALUE metrics only")
                .with_hint("leave the selector out to speak of the run")
                .into());
        }
        let metrics = metrics(&args.values)?;
        let name = session.checkpoint(&args.target, Purpose::Write)?;
        session
            .engine
            .annotate_checkpoint(name, metrics, Vec::new(), Vec::new())?;
        let info = session.checkpoint_info(name)?;
        return super::tag::print_checkpoint(&info, "annotated", context);
    }
    let run = session.run(&args.target, Purpose::Write)?;
    let annotation = Annotation {
        name: args.name,
        notes: args.notes,
        config_patch: (!args.values.is_empty())
            .then(|| super::fork::assignments(&args.values))
            .transpose()?,
        status: args.status.map(|status| (status, args.reason)),
        ..Annotation::default()
    };
    session.engine.annotate(run, annotation)?;
    let summary = session.engine.summary(run)?;
    super::tag::print_run(&summary, "annotated", context)
}

fn metrics(pairs: &[String]) -> Result<BTreeMap<String, f64>> {
    pairs
        .iter()
        .map(|pair| {
            pair.rsplit_once('=')
                .filter(|(name, _)| !name.is_empty())
                .and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .ok_or_else(|| {
                    Error::invalid(format!("{pair:?} is not METRIC=NUMBER"))
                        .with_hint("for example eval/mmlu=0.61")
                })
        })
        .collect()
}
