//! `runtree stats`

use runtree_engine::{OpenMode, Purpose, StatsReport};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, pad};
use crate::table::{Align, Table};

/// Show what the store, or one run, holds and what sharing saves
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run [default: the whole store]
    #[arg(value_name = "REF")]
    target: Option<Target>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.target.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let run = args
        .target
        .as_ref()
        .map(|target| session.run(target, Purpose::Read))
        .transpose()?;
    let report = context.out.busy("counting", || session.engine.stats(run))?;
    if context.out.json {
        return context.out.json(&report);
    }
    let saved = report.logical_bytes.saturating_sub(report.stored_bytes);
    let share = if report.logical_bytes == 0 {
        String::new()
    } else {
        format!(
            " ({:.1} %)",
            100.0 * saved as f64 / report.logical_bytes as f64
        )
    };
    let look = context.out.look;
    for (label, text) in [
        ("store", session.engine.location()),
        ("runs", human::count(report.runs)),
        ("checkpoints", human::count(report.checkpoints)),
        ("each whole", human::bytes(report.logical_bytes)),
        (
            "stored",
            format!(
                "{} in {}",
                human::bytes(report.stored_bytes),
                human::plural(report.chunks, "chunk")
            ),
        ),
        ("saved", format!("{}{share}", human::bytes(saved))),
        ("differences", depths(&report)),
        ("waiting", waiting(&report)),
    ] {
        let label = look.paint(Style::Dim, &pad(label, 13));
        context.out.line(format!("{label}{text}"))?;
    }
    if report.rows.is_empty() {
        return Ok(());
    }
    let of = if run.is_some() { "checkpoint" } else { "run" };
    let mut table = Table::new([
        (of, Align::Flexible),
        ("checkpoints", Align::Right),
        ("whole", Align::Right),
        ("stored", Align::Right),
        ("depth", Align::Right),
        ("waiting", Align::Right),
    ]);
    for row in &report.rows {
        table.row([
            row.reference.as_str().into(),
            human::count(row.checkpoints).into(),
            human::bytes(row.logical_bytes).into(),
            human::bytes(row.stored_bytes).into(),
            human::count(row.depth).into(),
            human::count(row.waiting).into(),
        ]);
    }
    context.out.line("")?;
    table.print(&mut context.out)
}

/// How deep differences go: `12 at depth 1, 4 at depth 2`.
fn depths(report: &StatsReport) -> String {
    let each: Vec<String> = (1..)
        .zip(&report.depths)
        .filter(|(_, chunks)| **chunks > 0)
        .map(|(depth, chunks)| format!("{} at depth {depth}", human::plural(*chunks, "chunk")))
        .collect();
    if each.is_empty() {
        return "none".to_owned();
    }
    each.join(", ")
}

/// What encoders have left to do.
fn waiting(report: &StatsReport) -> String {
    match report.waiting {
        0 => "nothing to encode".to_owned(),
        count => format!(
            "{} to encode: runtree encode",
            human::plural(count, "cold checkpoint")
        ),
    }
}
