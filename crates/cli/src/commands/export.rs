//! `runtree export`

use std::path::PathBuf;

use clap::ValueEnum;
use runtree_core::Error;
use runtree_engine::{ExportLayout, ExportOptions, OpenMode, Place, Purpose, RunLayout};

use crate::context::{Context, Session, Target};
use crate::error::Failure;
use crate::human;
use crate::look::clean;

/// Write a checkpoint into a directory
///
/// An imported directory comes back byte for byte; a state tree becomes safetensors and
/// JSON. Files that are there already are never overwritten.
///
/// `--layout art` and `prime-rl` write every checkpoint of a run, or the one of RUN@STEP,
/// as that trainer lays them out:
///
///   runtree export my-project/agent ./agent --layout art          ./agent/checkpoints/0042
///   runtree export rl/math ./outputs --layout prime-rl            ./outputs/checkpoints/step_42
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// REF of a checkpoint; a bare run means its newest, or, of a trainer's layout, all it has
    #[arg(value_name = "REF")]
    target: Target,
    /// Directory; made if it is not there
    directory: PathBuf,
    /// Only tensors whose dotted name matches this glob
    #[arg(long, value_name = "GLOB")]
    keys: Option<String>,
    /// How files are laid out
    #[arg(long, default_value = "as-saved")]
    layout: Layout,
    /// Most bytes of weights in one file of `--layout hf`; default 5 GB
    #[arg(long, value_name = "BYTES")]
    max_file_bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Layout {
    /// As it was saved
    AsSaved,
    /// What `from_pretrained` loads
    Hf,
    /// What torch.distributed.checkpoint loads from a directory; needs Python with torch
    Dcp,
    /// `checkpoints/0042` for each, as ART has them
    Art,
    /// `checkpoints/step_42` for each, as prime-rl has them
    PrimeRl,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if Place::is_address(&args.directory) {
        return Err(Error::unsupported(format!(
            "{} is an address, and export writes into directories of this machine alone",
            args.directory.display()
        ))
        .with_hint("export into a directory and copy that; runtree push copies checkpoints into a store of a bucket")
        .into());
    }
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    match args.layout {
        Layout::Art => return export_run(&args, RunLayout::Art, &session, context),
        Layout::PrimeRl => return export_run(&args, RunLayout::PrimeRl, &session, context),
        Layout::AsSaved | Layout::Hf | Layout::Dcp => {}
    }
    let name = session.checkpoint(&args.target, Purpose::Read)?;
    let layout = match args.layout {
        Layout::AsSaved | Layout::Art | Layout::PrimeRl => ExportLayout::AsSaved,
        Layout::Hf => ExportLayout::Hf,
        Layout::Dcp => {
            let id = runtree_core::CheckpointId::of(name.run, name.key);
            return Err(Error::unsupported(
                "the layout of torch.distributed.checkpoint has a pickle of torch's own, which only torch can write",
            )
            .with_hint(format!(
                "with torch installed: python -m runtree.torch export-dcp {} {} --store {}",
                quoted(&format!("{}@{id}", name.run)),
                quoted(&args.directory.display().to_string()),
                quoted(&session.engine.location()),
            ))
            .into());
        }
    };
    let options = ExportOptions {
        keys: args.keys,
        layout,
        max_file_bytes: args.max_file_bytes,
    };
    let report = context.out.busy("exporting", || {
        session.engine.export(name, &args.directory, &options)
    })?;
    if context.out.json {
        return context.out.json(&report);
    }
    context.out.line(report.directory.display().to_string())?;
    context.out.remark(&format!(
        "{}, {}.",
        human::plural(report.files, "file"),
        human::bytes(report.bytes)
    ));
    Ok(())
}

/// A run's checkpoints as a trainer lays them out.
fn export_run(
    args: &Args,
    layout: RunLayout,
    session: &Session,
    context: &mut Context,
) -> Result<(), Failure> {
    if args.keys.is_some() || args.max_file_bytes.is_some() {
        return Err(Error::invalid(
            "a trainer's layout has whole checkpoints: --keys and --max-file-bytes do not go with it",
        )
        .into());
    }
    let run = session.run(&args.target, Purpose::Read)?;
    let only = args.target.names_checkpoint();
    let only = only
        .then(|| session.checkpoint(&args.target, Purpose::Read))
        .transpose()?;
    let report = context.out.busy("exporting", || {
        session
            .engine
            .export_layout(run, only, &args.directory, layout)
    })?;
    if context.out.json {
        return context.out.json(&report);
    }
    for written in &report.written {
        context.out.line(written.directory.display().to_string())?;
    }
    for skipped in &report.skipped {
        context.out.remark(&format!(
            "skipped {}: {}",
            clean(&skipped.name),
            clean(&skipped.reason)
        ));
    }
    let files = report.written.iter().map(|written| written.files).sum();
    let bytes = report.written.iter().map(|written| written.bytes).sum();
    let there = match report.present.len() {
        0 => String::new(),
        count => format!("; {count} there already"),
    };
    context.out.remark(&format!(
        "{}, {}, {}{there}.",
        human::plural(report.written.len() as u64, "checkpoint"),
        human::plural(files, "file"),
        human::bytes(bytes)
    ));
    Ok(())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
