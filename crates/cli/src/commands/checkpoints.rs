//! `runtree checkpoints`

use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_engine::{CheckpointScope, OpenMode, Purpose};

use crate::context::{Context, Target, now};
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::table::{Align, Cell, Table};

/// List the checkpoints of a run, inherited ones included
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run
    #[arg(value_name = "REF")]
    target: Target,
    /// Only those that the run saved itself
    #[arg(long)]
    own: bool,
    /// Also those with parts missing
    #[arg(long)]
    pending: bool,
    /// Also those in the trash
    #[arg(long)]
    deleted: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let run = session.run(&args.target, Purpose::Read)?;
    let scope = CheckpointScope {
        inherited: !args.own,
        pending: args.pending,
        deleted: args.deleted,
    };
    let checkpoints = session.engine.checkpoints(run, scope)?;
    if context.out.json {
        return context.out.json(&checkpoints);
    }
    let now = now();
    let mut table = Table::new([
        ("STEP", Align::Right),
        ("REF", Align::Left),
        ("NAME", Align::Flexible),
        ("SIZE", Align::Right),
        ("METRICS", Align::Flexible),
        ("AGE", Align::Right),
        ("STATE", Align::Left),
    ]);
    for info in &checkpoints {
        let metrics: Vec<String> = info
            .metrics
            .iter()
            .map(|(name, value)| format!("{name}={}", human::value(value.0)))
            .collect();
        table.row([
            info.step.to_string().into(),
            Cell::styled(&info.reference, Style::Name),
            info.name.clone().unwrap_or_default().into(),
            human::bytes(info.bytes).into(),
            metrics.join(" ").into(),
            human::age(now, info.created).into(),
            Cell::styled(progress_text(info), state_style(info)),
        ]);
    }
    table.print(&mut context.out)?;
    if checkpoints.is_empty() {
        context
            .out
            .remark("no checkpoints; run.save(state) makes one");
    }
    Ok(())
}

/// What became of a checkpoint; of a pending one, how far it is.
fn progress_text(info: &CheckpointInfo) -> String {
    let text = state_text(info);
    if info.state != CheckpointState::Pending || info.parts.is_empty() {
        return text.to_owned();
    }
    let here = info.parts.iter().filter(|part| part.present).count();
    format!("{text}, {here} of {} parts", info.parts.len())
}

/// What became of a checkpoint, in a word.
pub(crate) fn state_text(info: &CheckpointInfo) -> &'static str {
    match info.state {
        CheckpointState::Pending => "pending",
        CheckpointState::Abandoned => "abandoned",
        CheckpointState::Deleted => "deleted",
        CheckpointState::Quarantined => "damaged",
        CheckpointState::Complete if info.pinned => "pinned",
        CheckpointState::Complete if info.superseded => "superseded",
        CheckpointState::Complete if info.inherited => "inherited",
        CheckpointState::Complete if !info.effective => "left behind",
        CheckpointState::Complete => "complete",
    }
}

fn state_style(info: &CheckpointInfo) -> Style {
    match info.state {
        CheckpointState::Quarantined => Style::Bad,
        CheckpointState::Complete if info.pinned => Style::Good,
        CheckpointState::Complete if info.effective && !info.superseded => Style::Plain,
        _ => Style::Dim,
    }
}
