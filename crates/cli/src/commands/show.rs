//! `runtree show`

use runtree_core::wire::{AttemptInfo, RunDetail};
use runtree_engine::{OpenMode, Purpose};

use crate::context::{Context, Target, now};
use crate::error::Failure;
use crate::look::{Style, clean, pad};
use crate::output::Output;
use crate::{human, trouble};

mod checkpoint;
mod tensors;
mod values;

use values::Scope;
pub(crate) use values::change_lines;

/// Width of the labels on the left.
const LABEL: usize = 12;

/// Show a run, or a checkpoint
///
/// A run: where it comes from, how it is doing, what went wrong and where to start again, its config against its parent's, its
/// metrics. A checkpoint (`MMP-42@500`): who needs it, its tensors, how each is stored, and what is in it: smallest and largest element,
/// mean, standard deviation (of the population), norm, over the elements that are finite, and how many are not. Statistics read the tensors: of
/// more than 256 MiB only with --stats.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run or a checkpoint
    #[arg(value_name = "REF")]
    target: Target,
    /// Show system metrics too
    #[arg(long)]
    system: bool,
    /// Show of each metric what the run logged itself, without what it inherits
    #[arg(long)]
    own: bool,
    #[command(flatten)]
    tensors: tensors::TensorArgs,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    if args.target.names_checkpoint() {
        let name = session.checkpoint(&args.target, Purpose::Read)?;
        let info = session.engine.checkpoint_detail(name)?;
        return tensors::show(
            &session.engine,
            name,
            &info,
            &args.tensors,
            &mut context.out,
        );
    }
    let run = session.run(&args.target, Purpose::Read)?;
    let detail = session.engine.run(run)?;
    if context.out.json {
        return context.out.json(&detail);
    }
    let scope = if args.own {
        Scope::Own
    } else {
        Scope::Effective
    };
    show_run(&detail, args.system, scope, context)
}

fn field(out: &mut Output, label: &str, text: &str) -> Result<(), Failure> {
    let label = out.look.paint(Style::Dim, &pad(label, LABEL));
    out.line(format!("{label}{text}"))
}

fn show_run(
    detail: &RunDetail,
    system: bool,
    scope: Scope,
    context: &mut Context,
) -> Result<(), Failure> {
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
    values::config(&detail.config_diff, run.owner.is_some(), out)?;
    values::metrics(&detail.metrics, system, scope, out)
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
