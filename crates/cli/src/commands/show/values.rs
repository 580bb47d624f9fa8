//! What a run was given and what it measured: its config against its parent's, the table of its metrics.

use runtree_core::wire::{ConfigChange, MetricInfo, MetricValue};

use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean};
use crate::output::Output;
use crate::table::{Align, Cell, Table};

/// What a run's config changes.
pub(super) fn config(
    changes: &[ConfigChange],
    has_parent: bool,
    out: &mut Output,
) -> Result<(), Failure> {
    if changes.is_empty() {
        return Ok(());
    }
    let title = if has_parent {
        "config, against its parent"
    } else {
        "config"
    };
    let title = out.look.paint(Style::Dim, title);
    out.line("")?;
    out.line(title)?;
    for line in change_lines(changes, has_parent, out) {
        out.line(format!("  {line}"))?;
    }
    Ok(())
}

/// `lr 0.001 → 0.0001`, one line per key.
pub(crate) fn change_lines(
    changes: &[ConfigChange],
    both_sides: bool,
    out: &Output,
) -> Vec<String> {
    let arrow = if out.look.unicode { "→" } else { "->" };
    changes
        .iter()
        .map(|change| {
            let key = clean(&change.key);
            let before = clean(&human::json(&change.before));
            let after = clean(&human::json(&change.after));
            match (change.had_before, change.has_after) {
                (true, true) => format!(
                    "{key} {} {arrow} {}",
                    out.look.paint(Style::Bad, &before),
                    out.look.paint(Style::Good, &after)
                ),
                (false, _) if both_sides => {
                    out.look.paint(Style::Good, &format!("+ {key} {after}"))
                }
                (false, _) => format!("{key} {after}"),
                (true, false) => out.look.paint(Style::Bad, &format!("- {key} {before}")),
            }
        })
        .collect()
}

/// Which points of a metric count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Inherited ones too.
    Effective,
    /// Those that the run logged itself.
    Own,
}

/// The table of a run's metrics.
pub(super) fn metrics(
    metrics: &[MetricInfo],
    system: bool,
    scope: Scope,
    out: &mut Output,
) -> Result<(), Failure> {
    let shown: Vec<_> = metrics
        .iter()
        .filter(|metric| system || !metric.system)
        .filter(|metric| scope == Scope::Effective || metric.own_points > 0)
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    let mut table = Table::new([
        ("METRIC", Align::Flexible),
        ("LAST", Align::Right),
        ("MIN", Align::Right),
        ("AT", Align::Right),
        ("MAX", Align::Right),
        ("AT", Align::Right),
        ("POINTS", Align::Right),
        ("", Align::Left),
    ]);
    for metric in shown {
        let (last, min, max, points) = match scope {
            Scope::Effective => (Some(&metric.last), &metric.min, &metric.max, metric.points),
            Scope::Own => (
                metric.own_last.as_ref(),
                &metric.own_min,
                &metric.own_max,
                metric.own_points,
            ),
        };
        let (min, min_at) = extreme(min.as_ref());
        let (max, max_at) = extreme(max.as_ref());
        let last = last.map_or(f64::NAN, |last| last.value.0);
        let style = if last.is_finite() {
            Style::Plain
        } else {
            Style::Bad
        };
        let remark = match (metric.own_points > 0, metric.nonfinite) {
            (_, nonfinite @ 1..) => Cell::styled(
                format!("{} not finite", human::count(nonfinite)),
                Style::Bad,
            ),
            (false, 0) => Cell::styled("inherited", Style::Dim),
            (true, 0) => Cell::default(),
        };
        table.row([
            Cell::from(metric.name.as_str()),
            Cell::styled(human::value(last), style),
            min.into(),
            Cell::styled(min_at, Style::Dim),
            max.into(),
            Cell::styled(max_at, Style::Dim),
            human::count(points).into(),
            remark,
        ]);
    }
    out.line("")?;
    table.print(out)
}

fn extreme(value: Option<&MetricValue>) -> (String, String) {
    value.map_or_else(Default::default, |value| {
        (human::value(value.value.0), value.step.to_string())
    })
}
