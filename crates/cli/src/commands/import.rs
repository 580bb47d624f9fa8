//! `runtree import`

use std::path::PathBuf;

use clap::ValueEnum;
use runtree_core::event::RunStatus;
use runtree_core::{Error, ErrorKind, ProjectName, Result, RunId, Step};
use runtree_engine::{
    DirectoryLayout, ImportInto, OpenMode, Place, Purpose, RunImport, RunLayout, RunSpec,
};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// Save a directory as a checkpoint of a run, or all that a trainer wrote
///
/// Byte for byte: `export` gives back the same directory. A run that is not there is
/// started, in the project of --project or of `project/run`. What is in a bucket is
/// fetched, one checkpoint at a time.
///
///   runtree import ./checkpoint-500 --run llm/sft --step 500
///
/// `--layout art` and `prime-rl` take in every whole checkpoint of a model or run, each
/// at its step, and say what they pass over; of ART also history.jsonl, as metrics. Again,
/// only what is missing is taken in.
///
///   runtree import .art/my-project/models/agent --layout art --run my-project/agent
///   runtree import s3://bucket/outputs/math --layout prime-rl --run rl/math
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Directory to save, or an address: s3://bucket/prefix
    directory: PathBuf,
    /// REF of the run
    #[arg(long, value_name = "REF")]
    run: Target,
    /// Step it belongs to; of a trainer's layout, the only one to take in
    #[arg(long, allow_negative_numbers = true)]
    step: Option<i64>,
    /// Name of the checkpoint
    #[arg(long)]
    name: Option<String>,
    /// What the directory is
    #[arg(long, default_value = "as-saved")]
    layout: Layout,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Layout {
    /// Any directory: one checkpoint
    AsSaved,
    /// A model or adapter that `from_pretrained` loads
    Hf,
    /// What torch.distributed.checkpoint wrote
    Dcp,
    /// ART's models/NAME, or its checkpoints
    Art,
    /// prime-rl's output_dir, or its checkpoints
    PrimeRl,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.layout {
        Layout::AsSaved => import_one(args, DirectoryLayout::Any, context),
        Layout::Hf => import_one(args, DirectoryLayout::Hf, context),
        Layout::Dcp => import_one(args, DirectoryLayout::Dcp, context),
        Layout::Art => import_run(args, RunLayout::Art, context),
        Layout::PrimeRl => import_run(args, RunLayout::PrimeRl, context),
    }
}

fn import_one(args: Args, layout: DirectoryLayout, context: &mut Context) -> Result<(), Failure> {
    let step = args.step.map(Step).ok_or_else(|| {
        Error::invalid("a directory says nothing of its step")
            .with_hint("pass --step N; --layout art and prime-rl know the steps of a whole run")
    })?;
    let place = Place::of(&args.directory)?;
    let session = context.open(OpenMode::Create, &[&args.run])?;
    let into = target(&session, &args.run)?;
    let info = context.out.busy("importing", || {
        let incoming = session.engine.incoming(&place, layout)?;
        let run = match into {
            ImportInto::Run(run) => run,
            ImportInto::New { project, name } => start(&session, project, name)?,
        };
        session
            .engine
            .import_dir(run, incoming.path(), step, args.name)
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

fn import_run(args: Args, layout: RunLayout, context: &mut Context) -> Result<(), Failure> {
    if args.name.is_some() && args.step.is_none() {
        return Err(Error::invalid("--name is that of one checkpoint")
            .with_hint("pass --step, too, or leave it out")
            .into());
    }
    let import = RunImport {
        place: Place::of(&args.directory)?,
        layout,
        step: args.step.map(Step),
        name: args.name,
    };
    let session = context.open(OpenMode::Create, &[&args.run])?;
    let into = target(&session, &args.run)?;
    let report = context
        .out
        .busy("importing", || session.engine.import_layout(&import, &into))?;
    if context.out.json {
        return context.out.json(&report);
    }
    for checkpoint in &report.imported {
        context.out.line(&checkpoint.reference)?;
    }
    for skipped in &report.skipped {
        let (name, reason) = (clean(&skipped.name), clean(&skipped.reason));
        context.out.remark(&format!("skipped {name}: {reason}"));
    }
    let bytes = report
        .imported
        .iter()
        .map(|checkpoint| checkpoint.bytes)
        .sum();
    let count = report.imported.len() as u64;
    let mut said = vec![format!(
        "{}, {}",
        human::plural(count, "checkpoint"),
        human::bytes(bytes)
    )];
    if !report.present.is_empty() {
        said.push(format!("{} here already", report.present.len()));
    }
    if report.logged_steps > 0 {
        let steps = human::plural(report.logged_steps, "step");
        said.push(format!("metrics of {steps}"));
    }
    if report.unreadable_lines > 0 {
        let lines = human::plural(report.unreadable_lines, "line");
        said.push(format!("{lines} of history.jsonl can not be read"));
    }
    context.out.remark(&format!("{}.", said.join("; ")));
    Ok(())
}

/// The run that is named, or that is to be started. What looks like an id is a mistake, not a name.
fn target(session: &Session, named: &Target) -> Result<ImportInto> {
    let error = match session.run(named, Purpose::Write) {
        Ok(run) => return Ok(ImportInto::Run(run)),
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        Err(error) => return Err(error),
    };
    let Target::Reference(reference) = named else {
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
    Ok(ImportInto::New {
        project,
        name: reference.run.clone(),
    })
}

fn start(session: &Session, project: ProjectName, name: String) -> Result<RunId> {
    let writer = session.engine.start_run(RunSpec {
        name: Some(name),
        ..RunSpec::new(project)
    })?;
    writer.finish(
        Some(RunStatus::Completed),
        Some("imported".to_owned()),
        None,
    )?;
    Ok(writer.run())
}
