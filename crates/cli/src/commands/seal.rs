//! `runtree seal`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;

/// Turn logged metrics into Parquet files now
///
/// A run seals its metrics when it finishes, and the next launch seals what a crashed one left; this command does what is left. The files are in
/// `runs/<RunId>/metrics/` of the store, and pyarrow, DuckDB and Polars read them. Nothing that is logged depends on it: journals stay as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REFs of runs [default: every run of the store]
    #[arg(value_name = "REF")]
    targets: Vec<Target>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.targets.iter().collect();
    let session = context.open(OpenMode::ReadWrite, &targets)?;
    let runs = if targets.is_empty() {
        session.engine.store().list_runs()?
    } else {
        let resolve = |target: &&Target| session.run(target, Purpose::Write);
        targets.iter().map(resolve).collect::<Result<_, _>>()?
    };
    let bar = context.out.bar("sealing");
    bar.set_length(runs.len() as u64);
    let mut report = runtree_engine::SealReport::default();
    let mut failed = None;
    for run in &runs {
        // One damaged run must not keep the others open.
        match session.engine.seal(&[*run], &mut |_| {}) {
            Ok(sealed) => report.add(sealed),
            Err(error) if error.kind() == runtree_core::ErrorKind::Corrupt => {
                failed.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(error) = failed {
        return Err(error.into());
    }
    if context.out.json {
        return context.out.json(&report);
    }
    context.out.line(format!(
        "{} of {} sealed in {}: {}",
        human::plural(report.points, "point"),
        human::plural(report.journals, "journal"),
        human::plural(report.segments, "file"),
        human::bytes(report.bytes),
    ))
}
