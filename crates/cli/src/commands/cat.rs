//! `runtree cat`

use runtree_core::manifest::{CheckpointName, EntryContent, Extent};
use runtree_core::state::index::TensorIndex;
use runtree_core::{Error, Result, wire};
use runtree_engine::{Engine, LoadedManifest, OpenMode, Purpose, ReadJob};
use serde::Serialize;

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::Style;
use crate::table::{Align, Cell, Table};

mod elements;
mod tensor;

/// Print what is in a checkpoint
///
/// Without a NAME: the list of its tensors and files. With the dotted name of a tensor: its first values, one a line. With an index behind it, as
/// numpy reads it ('layer.weight[0:4, 7]', '[-1]', '[..., ::2]'): what that selects, a line for each row. Only blocks that hold what is
/// printed are read; shards are put together. Where a name is there more than once, the part or the entry before it says which
/// ('trainer-3:rng'). With the path of a file of an imported directory: the file's bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint; a bare run means its newest
    #[arg(value_name = "REF")]
    target: Target,
    /// Tensor, with an index or without, or file
    #[arg(value_name = "NAME[INDEX]")]
    name: Option<String>,
    /// Values of a tensor that are printed [default: 20; all that an index selects]
    #[arg(long, short = 'n')]
    limit: Option<u64>,
}

/// A file of an imported directory.
#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a str,
    bytes: u64,
}

pub(crate) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let session = context.open(OpenMode::ReadOnly, &[&args.target])?;
    let checkpoint = session.checkpoint(&args.target, Purpose::Read)?;
    let engine = &session.engine;
    let manifest = engine.load_plan(checkpoint)?;
    let Some(name) = args.name else {
        return list(&engine.tensors(checkpoint)?, &files(&manifest), context);
    };
    if let Some((part, extents, bytes)) = find_file(&manifest, &name) {
        return print_file(engine, &manifest, part, extents, bytes, &name, context);
    }
    // A name may end in brackets of its own.
    if let Some(found) = manifest.find_tensor(&name) {
        return tensor::print(engine, &manifest, &found, None, args.limit, context);
    }
    let (name, index) = TensorIndex::split(&name).map_or((name.as_str(), None), |(name, index)| {
        (name.trim_end(), Some(index))
    });
    match (manifest.find_tensor(name), index) {
        (Some(found), Some(index)) => {
            let index: TensorIndex = index.parse()?;
            tensor::print(engine, &manifest, &found, Some(&index), args.limit, context)
        }
        _ => Err(unknown(name, checkpoint).into()),
    }
}

fn checkpoint_text(checkpoint: CheckpointName) -> String {
    runtree_core::CheckpointId::of(checkpoint.run, checkpoint.key).to_string()
}

fn unknown(name: &str, checkpoint: CheckpointName) -> Error {
    Error::not_found(format!(
        "checkpoint {} has no tensor and no file {name:?}",
        checkpoint_text(checkpoint)
    ))
    .with_hint(format!(
        "`runtree cat {}` lists what there is",
        checkpoint_text(checkpoint)
    ))
}

/// The files of imported directories.
fn files(manifest: &LoadedManifest) -> Vec<File<'_>> {
    let entries = manifest.parts.iter().flat_map(|part| &part.entries);
    entries
        .filter_map(|entry| match &entry.content {
            EntryContent::File { bytes, .. } => Some(File {
                path: &entry.path,
                bytes: *bytes,
            }),
            _ => None,
        })
        .collect()
}

fn list(
    tensors: &[wire::TensorInfo],
    files: &[File<'_>],
    context: &mut Context,
) -> Result<(), Failure> {
    if context.out.json {
        return context
            .out
            .json(&serde_json::json!({ "tensors": tensors, "files": files }));
    }
    if !tensors.is_empty() {
        list_tensors(tensors, context)?;
    }
    if files.is_empty() {
        return Ok(());
    }
    if !tensors.is_empty() {
        context.out.line("")?;
    }
    let mut table = Table::new([("FILE", Align::Flexible), ("SIZE", Align::Right)]);
    for file in files {
        table.row([
            Cell::styled(file.path, Style::Name),
            human::bytes(file.bytes).into(),
        ]);
    }
    table.print(&mut context.out)
}

fn list_tensors(tensors: &[wire::TensorInfo], context: &mut Context) -> Result<(), Failure> {
    let mut table = Table::new([
        ("TENSOR", Align::Flexible),
        ("TYPE", Align::Left),
        ("SHAPE", Align::Left),
        ("SIZE", Align::Right),
        ("PART", Align::Left),
        ("ENTRY", Align::Flexible),
    ]);
    for tensor in tensors {
        let mut shape = format!("{:?}", tensor.shape);
        if let Some(global) = &tensor.global_shape {
            shape = format!("{shape} of {global:?}");
        }
        table.row([
            Cell::styled(&tensor.name, Style::Name),
            tensor.dtype.as_str().into(),
            shape.into(),
            human::bytes(tensor.bytes).into(),
            Cell::styled(&tensor.part, Style::Dim),
            Cell::styled(&tensor.entry, Style::Dim),
        ]);
    }
    table.print(&mut context.out)
}

fn find_file<'a>(manifest: &'a LoadedManifest, path: &str) -> Option<(usize, &'a [Extent], u64)> {
    manifest.parts.iter().enumerate().find_map(|(index, part)| {
        part.entries.iter().find_map(|entry| match &entry.content {
            EntryContent::File { extents, bytes, .. } if entry.path == path => {
                Some((index, extents.as_slice(), *bytes))
            }
            _ => None,
        })
    })
}

/// Prints a file piece by piece: it may be larger than memory.
fn print_file(
    engine: &Engine,
    manifest: &LoadedManifest,
    part: usize,
    extents: &[Extent],
    bytes: u64,
    path: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    if context.out.json {
        return context
            .out
            .json(&serde_json::json!({ "path": path, "bytes": bytes }));
    }
    for extent in extents {
        let piece = read(engine, manifest, part, std::slice::from_ref(extent), path)?;
        context.out.bytes(&piece)?;
    }
    Ok(())
}

fn read(
    engine: &Engine,
    manifest: &LoadedManifest,
    part: usize,
    extents: &[Extent],
    what: &str,
) -> Result<Vec<u8>> {
    let bytes: u64 = extents.iter().map(|extent| extent.bytes).sum();
    let mut buffer = vec![0; bytes as usize];
    let job = ReadJob {
        part,
        extents,
        what,
        into: &mut buffer,
    };
    engine.read_tensors(manifest, vec![job], 0)?;
    Ok(buffer)
}
