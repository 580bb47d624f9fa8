//! `runtree project`

use runtree_core::{DisplayId, Error, ProjectName};
use runtree_engine::OpenMode;

use crate::context::{Context, now};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean, pad};

/// Show a project, or set the letters its runs are numbered with
///
/// `runtree project my-model-project --prefix MMP` makes the next run MMP-1. Only before the project's first run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the project
    name: ProjectName,
    /// Letters of its display ids: 1 to 8 of A-Z and 0-9, a letter first
    #[arg(long)]
    prefix: Option<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if let Some(prefix) = args.prefix {
        DisplayId::check_prefix(&prefix)?;
        let session = context.open(OpenMode::Create, &[])?;
        session.engine.set_project_prefix(&args.name, &prefix)?;
        if context.out.json {
            return context
                .out
                .json(&serde_json::json!({ "name": args.name, "prefix": prefix }));
        }
        return context.out.line(format!(
            "runs of {} are called {prefix}-1, {prefix}-2, …",
            clean(args.name.as_str())
        ));
    }
    let session = context.open(OpenMode::ReadOnly, &[])?;
    let projects = session.engine.projects()?;
    let Some(project) = projects
        .iter()
        .find(|project| project.name == args.name.as_str())
    else {
        let known: Vec<&str> = projects
            .iter()
            .map(|project| project.name.as_str())
            .collect();
        return Err(
            Error::not_found(format!("there is no project {}", args.name))
                .with_hint(format!("there are: {}", clean(&known.join(", "))))
                .into(),
        );
    };
    if context.out.json {
        return context.out.json(project);
    }
    let now = now();
    let look = context.out.look;
    for (label, text) in [
        ("project", clean(&project.name)),
        ("runs", human::count(project.runs)),
        ("running", human::count(project.running)),
        (
            "last heard",
            project
                .last_activity
                .map(|at| format!("{} ago", human::age(now, at)))
                .unwrap_or_default(),
        ),
    ] {
        let label = look.paint(Style::Dim, &pad(label, 12));
        context.out.line(format!("{label}{text}"))?;
    }
    Ok(())
}
