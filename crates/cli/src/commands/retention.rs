//! `runtree retention`

use runtree_core::retention::Policy;
use runtree_core::{Error, ProjectName};
use runtree_engine::{OpenMode, Purpose, RetentionScope};
use serde::Serialize;

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::rules::Rules;

/// Show or set which checkpoints are kept, of a run, a project or the whole store
///
/// With rules: sets them. A run that trains applies them after each of its commits, and `runtree prune` when it is given no others. The nearest
/// counts: a run's own, else its project's, else the store's. They are this store's alone; another one that this is pushed to keeps by its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a run [default: the project of --project, else the whole store]
    #[arg(value_name = "REF")]
    target: Option<Target>,
    #[command(flatten)]
    rules: Rules,
    /// Take the rules away
    #[arg(long)]
    clear: bool,
}

#[derive(Serialize)]
struct Shown {
    scope: String,
    policy: Option<Policy>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let policy = args.rules.policy()?;
    if policy.is_some() && args.clear {
        return Err(Error::invalid("--clear takes rules away, and rules were given").into());
    }
    let writes = policy.is_some() || args.clear;
    let mode = if writes {
        OpenMode::ReadWrite
    } else {
        OpenMode::ReadOnly
    };
    let targets: Vec<&Target> = args.target.iter().collect();
    let session = context.open(mode, &targets)?;
    let asked = scope(&session, args.target.as_ref())?;
    if writes {
        session.engine.set_retention(&asked, policy.as_ref())?;
    }
    // Of a run, whatever counts for it is shown; set is only its own.
    let shown = match &asked {
        RetentionScope::Run(run) => session
            .engine
            .retention(*run)?
            .map(|found| (found.scope, found.policy)),
        other => session
            .engine
            .retention_of(other)?
            .map(|policy| (other.clone(), policy)),
    };
    if context.out.json {
        let (scope, policy) = shown.map_or((asked.clone(), None), |(scope, policy)| {
            (scope, Some(policy))
        });
        return context.out.json(&Shown {
            scope: scope.to_string(),
            policy,
        });
    }
    match shown {
        Some((scope, policy)) => context.out.line(format!("{scope}: {policy}")),
        None => context.out.line(format!("{asked}: keep everything")),
    }
}

fn scope(session: &Session, target: Option<&Target>) -> Result<RetentionScope, Error> {
    match (target, session.project()) {
        (Some(target), _) => Ok(RetentionScope::Run(session.run(target, Purpose::Write)?)),
        (None, Some(project)) => Ok(RetentionScope::Project(project.parse::<ProjectName>()?)),
        (None, None) => Ok(RetentionScope::Store),
    }
}
