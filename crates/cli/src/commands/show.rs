//! `runtree show`

use runtree_core::wire::{AttemptInfo, CheckpointInfo, ConfigChange, MetricInfo, RunDetail};
use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target, now};
use crate::error::Failure;
use crate::look::{Style, clean, pad};
use crate::output::Output;
use crate::table::{Align, Cell, Table};
use crate::{human, trouble};

/// Width of the labels on the left.
const LABEL: usize = 12;

/// Show a run, or a checkpoint
///
/// A run: where it comes from, how it is doing, what went wrong and where to start again, its config against its parent's, its
/// metrics. A checkpoint (`MMP-42@500`): what is in it and who needs it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Show system metrics too
    #[arg(long)]
    system: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    if args.target.names_checkpoint() {
        let name = session.checkpoint(&args.target, Purpose::Read)?;
        let info = session.engine.checkpoint_detail(name)?;
        if context.out.json {
            return context.out.json(&info);
        }
        return checkpoint(&info, &mut context.out);
    }
    let run = session.run(&args.target, Purpose::Read)?;
    let detail = session.engine.run(run)?;
    if context.out.json {
        return context.out.json(&detail);
    }
    show_run(&detail, args.system, context)
}

fn field(out: &mut Output, label: &str, text: &str) -> Result<(), Failure> {
    let label = out.look.paint(Style::Dim, &pad(label, LABEL));
    out.line(format!("{label}{text}"))
}

fn show_run(detail: &RunDetail, system: bool, context: &mut Context) -> Result<(), Failure> {
    let now = now();
    let out = &mut context.out;
    let run = &detail.summary;
    let look = out.look;
    out.line(format!(
        "{} {}",
        look.paint(Style::Name, &run.display_id),
        clean(&run.name)
    ))?;
    let status = look.paint(human::status_style(run.status), run.status.as_str());
    let deleted = if run.deleted { ", deleted" } else { "" };
    field(out, "status", &format!("{status}{deleted}"))?;
    for text in [trouble::nonfinite(run), trouble::died(run)]
        .into_iter()
        .flatten()
    {
        field(out, "", &look.paint(Style::Bad, &text))?;
    }
    field(out, "run id", &run.id)?;
    if let Some(key) = &run.key {
        field(out, "key", &clean(key))?;
    }
    field(out, "project", &clean(&run.project))?;
    if let (Some(owner), Some(step)) = (&run.owner, run.fork_step) {
        let declared = match &run.parent {
            Some(parent) if parent.id != owner.id => format!(", by way of {}", parent.display_id),
            _ => String::new(),
        };
        field(
            out,
            "forked from",
            &format!(
                "{}@{step} {}{declared}",
                owner.display_id,
                clean(&owner.name)
            ),
        )?;
    }
    if let Some(base) = &run.base {
        field(out, "started from", &clean(base))?;
    }
    field(
        out,
        "created",
        &format!(
            "{} ({} ago)",
            human::time(run.created),
            human::age(now, run.created)
        ),
    )?;
    let last = run.last_step.map_or_else(
        || "nothing logged".to_owned(),
        |step| format!("step {step}"),
    );
    field(
        out,
        "last",
        &format!(
            "{last}, heard of {} ago",
            human::age(now, run.last_activity)
        ),
    )?;
    if !run.tags.is_empty() {
        field(out, "tags", &clean(&run.tags.join(", ")))?;
    }
    if let Some(notes) = &detail.notes {
        for (index, line) in notes.lines().enumerate() {
            field(out, if index == 0 { "notes" } else { "" }, &clean(line))?;
        }
    }
    field(out, "checkpoints", &human::count(run.checkpoints))?;
    if detail.attempts.len() > 1 {
        for attempt in &detail.attempts {
            field(
                out,
                &format!("attempt {}", attempt.attempt),
                &attempt_text(attempt),
            )?;
        }
    }
    if let Some(report) = &detail.resume_report {
        let good = report.diverged_at.is_none();
        let style = if good { Style::Good } else { Style::Warn };
        field(out, "resumed", &look.paint(style, &clean(&report.text)))?;
    }
    for child in &detail.children {
        field(
            out,
            "fork",
            &format!(
                "{} {} at {} ({})",
                child.run.display_id,
                clean(&child.run.name),
                child.fork_step,
                child.status.as_str()
            ),
        )?;
    }
    for lost in &detail.lost {
        let points: u64 = lost.points.values().sum();
        let text = format!(
            "{}: {}",
            human::plural(points, "point"),
            clean(&lost.reason)
        );
        field(out, "lost", &look.paint(Style::Warn, &text))?;
    }
    for file in &detail.files {
        field(
            out,
            "file",
            &format!("{} ({})", clean(&file.name), human::bytes(file.bytes)),
        )?;
    }
    config(&detail.config_diff, run.owner.is_some(), out)?;
    metrics(&detail.metrics, system, out)
}

