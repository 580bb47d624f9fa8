//! `runtree log`

use runtree_core::event::RunStatus;
use runtree_core::wire::RunDetail;
use runtree_core::{AttemptNumber, Result, Step, Timestamp};
use runtree_engine::{CheckpointScope, ConsoleFilter, OpenMode, Purpose};
use serde::Serialize;

use crate::commands::{checkpoints, show};
use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean, pad};

/// Lines of the console that are asked for at once.
const CONSOLE_PAGE: usize = 5000;

/// Show what happened to a run
///
/// Birth, launches, checkpoints, forks, losses and its end; newest first. With --console, what it printed instead.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run
    #[arg(value_name = "REF")]
    target: Target,
    /// Oldest first
    #[arg(long)]
    reverse: bool,
    /// At most this many
    #[arg(long, short = 'n')]
    limit: Option<usize>,
    /// Print the run's console, oldest line first
    #[arg(long)]
    console: bool,
    /// With --console: only lines at least as loud: debug, info, warning, error
    #[arg(long, requires = "console")]
    level: Option<String>,
    /// With --console: only lines with this text, capitals or not
    #[arg(long, requires = "console", value_name = "TEXT")]
    search: Option<String>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
struct Entry {
    at: Timestamp,
    kind: &'static str,
    attempt: Option<AttemptNumber>,
    step: Option<Step>,
    text: String,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let run = session.run(&args.target, Purpose::Read)?;
    if args.console {
        let filter = ConsoleFilter {
            level: args.level.as_deref().map(str::parse).transpose()?,
            search: args.search,
            ..ConsoleFilter::default()
        };
        return console(&session, run, args.limit, &filter, context);
    }
    let detail = session.engine.run(run)?;
    let mut entries = entries(&session, &detail)?;
    entries.sort_by_key(|entry| entry.at);
    if !args.reverse {
        entries.reverse();
    }
    entries.truncate(args.limit.unwrap_or(usize::MAX));
    if context.out.json {
        return context.out.json(&entries);
    }
    let look = context.out.look;
    for entry in &entries {
        let style = match entry.kind {
            "checkpoint" => Style::Mark,
            "lost" | "alert" => Style::Warn,
            "ended" => Style::Bad,
            _ => Style::Plain,
        };
        let kind = look.paint(style, &pad(entry.kind, 11));
        let time = look.paint(Style::Dim, &human::time(entry.at));
        context
            .out
            .line(format!("{time}  {kind} {}", clean(&entry.text)))?;
    }
    Ok(())
}

fn entries(session: &Session, detail: &RunDetail) -> Result<Vec<Entry>> {
    let run = &detail.summary;
    let mut entries = vec![Entry {
        at: run.created,
        kind: "born",
        attempt: None,
        step: run.fork_step,
        text: match (&run.owner, run.fork_step) {
            (Some(owner), Some(step)) => {
                format!(
                    "{} {}, a fork of {}@{step}",
                    run.display_id, run.name, owner.display_id
                )
            }
            _ => format!("{} {} in project {}", run.display_id, run.name, run.project),
        },
    }];
    entries.extend(detail.attempts.iter().map(|attempt| Entry {
        at: attempt.created,
        kind: "attempt",
        attempt: Some(attempt.attempt),
        step: attempt.base.as_ref().map(|base| base.step),
        text: format!("{} {}", attempt.attempt, show::attempt_text(attempt)),
    }));
    let id = run.id.parse()?;
    let own = CheckpointScope {
        inherited: false,
        pending: true,
        deleted: true,
    };
    entries.extend(
        session
            .engine
            .checkpoints(id, own)?
            .into_iter()
            .map(|info| Entry {
                at: info.created,
                kind: "checkpoint",
                attempt: Some(info.attempt),
                step: Some(info.step),
                text: format!(
                    "{} {} {}, {}",
                    info.reference,
                    info.name.as_deref().unwrap_or_default(),
                    human::bytes(info.bytes),
                    checkpoints::state_text(&info)
                )
                .replace("  ", " "),
            }),
    );
    for child in &detail.children {
        entries.push(Entry {
            at: session.engine.summary(child.run.id.parse()?)?.created,
            kind: "fork",
            attempt: None,
            step: Some(child.fork_step),
            text: format!(
                "{} {} at step {}",
                child.run.display_id, child.run.name, child.fork_step
            ),
        });
    }
    entries.extend(detail.files.iter().map(|file| Entry {
        at: file.at,
        kind: "file",
        attempt: None,
        step: None,
        text: format!("{} {}", file.name, human::bytes(file.bytes)),
    }));
    entries.extend(detail.alerts.iter().map(|alert| Entry {
        at: alert.at,
        kind: "alert",
        attempt: Some(alert.attempt),
        step: alert.step,
        text: format!("{}: {}", alert.level.as_str(), alert.title),
    }));
    entries.extend(detail.lost.iter().map(|lost| Entry {
        at: lost.at,
        kind: "lost",
        attempt: None,
        step: None,
        text: format!(
            "{}: {}",
            human::plural(lost.points.values().sum(), "point"),
            lost.reason
        ),
    }));
    if !matches!(run.status, RunStatus::Running | RunStatus::Created) {
        let reason = run
            .status_reason
            .as_ref()
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        let kind = if run.status == RunStatus::Completed {
            "completed"
        } else {
            "ended"
        };
        entries.push(Entry {
            at: run.last_activity,
            kind,
            attempt: Some(run.attempt),
            step: run.last_step,
            text: format!("{}{reason}", run.status.as_str()),
        });
    }
    Ok(entries)
}

fn console(
    session: &Session,
    run: runtree_core::RunId,
    limit: Option<usize>,
    filter: &ConsoleFilter,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut cursor: Option<String> = None;
    let mut all = Vec::new();
    while left > 0 {
        let page = session.engine.console(
            run,
            cursor.as_deref(),
            left.min(CONSOLE_PAGE),
            filter.clone(),
        )?;
        left -= page.lines.len().min(left);
        let ended =
            page.lines.is_empty() || page.next_cursor.is_none() || page.next_cursor == cursor;
        cursor = page.next_cursor;
        if context.out.json {
            all.extend(page.lines);
        } else {
            for line in &page.lines {
                context.out.line(clean(&line.text))?;
            }
        }
        if ended {
            break;
        }
    }
    if context.out.json {
        return context.out.json(&all);
    }
    Ok(())
}
