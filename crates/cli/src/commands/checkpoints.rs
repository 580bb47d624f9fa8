//! `runtree checkpoints`

use std::cmp::Ordering;

use clap::ValueEnum;
use runtree_core::Result;
use runtree_core::wire::{CheckpointInfo, CheckpointState};
use runtree_engine::job::Description;
use runtree_engine::{CheckpointScope, OpenMode, Purpose};

use crate::context::{Context, Target, now};
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::table::{Align, Cell, Table};

/// List the checkpoints of a run, inherited ones included
///
/// With --json and --csv each says what it is, too: its type (lora, full, whisper, sharded,
/// state or files), the model that it adapts or was made from, and the rank of an adapter.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
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
    /// What they are sorted by
    #[arg(long, value_enum, default_value = "step", hide_possible_values = false)]
    sort: Sort,
    /// In which order
    #[arg(long, value_enum, default_value = "asc")]
    order: Order,
    /// Show what each is
    #[arg(long)]
    types: bool,
    /// Print CSV to stdout
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Step,
    Created,
    Size,
    Type,
    Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

/// A checkpoint, and what it is. One whose manifest can not be read is nothing in particular.
#[derive(serde::Serialize)]
struct Listed {
    #[serde(flatten)]
    info: CheckpointInfo,
    #[serde(flatten)]
    is: Option<Description>,
}

impl Listed {
    fn kind(&self) -> &'static str {
        self.is.as_ref().map_or("", |is| is.kind.as_str())
    }

    /// What it is in a cell: `lora 16`.
    fn cell(&self) -> String {
        let rank = self.is.as_ref().and_then(|is| is.lora_rank);
        rank.map_or_else(
            || self.kind().to_owned(),
            |rank| format!("{} {rank}", self.kind()),
        )
    }
}

/// Compares what is asked for; what is equal stays in the order of steps.
fn compare(a: &Listed, b: &Listed, sort: Sort) -> Ordering {
    match sort {
        Sort::Step => a.info.step.cmp(&b.info.step),
        Sort::Created => a.info.created.cmp(&b.info.created),
        Sort::Size => a.info.bytes.cmp(&b.info.bytes),
        Sort::Type => a.kind().cmp(b.kind()),
        Sort::Id => a.info.id.cmp(&b.info.id),
    }
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let run = session.run(&args.target, Purpose::Read)?;
    let scope = CheckpointScope {
        inherited: !args.own,
        pending: args.pending,
        deleted: args.deleted,
    };
    let describes = args.types || args.csv || context.out.json || args.sort == Sort::Type;
    let mut checkpoints = Vec::new();
    for info in session.engine.checkpoints(run, scope)? {
        let is = describes.then(|| {
            info.checkpoint_name()
                .and_then(|name| session.engine.describe(name))
        });
        checkpoints.push(Listed {
            is: is.and_then(Result::ok),
            info,
        });
    }
    checkpoints.sort_by(|a, b| match args.order {
        Order::Asc => compare(a, b, args.sort),
        Order::Desc => compare(b, a, args.sort),
    });
    if context.out.json {
        return context.out.json(&checkpoints);
    }
    if args.csv {
        return print_csv(&checkpoints, context);
    }
    let now = now();
    let mut columns = vec![
        ("STEP", Align::Right),
        ("REF", Align::Left),
        ("NAME", Align::Flexible),
        ("SIZE", Align::Right),
        ("METRICS", Align::Flexible),
        ("AGE", Align::Right),
        ("STATE", Align::Left),
    ];
    if args.types {
        columns.push(("TYPE", Align::Left));
        columns.push(("BASE MODEL", Align::Flexible));
    }
    let mut table = Table::new(columns);
    for listed in &checkpoints {
        let info = &listed.info;
        let metrics: Vec<String> = info
            .metrics
            .iter()
            .map(|(name, value)| format!("{name}={}", human::value(value.0)))
            .collect();
        let mut row = vec![
            info.step.to_string().into(),
            Cell::styled(&info.reference, Style::Name),
            info.name.clone().unwrap_or_default().into(),
            human::bytes(info.bytes).into(),
            metrics.join(" ").into(),
            human::age(now, info.created).into(),
            Cell::styled(progress_text(info), state_style(info)),
        ];
        if args.types {
            let base = listed.is.as_ref().and_then(|is| is.base_model.clone());
            row.extend([listed.cell().into(), base.unwrap_or_default().into()]);
        }
        table.row(row);
    }
    table.print(&mut context.out)?;
    if checkpoints.is_empty() {
        context
            .out
            .remark("no checkpoints; run.save(state) makes one");
    }
    Ok(())
}

fn print_csv(checkpoints: &[Listed], context: &mut Context) -> Result<(), Failure> {
    context.out.line(
        "run,step,id,ref,name,created,state,size_bytes,checkpoint_type,base_model,lora_rank",
    )?;
    for listed in checkpoints {
        let (info, is) = (&listed.info, listed.is.as_ref());
        let cells = [
            info.run.display_id.clone(),
            info.step.to_string(),
            info.id.clone(),
            info.reference.clone(),
            info.name.clone().unwrap_or_default(),
            created(info),
            state_text(info).to_owned(),
            info.bytes.to_string(),
            listed.kind().to_owned(),
            is.and_then(|is| is.base_model.clone()).unwrap_or_default(),
            is.and_then(|is| is.lora_rank)
                .map(|rank| rank.to_string())
                .unwrap_or_default(),
        ];
        context.out.line(cells.map(csv_cell).join(","))?;
    }
    Ok(())
}

/// When it was saved, in UTC as RFC 3339 has it.
fn created(info: &CheckpointInfo) -> String {
    let moment = chrono::DateTime::from_timestamp_micros(info.created.0);
    moment
        .map(|moment| moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
        .unwrap_or_default()
}

/// A cell as RFC 4180 has it.
fn csv_cell(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
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
