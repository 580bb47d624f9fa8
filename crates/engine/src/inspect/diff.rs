//! What differs between two checkpoints, tensor by tensor.
//!
//! Chunks are content-addressed, so tensors in equal places of equal chunks are equal without being read. The others are read on both sides, in
//! batches that share blocks, and compared.

use std::collections::BTreeMap;

use runtree_core::float::JsonFloat;
use runtree_core::manifest::{CheckpointName, PartManifest};
use runtree_core::state::TensorRecord;
use runtree_core::wire::{TensorChange, TensorChangeKind};
use runtree_core::{Error, Result};

use super::numbers::{Difference, is_numeric};
use crate::engine::Engine;
use crate::load::stream::{WINDOW_BYTES, slice};
use crate::load::{LoadedManifest, ReadJob};

/// What differs, and how many tensors do not.
#[derive(Debug, Default)]
pub(super) struct TensorDiff {
    pub(super) changes: Vec<TensorChange>,
    pub(super) equal: u64,
}

/// A tensor and the part it is in.
#[derive(Clone, Copy)]
struct Located<'m> {
    part: usize,
    manifest: &'m PartManifest,
    tensor: &'m TensorRecord,
}

/// A stretch of one pair of tensors that has to be read.
struct Stretch<'m> {
    pair: usize,
    a: Located<'m>,
    b: Located<'m>,
    offset: u64,
    bytes: u64,
}

pub(super) fn diff(engine: &Engine, a: CheckpointName, b: CheckpointName) -> Result<TensorDiff> {
    let (a, b) = (engine.load_plan(a)?, engine.load_plan(b)?);
    let (left, right) = (tensors_of(&a), tensors_of(&b));
    let mut result = TensorDiff::default();
    let mut pairs: Vec<(&String, Located<'_>, Located<'_>)> = Vec::new();
    for (name, tensor) in &left {
        match right.get(name) {
            None => {
                result
                    .changes
                    .push(change(name, TensorChangeKind::Removed, Some(tensor), None));
            }
            Some(other) if !same_kind(tensor.tensor, other.tensor) => {
                result.changes.push(change(
                    name,
                    TensorChangeKind::Reshaped,
                    Some(tensor),
                    Some(other),
                ));
            }
            Some(other) if same_bytes(*tensor, *other) => result.equal += 1,
            Some(other) => pairs.push((name, *tensor, *other)),
        }
    }
    for (name, tensor) in &right {
        if !left.contains_key(name) {
            result
                .changes
                .push(change(name, TensorChangeKind::Added, None, Some(tensor)));
        }
    }
    let differences = compare(engine, &a, &b, &pairs)?;
    for ((name, left, right), difference) in pairs.iter().zip(differences) {
        if difference.changed == 0 {
            result.equal += 1;
            continue;
        }
        let mut found = change(name, TensorChangeKind::Changed, Some(left), Some(right));
        found.changed_elements = Some(difference.changed);
        found.relative_norm =
            is_numeric(&left.tensor.dtype).then(|| JsonFloat(difference.relative_norm()));
        result.changes.push(found);
    }
    result.changes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(result)
}

/// Tensors by name; where there are several parts or entries, the name says in which.
fn tensors_of(manifest: &LoadedManifest) -> BTreeMap<String, Located<'_>> {
    let mut found = BTreeMap::new();
    let several_parts = manifest.parts.len() > 1;
    for (part, manifest) in manifest.parts.iter().enumerate() {
        let holders = manifest
            .entries
            .iter()
            .filter(|entry| !entry.content.tensors().is_empty())
            .count();
        for entry in &manifest.entries {
            for tensor in entry.content.tensors() {
                let mut name = tensor.name.clone();
                if holders > 1 {
                    name = format!("{}:{name}", entry.path);
                }
                if several_parts {
                    name = format!("{}-{}:{name}", manifest.component, manifest.rank);
                }
                found.insert(
                    name,
                    Located {
                        part,
                        manifest,
                        tensor,
                    },
                );
            }
        }
    }
    found
}

fn same_kind(a: &TensorRecord, b: &TensorRecord) -> bool {
    (&a.dtype, &a.shape, &a.global_shape, &a.global_offset)
        == (&b.dtype, &b.shape, &b.global_shape, &b.global_offset)
}

