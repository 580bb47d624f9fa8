//! `runtree diff`

use runtree_core::wire::{DiffReport, TensorChangeKind};
use runtree_engine::{OpenMode, Purpose};

use crate::commands::show::change_lines;
use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean};
use crate::table::{Align, Cell, Table};

/// Show what differs between two runs, or two checkpoints
///
/// Two runs: config and latest metrics. With a selector on either side (`MMP-1@500 MMP-2@500`): the tensors too, with the relative
/// norm of the change and the number of elements that differ.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of the left side
    #[arg(value_name = "A")]
    a: Target,
    /// REF of the right side
    #[arg(value_name = "B")]
    b: Target,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.a, &args.b])?;
    let report = if args.a.names_checkpoint() || args.b.names_checkpoint() {
        let a = session.checkpoint(&args.a, Purpose::Read)?;
        let b = session.checkpoint(&args.b, Purpose::Read)?;
        context.out.busy("comparing tensors", || {
            session.engine.diff_checkpoints(a, b)
        })?
    } else {
        let a = session.run(&args.a, Purpose::Read)?;
        let b = session.run(&args.b, Purpose::Read)?;
        session.engine.diff_runs(a, b)?
    };
    if context.out.json {
        return context.out.json(&report);
    }
    print(&report, context)
}

fn print(report: &DiffReport, context: &mut Context) -> Result<(), Failure> {
    let out = &mut context.out;
    let look = out.look;
    out.line(look.paint(Style::Bad, &format!("--- {}", clean(&report.a))))?;
    out.line(look.paint(Style::Good, &format!("+++ {}", clean(&report.b))))?;
    for line in change_lines(&report.config, true, out) {
        out.line(line)?;
    }
    if !report.metrics.is_empty() {
        let mut table = Table::new([
            ("METRIC", Align::Flexible),
            ("A", Align::Right),
            ("AT", Align::Right),
            ("B", Align::Right),
            ("AT", Align::Right),
        ]);
        for (name, pair) in &report.metrics {
            let side = |value: Option<&runtree_core::wire::RunMetric>| {
                value.map_or_else(Default::default, |value| {
                    (human::value(value.value.0), value.step.to_string())
                })
            };
            let (a, a_at) = side(pair.a.as_ref());
            let (b, b_at) = side(pair.b.as_ref());
            table.row([
                name.as_str().into(),
                Cell::from(a),
                Cell::styled(a_at, Style::Dim),
                Cell::from(b),
                Cell::styled(b_at, Style::Dim),
            ]);
        }
        table.print(out)?;
    }
    if report.tensors.is_empty() && report.equal_tensors == 0 {
        return Ok(());
    }
    let mut table = Table::new([
        ("TENSOR", Align::Flexible),
        ("CHANGE", Align::Left),
        ("A", Align::Left),
        ("B", Align::Left),
        ("|B-A|/|A|", Align::Right),
        ("ELEMENTS", Align::Right),
    ]);
    for change in &report.tensors {
        let (word, style) = match change.change {
            TensorChangeKind::Added => ("added", Style::Good),
            TensorChangeKind::Removed => ("removed", Style::Bad),
            TensorChangeKind::Changed => ("changed", Style::Plain),
            TensorChangeKind::Reshaped => ("reshaped", Style::Warn),
        };
        table.row([
            change.name.as_str().into(),
            Cell::styled(word, style),
            change.a.clone().unwrap_or_default().into(),
            change.b.clone().unwrap_or_default().into(),
            change
                .relative_norm
                .map(|norm| human::value(norm.0))
                .unwrap_or_default()
                .into(),
            change
                .changed_elements
                .map(human::count)
                .unwrap_or_default()
                .into(),
        ]);
    }
    if !report.tensors.is_empty() {
        table.print(out)?;
    }
    out.line(look.paint(
        Style::Dim,
        &format!(
            "{} differ, {} bit-equal",
            human::plural(report.tensors.len() as u64, "tensor"),
            human::count(report.equal_tensors)
        ),
    ))
}
