//! `runtree import`

use std::path::PathBuf;

use runtree_core::event::RunStatus;
use runtree_core::{Error, ErrorKind, ProjectName, Result, RunId, Step};
use runtree_engine::{OpenMode, Purpose, RunSpec};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;

/// Save a directory as a checkpoint of a run
///
/// Byte for byte: `export` gives back the same directory. A run that is not there is
/// started, in the project of --project or of `project/run`.
///
///   runtree import ./checkpoint-500 --run llm/sft --step 500
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Directory to save
    directory: PathBuf,
    /// REF of the run
    #[arg(long, value_name = "REF")]
    run: Target,
    /// Step it belongs to
    #[arg(long, allow_negative_numbers = true)]
    step: i64,
    /// Name of the checkpoint
    #[arg(long)]
    name: Option<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if !args.directory.is_dir() {
        return Err(
            Error::not_found(format!("{} is not a directory", args.directory.display()))
                .with_hint("name the directory that holds the checkpoint's files")
                .into(),
        );
    }
    let session = context.open(OpenMode::Create, &[&args.run])?;
    let run = match session.run(&args.run, Purpose::Write) {
        Err(error) if error.kind() == ErrorKind::NotFound => start(&session, &args.run, error)?,
        known => known?,
    };
    let step = Step(args.step);
    let info = context.out.busy("importing", || {
        session
            .engine
            .import_dir(run, &args.directory, step, args.name)
    })?;
    if context.out.json {
        return context.out.json(&info);
    }
    context.out.line(&info.reference)?;
    context
        .out
        .remark(&format!("{}, {}.", info.id, human::bytes(info.bytes)));
    Ok(())
}

/// Starts the run that was named and not found. What looks like an id is a mistake, not a name.
fn start(session: &Session, target: &Target, error: Error) -> Result<RunId> {
    let Target::Reference(reference) = target else {
        return Err(error);
    };
    if reference.selector.is_some()
        || reference.nth.is_some()
        || reference.run.parse::<runtree_core::DisplayId>().is_ok()
    {
        return Err(error);
    }
    let project: ProjectName = match (&reference.project, session.project()) {
        (Some(project), _) => project.clone(),
        (None, Some(project)) => project.parse()?,
        (None, None) => {
            return Err(error
                .in_context("to start a run, its project is needed")
                .with_hint(format!(
                    "pass --run PROJECT/{} or --project PROJECT",
                    reference.run
                )));
        }
    };
    let writer = session.engine.start_run(RunSpec {
        name: Some(reference.run.clone()),
        ..RunSpec::new(project)
    })?;
    writer.finish(
        Some(RunStatus::Completed),
        Some("imported".to_owned()),
        None,
    )?;
    Ok(writer.run())
}
