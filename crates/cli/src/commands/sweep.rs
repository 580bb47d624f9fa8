//! `runtree sweep`

use runtree_core::Error;
use runtree_core::wire::{RunMetric, RunSummary, SweepTable};
use runtree_engine::OpenMode;

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::look::{Style, clean};
use crate::output::Output;
use crate::table::{Align, Cell, Table};
use crate::{human, look};

/// Compare the runs that were forked from one checkpoint
///
/// A row for each, and the parent as it went on itself: the config keys that differ, and of each metric the last and the best value (the
/// smallest of what is called loss, err or the like, else the largest). A bare run means its newest checkpoint.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Metrics to show, in this order [default: the first four by name]
    #[arg(long = "metric", value_name = "NAME")]
    metrics: Vec<String>,
}

/// Metrics that are shown unasked.
const DEFAULT_METRICS: usize = 4;

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let reference = session.reference(&args.target)?;
    let table = session.engine.sweep(&reference, session.project())?;
    if context.out.json {
        return context.out.json(&table);
    }
    print(&table, &args.metrics, &mut context.out)
}

fn print(sweep: &SweepTable, asked: &[String], out: &mut Output) -> Result<(), Failure> {
    let shown: Vec<_> = if asked.is_empty() {
        sweep.metrics.iter().take(DEFAULT_METRICS).collect()
    } else {
        let known = |name: &String| {
            let mut metrics = sweep.metrics.iter();
            metrics
                .find(|metric| metric.name == *name)
                .ok_or_else(|| unknown(name, sweep))
        };
        asked.iter().map(known).collect::<Result<_, _>>()?
    };
    let mut heads = vec![
        ("RUN".to_owned(), Align::Left),
        ("NAME".to_owned(), Align::Flexible),
    ];
    heads.extend(
        sweep
            .config_keys
            .iter()
            .map(|key| (clean(key), Align::Right)),
    );
    heads.push(("STEP".to_owned(), Align::Right));
    for metric in &shown {
        let best = if metric.lower_is_better { "min" } else { "max" };
        heads.push((clean(&metric.name), Align::Right));
        heads.push((best.to_owned(), Align::Right));
    }
    let mut table = Table::new(heads);
    for run in std::iter::once(&sweep.parent).chain(&sweep.runs) {
        let mut row = vec![
            Cell::styled(&run.display_id, Style::Name),
            run.name.as_str().into(),
        ];
        row.extend(sweep.config_keys.iter().map(|key| setting(run, key)));
        let step = run.last_step.map(|step| step.to_string());
        row.push(step.unwrap_or_default().into());
        for metric in &shown {
            let value = run.metrics.get(&metric.name);
            row.push(value.map_or_else(Cell::default, |value| number(value.value.0)));
            let best = value.and_then(|value: &RunMetric| {
                let best = if metric.lower_is_better {
                    &value.min
                } else {
                    &value.max
                };
                best.as_ref()
            });
            row.push(best.map_or_else(Cell::default, |best| number(best.value.0)));
        }
        table.row(row);
    }
    let title = format!("forked from {}", sweep.reference);
    out.line(out.look.paint(look::Style::Dim, &clean(&title)))?;
    table.print(out)
}

fn unknown(name: &str, sweep: &SweepTable) -> Error {
    let names: Vec<String> = sweep
        .metrics
        .iter()
        .map(|metric| clean(&metric.name))
        .collect();
    let error = Error::not_found(format!("no run of the sweep has a metric {name:?}"));
    error.with_hint(format!("they have {}", names.join(", ")))
}

fn number(value: f64) -> Cell {
    if value.is_finite() {
        human::value(value).into()
    } else {
        Cell::styled(human::value(value), Style::Bad)
    }
}

fn setting(run: &RunSummary, key: &str) -> Cell {
    let value = super::runs::config_value(&run.config, key);
    value.map_or_else(Cell::default, |value| clean(&human::json(value)).into())
}
