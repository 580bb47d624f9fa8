//! `runtree cat`

use runtree_core::manifest::{CheckpointName, EntryContent, Extent};
use runtree_core::state::TensorRecord;
use runtree_core::{Error, Result, wire};
use runtree_engine::{Engine, LoadedManifest, OpenMode, Purpose, ReadJob};
use serde::Serialize;

use crate::context::{Context, Target};
use crate::error::Failure;
use crate::human;
use crate::look::{Style, clean};
use crate::table::{Align, Cell, Table};

mod elements;

/// Print what is in a checkpoint
///
/// Without a NAME: the list of its tensors and files. With the dotted name of a tensor: its first values. With the path of a file of an
/// imported directory: the file's bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// REF of a checkpoint; a bare run means its newest
    #[arg(value_name = "REF")]
    target: Target,
    /// Tensor, or file
    name: Option<String>,
    /// Values of a tensor that are printed
    #[arg(long, short = 'n', default_value_t = 20)]
    limit: usize,
}

/// A file of an imported directory.
#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a str,
    bytes: u64,
}

/// A tensor with its first values.
#[derive(Debug, Serialize)]
struct Excerpt {
    #[serde(flatten)]
    tensor: wire::TensorInfo,
    elements: u64,
    values: Vec<serde_json::Value>,
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
    if let Some((part, tensor)) = find_tensor(&manifest, &name) {
        let values = first_values(engine, &manifest, part, tensor, args.limit)?;
        let info = engine
            .tensors(checkpoint)?
            .into_iter()
            .find(|info| info.name == name)
            .ok_or_else(|| unknown(&name, checkpoint))?;
        let elements = tensor.shape.iter().product();
        return print_values(
            Excerpt {
                tensor: info,
                elements,
                values,
            },
            context,
        );
    }
    Err(unknown(&name, checkpoint).into())
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

fn find_tensor<'a>(manifest: &'a LoadedManifest, name: &str) -> Option<(usize, &'a TensorRecord)> {
    manifest.parts.iter().enumerate().find_map(|(index, part)| {
        let mut tensors = part
            .entries
            .iter()
            .flat_map(|entry| entry.content.tensors());
        tensors
            .find(|tensor| tensor.name == name)
            .map(|tensor| (index, tensor))
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

/// Reads as much of a tensor as its first `limit` values need.
fn first_values(
    engine: &Engine,
    manifest: &LoadedManifest,
    part: usize,
    tensor: &TensorRecord,
    limit: usize,
) -> Result<Vec<serde_json::Value>> {
    let item = tensor.dtype.item_bytes().max(1);
    let mut wanted = (limit as u64).saturating_mul(item);
    let mut extents = Vec::new();
    for extent in &tensor.extents {
        if wanted == 0 {
            break;
        }
        let bytes = extent.bytes.min(wanted);
        extents.push(Extent { bytes, ..*extent });
        wanted -= bytes;
    }
    let bytes = read(engine, manifest, part, &extents, &tensor.name)?;
    Ok(elements::decode(&tensor.dtype, &bytes))
}

fn print_values(excerpt: Excerpt, context: &mut Context) -> Result<(), Failure> {
    if context.out.json {
        return context.out.json(&excerpt);
    }
    let tensor = &excerpt.tensor;
    let look = context.out.look;
    context.out.line(format!(
        "{} {} {:?} {}",
        look.paint(Style::Name, &clean(&tensor.name)),
        tensor.dtype,
        tensor.shape,
        human::bytes(tensor.bytes)
    ))?;
    for value in &excerpt.values {
        context.out.line(human::json(value))?;
    }
    let left = excerpt.elements.saturating_sub(excerpt.values.len() as u64);
    if left > 0 {
        context
            .out
            .remark(&format!("{} more; --limit shows them.", human::count(left)));
    }
    Ok(())
}
