//! `runtree export-html`

use std::path::PathBuf;

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;

/// Write a run's page to one HTML file to send
///
/// Header, charts of all metrics with fork marks and ghost tails, config, checkpoints, the end of the console, notes: as they are now. The file needs no server and no
/// network. Charts are exact for each of their pixels; the points themselves leave with `runtree export-metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of the run
    #[arg(value_name = "REF")]
    target: Target,
    /// File to write; `-` is stdout [default: <display id>.html]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What was written.
#[derive(Debug, serde::Serialize)]
struct Written {
    path: PathBuf,
    bytes: u64,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let run = session.run(&args.target, Purpose::Read)?;
    let engine = &session.engine;
    let page = context.out.busy("reading", || {
        engine
            .report(run)
            .and_then(|report| runtree_server::report_page(&report))
    })?;
    let path = match args.output {
        Some(path) if path.as_os_str() == "-" => return context.out.bytes(&page),
        Some(path) => path,
        None => PathBuf::from(format!("{}.html", engine.summary(run)?.display_id)),
    };
    engine.write_file(&path, &page)?;
    if context.out.json {
        return context.out.json(&Written {
            path: path.clone(),
            bytes: page.len() as u64,
        });
    }
    context.out.line(format!(
        "{} ({})",
        path.display(),
        human::bytes(page.len() as u64)
    ))
}
