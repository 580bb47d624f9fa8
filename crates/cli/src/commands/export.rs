//! `runtree export`

use std::path::PathBuf;

use clap::ValueEnum;
use runtree_core::Error;
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
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let name = session.checkpoint(&args.target, Purpose::Read)?;
    let layout = match args.layout {
        Layout::AsSaved => ExportLayout::AsSaved,
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

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
