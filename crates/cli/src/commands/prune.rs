//! `runtree prune`

use runtree_core::retention::Policy;
use runtree_core::{Error, RunId};
use runtree_engine::{OpenMode, PrunePlan, Purpose, TrashBound, UnknownMetric};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::rules::Rules;
use crate::table::{Align, Cell, Table};

/// Delete checkpoints of a run that no rule keeps
///
/// A checkpoint stays if one of the rules keeps it. Without a rule, those that `runtree retention` or `init(retention=...)` said count: of the run, its
/// project or the store. Whatever they are, these stay: the newest checkpoint that can be loaded, what is pinned, tagged or in use, what a run was
/// forked at or started from, and what is damaged. Only what the run itself saved can go.
///
/// What goes is in the trash: `runtree undelete` takes it back as long as it is there. The trash of a run keeps two checkpoints, and at most
/// 5 % of the free disk; what is over that is freed now.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REFs of runs
    #[arg(value_name = "REF", required_unless_present = "all")]
    targets: Vec<Target>,
    /// Every run of the store; without rules here, every run that has some of its own, of its project or of the store
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    #[command(flatten)]
    rules: Rules,
    /// Show what would go and why, and what that would free; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mode = if args.dry_run {
        OpenMode::ReadOnly
    } else {
        OpenMode::ReadWrite
    };
    let targets: Vec<&Target> = args.targets.iter().collect();
    let session = context.open(mode, &targets)?;
    let policy = args.rules.policy()?;
    let runs: Vec<RunId> = if args.all {
        session.engine.store().list_runs()?
    } else {
        let resolve = |target: &&Target| session.run(target, Purpose::Write);
        targets.iter().map(resolve).collect::<Result<_, _>>()?
    };
    let mut infos = Vec::new();
    for run in runs {
        let Some(policy) = policy_of(&session, run, policy.as_ref(), args.all)? else {
            continue;
        };
        let unknown = UnknownMetric::Refuse;
        let plan = context.out.busy("reading checkpoints", || {
            session.engine.plan_prune(run, &policy, unknown)
        })?;
        let applied = if args.dry_run {
            None
        } else {
            Some(context.out.busy("deleting checkpoints", || {
                session
                    .engine
                    .apply_prune(&plan, None, TrashBound::default())
            })?)
        };
        if context.out.json {
            infos.push(session.engine.prune_info(&plan, applied.as_ref())?);
            continue;
        }
        print(&plan, context)?;
        let all = plan.freed_bytes.unwrap_or(0);
        let at_once = plan.freed_at_once.unwrap_or(all).min(all);
        context.out.remark(&match &applied {
            None if at_once == all => format!("would free {} of run {}.", human::bytes(all), plan.run),
            None => format!(
                "would free {} of run {}, and {} more when the last that go have left its trash.",
                human::bytes(at_once),
                plan.run,
                human::bytes(all - at_once)
            ),
            Some(report) => format!(
                "{} of run {} in the trash, {} freed by emptying it; runtree undelete takes back what is there.",
                human::plural(report.deleted.len() as u64, "checkpoint"),
                plan.run,
                human::bytes(report.trash.freed_bytes),
            ),
        });
    }
    if context.out.json {
        return context.out.json(&infos);
    }
    Ok(())
}

/// The rules of the command line, else those that were kept. With `--all` a run without any is passed over.
fn policy_of(
    session: &Session,
    run: RunId,
    given: Option<&Policy>,
    all: bool,
) -> Result<Option<Policy>, Error> {
    let policy = match given {
        Some(policy) => Some(policy.clone()),
        None => session.engine.retention(run)?.map(|origin| origin.policy),
    };
    if policy.is_none() && !all {
        return Err(Error::invalid(format!(
            "nothing says which checkpoints of run {run} to keep"
        ))
        .with_hint("give a rule, like --keep-last 2, or set one with runtree retention"));
    }
    Ok(policy)
}

fn print(plan: &PrunePlan, context: &mut Context) -> Result<(), Failure> {
    let mut table = Table::new([
        ("STEP", Align::Right),
        ("CHECKPOINT", Align::Left),
        ("SIZE", Align::Right),
        ("", Align::Left),
        ("WHY", Align::Flexible),
    ]);
    for decision in &plan.decisions {
        let (word, style) = if decision.keep {
            ("keep", Style::Good)
        } else {
            ("delete", Style::Bad)
        };
        let why: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        table.row([
            decision.name.key.step.to_string().into(),
            Cell::styled(decision.id().to_string(), Style::Name),
            human::bytes(decision.bytes).into(),
            Cell::styled(word, style),
            why.join("; ").into(),
        ]);
    }
    table.print(&mut context.out)?;
    if plan.decisions.is_empty() {
        context.out.remark("the run has saved no checkpoint.");
    }
    Ok(())
}