fn same_bytes(a: Located<'_>, b: Located<'_>) -> bool {
    a.tensor.extents.len() == b.tensor.extents.len()
        && a.tensor
            .extents
            .iter()
            .zip(&b.tensor.extents)
            .all(|(x, y)| {
                (x.offset, x.bytes) == (y.offset, y.bytes)
                    && a.manifest.chunks[x.chunk as usize].hash
                        == b.manifest.chunks[y.chunk as usize].hash
            })
}

fn compare(
    engine: &Engine,
    a: &LoadedManifest,
    b: &LoadedManifest,
    pairs: &[(&String, Located<'_>, Located<'_>)],
) -> Result<Vec<Difference>> {
    let mut differences = vec![Difference::default(); pairs.len()];
    let mut batch: Vec<Stretch<'_>> = Vec::new();
    let mut held = 0;
    for (pair, (_, left, right)) in pairs.iter().enumerate() {
        let item = left.tensor.dtype.item_bytes().max(1);
        // An element may be larger than a window: it is compared all the same.
        let window = (WINDOW_BYTES / item).max(1) * item;
        let total = left.tensor.byte_len().unwrap_or(0);
        let mut offset = 0;
        while offset < total {
            let bytes = window.min(total - offset);
            batch.push(Stretch {
                pair,
                a: *left,
                b: *right,
                offset,
                bytes,
            });
            offset += bytes;
            held += bytes;
            if held >= WINDOW_BYTES {
                read_batch(engine, a, b, pairs, &mut batch, &mut differences)?;
                held = 0;
            }
        }
    }
    read_batch(engine, a, b, pairs, &mut batch, &mut differences)?;
    Ok(differences)
}

fn read_batch(
    engine: &Engine,
    a: &LoadedManifest,
    b: &LoadedManifest,
    pairs: &[(&String, Located<'_>, Located<'_>)],
    batch: &mut Vec<Stretch<'_>>,
    differences: &mut [Difference],
) -> Result<()> {
    let read = |manifest: &LoadedManifest,
                side: fn(&Stretch<'_>) -> (usize, Vec<runtree_core::manifest::Extent>)|
     -> Result<Vec<Vec<u8>>> {
        let mut buffers: Vec<Vec<u8>> = batch
            .iter()
            .map(|stretch| vec![0; stretch.bytes as usize])
            .collect();
        let wanted: Vec<_> = batch.iter().map(side).collect();
        let jobs = buffers
            .iter_mut()
            .zip(&wanted)
            .zip(&*batch)
            .map(|((into, (part, extents)), stretch)| ReadJob {
                part: *part,
                extents,
                what: pairs[stretch.pair].0,
                into,
            })
            .collect();
        engine.read_tensors(manifest, jobs, 0)?;
        Ok(buffers)
    };
    let side_a = |s: &Stretch<'_>| (s.a.part, slice(&s.a.tensor.extents, s.offset, s.bytes));
    let side_b = |s: &Stretch<'_>| (s.b.part, slice(&s.b.tensor.extents, s.offset, s.bytes));
    let (left, right) = (read(a, side_a)?, read(b, side_b)?);
    for ((stretch, left), right) in batch.iter().zip(&left).zip(&right) {
        if left.len() != right.len() {
            return Err(Error::internal(
                "two sides of a comparison have different lengths",
            ));
        }
        differences[stretch.pair].add(&stretch.a.tensor.dtype, left, right);
    }
    batch.clear();
    Ok(())
}

fn change(
    name: &str,
    kind: TensorChangeKind,
    a: Option<&Located<'_>>,
    b: Option<&Located<'_>>,
) -> TensorChange {
    TensorChange {
        name: name.to_owned(),
        change: kind,
        a: a.map(|located| describe(located.tensor)),
        b: b.map(|located| describe(located.tensor)),
        relative_norm: None,
        changed_elements: None,
    }
}

/// `f32[10,3]`.
fn describe(tensor: &TensorRecord) -> String {
    let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
    format!("{}[{}]", tensor.dtype, shape.join(","))
}
