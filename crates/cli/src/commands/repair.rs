//! `runtree repair`

use runtree_core::Error;
use runtree_engine::{OpenMode, RepairReport};

use crate::context::Context;
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// Read every byte, and put right what can be
///
/// A damaged object goes if another one holds the same bytes. What is damaged or missing and nowhere else here is fetched from another store, if one is named. If that has
/// it neither, nothing counts on it any more: the next save of these bytes heals every checkpoint that needs them. Until then those are listed here and can not be loaded.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing, say what would be
    #[arg(long)]
    dry_run: bool,
    /// Another store that may have what is lost here: a directory, s3://bucket/prefix, gs://…, az://…
    #[arg(long, value_name = "STORE")]
    from: Option<String>,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mode = if args.dry_run {
        OpenMode::ReadOnly
    } else {
        OpenMode::ReadWrite
    };
    let session = context.open(mode, &[])?;
    let there = args
        .from
        .as_deref()
        .map(|place| context.open_other(place, OpenMode::ReadOnly))
        .transpose()?;
    let report = context.out.busy("reading", || {
        session.engine.repair(args.dry_run, there.as_ref())
    })?;
    if context.out.json {
        context.out.json(&report)?;
    } else {
        print(&report, context)?;
    }
    let unreadable = report.unreadable.len() as u64;
    if unreadable == 0 && report.problems.is_empty() {
        return Ok(());
    }
    let problems = human::plural(report.problems.len() as u64, "other problem");
    Err(Error::corrupt(format!(
        "{} can not be read, {problems}",
        human::plural(unreadable, "checkpoint")
    ))
    .with_hint(if args.from.is_some() {
        "load or fork an older checkpoint of the run; give one up with runtree delete ID"
    } else {
        "if another store has them: runtree repair --from STORE; else fork an older checkpoint of the run, or give one up with runtree delete ID"
    })
    .into())
}

fn print(report: &RepairReport, context: &mut Context) -> Result<(), Failure> {
    let would = if report.dry_run { "would be " } else { "" };
    let mut words = vec![format!(
        "{} read, {} damaged",
        human::plural(report.chunks, "chunk"),
        human::plural(report.damaged_objects, "object")
    )];
    if report.removed_objects > 0 {
        words.push(format!(
            "{} {would}removed, another holds the same",
            human::count(report.removed_objects)
        ));
    }
    if report.refetched_chunks + report.refetched_records > 0 {
        words.push(format!(
            "{} and {} {would}fetched",
            human::plural(report.refetched_chunks, "chunk"),
            human::plural(report.refetched_records, "record")
        ));
    }
    if report.condemned_objects > 0 && !report.unreadable.is_empty() {
        words.push(format!(
            "{} {would}put out of use until the same bytes are saved again",
            human::count(report.condemned_objects)
        ));
    }
    if report.mended_lists > 0 {
        words.push(format!(
            "lists of files of {} {would}written anew",
            human::plural(report.mended_lists, "run")
        ));
    }
    context.out.line(words.join("; "))?;
    for lost in &report.unreadable {
        context.out.line(format!(
            "{}: {} ({}) can not be read",
            lost.what,
            human::plural(lost.chunks, "chunk"),
            human::bytes(lost.bytes)
        ))?;
    }
    for problem in &report.problems {
        context.out.line(clean(problem))?;
    }
    Ok(())
}