/// A launch in words: what it is built upon, what it logged, what of it was given up.
pub(crate) fn attempt_text(attempt: &AttemptInfo) -> String {
    use runtree_core::manifest::AttemptKind;
    let kind = match attempt.kind {
        AttemptKind::Start => "started",
        AttemptKind::Fork => "forked",
        AttemptKind::Resume => "resumed",
        AttemptKind::Rewind => "rewound",
    };
    let base = attempt.base.as_ref().map_or_else(String::new, |base| {
        format!(" at {}@{}", base.run.display_id, base.step)
    });
    let logged = attempt.steps.as_ref().map_or_else(
        || ", logged nothing".to_owned(),
        |steps| format!(", logged {}..{}", steps.first, steps.last),
    );
    let given_up = match (attempt.ghost_from, &attempt.steps) {
        (Some(ghost), Some(steps)) => format!(", {ghost}..{} given up", steps.last),
        _ => String::new(),
    };
    format!("{kind}{base}{logged}{given_up}")
}

fn config(changes: &[ConfigChange], has_parent: bool, out: &mut Output) -> Result<(), Failure> {
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

fn metrics(metrics: &[MetricInfo], system: bool, out: &mut Output) -> Result<(), Failure> {
    let shown: Vec<_> = metrics
        .iter()
        .filter(|metric| system || !metric.system)
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
        let (min, min_at) = extreme(metric.min.as_ref());
        let (max, max_at) = extreme(metric.max.as_ref());
        let last = metric.last.value.0;
        let style = if last.is_finite() {
            Style::Plain
        } else {
            Style::Bad
        };
        let remark = match (metric.own, metric.nonfinite) {
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
            human::count(metric.points).into(),
            remark,
        ]);
    }
    out.line("")?;
    table.print(out)
}

fn extreme(value: Option<&runtree_core::wire::MetricValue>) -> (String, String) {
    value.map_or_else(Default::default, |value| {
        (human::value(value.value.0), value.step.to_string())
    })
}

fn checkpoint(info: &CheckpointInfo, out: &mut Output) -> Result<(), Failure> {
    let look = out.look;
    out.line(format!(
        "{} {}",
        look.paint(Style::Name, &clean(&info.reference)),
        info.name.as_deref().map(clean).unwrap_or_default()
    ))?;
    field(out, "id", &info.id)?;
    field(
        out,
        "run",
        &format!("{} {}", info.run.display_id, clean(&info.run.name)),
    )?;
    field(
        out,
        "step",
        &format!(
            "{} (attempt {}, save {})",
            info.step,
            info.attempt,
            info.k + 1
        ),
    )?;
    field(out, "state", super::checkpoints::state_text(info))?;
    field(out, "created", &human::time(info.created))?;
    let stored = info
        .stored_bytes
        .map(|stored| format!(", {} stored", human::bytes(stored)))
        .unwrap_or_default();
    field(
        out,
        "size",
        &format!(
            "{} in {}{stored}",
            human::bytes(info.bytes),
            human::plural(info.tensors, "tensor")
        ),
    )?;
    for (name, value) in &info.metrics {
        field(
            out,
            "metric",
            &format!("{} {}", clean(name), human::value(value.0)),
        )?;
    }
    if !info.tags.is_empty() {
        field(out, "tags", &clean(&info.tags.join(", ")))?;
    }
    for part in &info.parts {
        let size = if part.present {
            human::bytes(part.bytes)
        } else {
            "missing".to_owned()
        };
        field(
            out,
            "part",
            &format!("{} rank {}: {size}", clean(&part.component), part.rank),
        )?;
    }
    for fork in &info.forks {
        field(
            out,
            "fork",
            &format!("{} {}", fork.display_id, clean(&fork.name)),
        )?;
    }
    Ok(())
}
