//! `runtree tree`

use std::collections::BTreeSet;

use runtree_core::event::RunStatus;
use runtree_core::wire::LineageTree;
use runtree_core::{Result, RunId};
use runtree_engine::{OpenMode, Purpose, RunQuery};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::look::Style;
use crate::tree::{Order, render};
use crate::trouble;

/// Runs that are looked at to find the newest families.
const RECENT_RUNS: usize = 200;
/// Families that are drawn when none is named.
const FAMILIES: usize = 10;

/// Draw the family of a run: forks, attempts, checkpoints
///
/// Each run has a line on a step axis that all runs of the family share. Without a REF, the newest families are drawn.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REFs of runs
    #[arg(value_name = "REF")]
    targets: Vec<Target>,
    /// Newest run first
    #[arg(long)]
    newest_first: bool,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let targets: Vec<&Target> = args.targets.iter().collect();
    let session = context.open(OpenMode::ReadOnly, &targets)?;
    let trees = trees(&session, &args.targets)?;
    if context.out.json {
        return match (trees.as_slice(), args.targets.len()) {
            ([tree], 1) => context.out.json(tree),
            _ => context.out.json(&trees),
        };
    }
    if trees.is_empty() {
        context
            .out
            .remark("no runs yet: runtree.init(\"my-project\") in a script starts one");
    }
    let order = if args.newest_first {
        Order::NewestFirst
    } else {
        Order::RootFirst
    };
    let look = context.out.look;
    for (index, tree) in trees.iter().enumerate() {
        if index > 0 {
            context.out.line("")?;
        }
        for line in render(tree, look, order) {
            context.out.line(line)?;
        }
        for run in tree.runs.iter().map(|run| &run.summary) {
            let died = || match run.status {
                RunStatus::Stopped => None,
                _ => trouble::died(run),
            };
            if let Some(text) = trouble::nonfinite(run).or_else(died) {
                let id = look.paint(Style::Name, &run.display_id);
                context
                    .out
                    .line(format!("{id}: {}", look.paint(Style::Bad, &text)))?;
            }
        }
    }
    Ok(())
}

fn trees(session: &Session, targets: &[Target]) -> Result<Vec<LineageTree>> {
    let engine = &session.engine;
    let mut runs: Vec<RunId> = Vec::new();
    if targets.is_empty() {
        let page = engine.runs(&RunQuery {
            project: session.project().map(str::to_owned),
            limit: RECENT_RUNS,
            metrics: Some(Vec::new()),
            ..RunQuery::default()
        })?;
        let mut roots = BTreeSet::new();
        for run in &page.runs {
            if roots.len() < FAMILIES && roots.insert(run.root.clone()) {
                runs.push(run.id.parse()?);
            }
        }
        // The newest family stands last, where the prompt is.
        runs.reverse();
    } else {
        for target in targets {
            runs.push(session.run(target, Purpose::Read)?);
        }
    }
    let mut seen = BTreeSet::new();
    let mut trees = Vec::new();
    for run in runs {
        let tree = engine.lineage(run)?;
        if seen.insert(tree.root.clone()) {
            trees.push(tree);
        }
    }
    Ok(trees)
}
