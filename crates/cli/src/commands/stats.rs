//! `runtree stats`

use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, pad};

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
    ] {
        let label = look.paint(Style::Dim, &pad(label, 12));
        context.out.line(format!("{label}{text}"))?;
    }
    Ok(())
}
