//! `runtree export`

use std::path::PathBuf;

use clap::ValueEnum;
use runtree_engine::{ExportLayout, ExportOptions, OpenMode, Purpose};

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;

/// Write a checkpoint into a directory
///
/// An imported directory comes back byte for byte; a state tree becomes safetensors and JSON. Files that are there already are never
/// overwritten.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint; a bare run means its newest
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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Layout {
    /// As it was saved
    AsSaved,
    /// What `from_pretrained` loads
    Hf,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let name = session.checkpoint(&args.target, Purpose::Read)?;
    let options = ExportOptions {
        keys: args.keys,
        layout: match args.layout {
            Layout::AsSaved => ExportLayout::AsSaved,
            Layout::Hf => ExportLayout::Hf,
        },
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
