//! `runtree export-metrics`

use std::error::Error as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use runtree_engine::{
    MetricsExport, MetricsFormat, MetricsScope, OpenMode, Purpose, RunQuery, RunSort,
};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;

/// Write the metrics of runs to a file: Parquet, CSV or lines of JSON
///
/// One row for each point, with the run that logged it and the launch: columns run, metric, step,
/// value, timestamp, logged_by, attempt. By default what a run effectively logged, with what it
/// inherits and without what was abandoned. Floats are exact; NaN, Infinity and -Infinity are
/// spelled so.
///
///   runtree export-metrics MMP-42 -o loss.csv --metrics 'val/*'
///   runtree export-metrics --filter 'tag:paper status:completed' -o paper.parquet
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// REFs of runs
    #[arg(value_name = "REF", required_unless_present = "filter")]
    targets: Vec<Target>,
    /// Also every run that this filter holds for (see `runtree runs --help`)
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Only metrics that match this glob; may be repeated [default: all that were logged]
    #[arg(long, value_name = "GLOB")]
    metrics: Vec<String>,
    /// The machine's metrics too
    #[arg(long)]
    system: bool,
    /// parquet, csv or jsonl [default: as FILE says, else csv]
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// File to write; `-` is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Only what each run logged itself
    #[arg(long, conflicts_with = "effective")]
    own: bool,
    /// What each run effectively logged, inherited points too (the default)
    #[arg(long)]
    effective: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.targets.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let resolve = |target: &&Target| session.run(target, Purpose::Read);
    let mut runs = targets.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    if let Some(filter) = &args.filter {
        let query = RunQuery {
            filter: filter.parse()?,
            project: session.project().map(str::to_owned),
            sort: RunSort::Created,
            ..RunQuery::default()
        };
        for run in session.engine.run_ids(&query)? {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
    }
    let format = match &args.format {
        Some(format) => format.parse()?,
        None => MetricsFormat::of_path(&args.output).unwrap_or(MetricsFormat::Csv),
    };
    let what = MetricsExport {
        format,
        metrics: args.metrics,
        system: args.system,
        scope: if args.own {
            MetricsScope::Own
        } else {
            MetricsScope::Effective
        },
    };
    let bar = context.out.bar("exporting");
    bar.set_length(runs.len() as u64);
    let mut progress = |report: runtree_engine::MetricsReport| {
        bar.set_position(report.runs);
        bar.set_message(human::plural(report.points, "point"));
    };
    if args.output.as_os_str() == "-" {
        let mut out = io::BufWriter::with_capacity(1 << 18, io::stdout());
        let exported = session
            .engine
            .export_metrics(&runs, &what, &mut out, &mut progress);
        bar.finish_and_clear();
        exported.map_err(refused)?;
        out.flush()?;
        return Ok(());
    }
    let exported = session
        .engine
        .export_metrics_to(&runs, &what, &args.output, &mut progress);
    bar.finish_and_clear();
    let report = exported?;
    if context.out.json {
        return context.out.json(&report);
    }
    context.out.line(format!(
        "{} of {} of {} in {}",
        human::plural(report.points, "point"),
        human::plural(report.metrics, "metric"),
        human::plural(report.runs, "run"),
        args.output.display()
    ))
}

/// A reader of stdout that went away is no failure of the export: said as any other command says it.
fn refused(error: runtree_core::Error) -> Failure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<io::Error>()
            && cause.kind() == io::ErrorKind::BrokenPipe
        {
            return io::Error::from(io::ErrorKind::BrokenPipe).into();
        }
        source = cause.source();
    }
    error.into()
}
