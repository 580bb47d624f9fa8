//! `runtree verify`

use runtree_core::Error;
use runtree_engine::{OpenMode, Purpose, Sample};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// Read every byte of a checkpoint, or of all, and check it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint [default: all of the store]
    #[arg(value_name = "REF")]
    target: Option<Target>,
    /// Read all of the store: what is done without a REF
    #[arg(long, conflicts_with_all = ["target", "sample"])]
    all: bool,
    /// Read so many chunks, or this part of them (0.1), chosen anew each time [default: all]
    #[arg(long, value_name = "N|FRACTION", value_parser = parse_sample)]
    sample: Option<Sample>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    // A word for what is the default.
    let _ = args.all;
    let targets: Vec<&Target> = args.target.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let name = args
        .target
        .as_ref()
        .map(|target| session.checkpoint(target, Purpose::Read))
        .transpose()?;
    let report = context.out.busy("verifying", || match args.sample {
        Some(sample) => session.engine.verify_sample(name, sample),
        None => session.engine.verify(name),
    })?;
    if context.out.json {
        context.out.json(&report)?;
    } else {
        for problem in &report.problems {
            context.out.line(clean(problem))?;
        }
        if report.problems.is_empty() {
            let sampled = report
                .sampled_from
                .map_or(String::new(), |all| format!(" of {}", human::count(all)));
            context.out.line(format!(
                "{} good: {}{sampled}, {}",
                human::plural(report.checkpoints, "checkpoint"),
                human::plural(report.chunks, "chunk"),
                human::bytes(report.bytes)
            ))?;
        }
    }
    if report.problems.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "{} in {}",
        human::plural(report.problems.len() as u64, "problem"),
        human::plural(report.checkpoints, "checkpoint")
    ))
    .with_hint(
        "what is not named above is good; runtree repair puts right what can be, else load or fork an older checkpoint of the run",
    )
    .into())
}

/// `200`, or `0.1`.
fn parse_sample(text: &str) -> Result<Sample, String> {
    let wrong =
        || format!("{text:?} is no sample: write a count, or a fraction between 0 and 1 like 0.1");
    if let Ok(count) = text.parse::<u64>() {
        return (count > 0)
            .then_some(Sample::Count(count))
            .ok_or_else(wrong);
    }
    let fraction: f64 = text.parse().map_err(|_| wrong())?;
    let is_part = fraction > 0.0 && fraction < 1.0;
    is_part
        .then_some(Sample::Fraction(fraction))
        .ok_or_else(wrong)
}
