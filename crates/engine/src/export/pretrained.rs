//! A checkpoint as `from_pretrained` loads it: the model's weights in one `model.safetensors`, shards of all ranks put together, and the files that
//! were saved with it. No process group, no framework: shards are stretches of bytes, and a global tensor is those stretches in order.
//!
//! The model is what lies below `model`, `module`, `model_state_dict`, `state_dict` or `params` at the top of the state, the first of
//! them that has tensors; that prefix is taken off the names. A state without any of them is the model itself.

use std::collections::BTreeMap;

use runtree_core::manifest::EntryContent;
use runtree_core::state::TensorRecord;
use runtree_core::{Error, Result};

use super::members::{Body, Member, as_saved, nothing_matches};
use super::{glob, safetensors};
use crate::load::LoadedManifest;
use crate::load::stream::{PartExtent, of_part, slice};

/// Where a model usually is in a state.
const MODEL_KEYS: [&str; 5] = [
    "model",
    "module",
    "model_state_dict",
    "state_dict",
    "params",
];

/// The members of the layout.
///
/// # Errors
/// `NotFound` if there is no tensor; `Corrupt` if shards overlap or leave a hole; `Conflict` if parts hold different tensors of one name.
pub(crate) fn members(manifest: &LoadedManifest, keys: Option<&str>) -> Result<Vec<Member>> {
    let has_state = |content: &EntryContent| matches!(content, EntryContent::State { .. });
    if !manifest
        .parts
        .iter()
        .flat_map(|part| &part.entries)
        .any(|entry| has_state(&entry.content))
    {
        // A directory that was saved as it is: what `save_pretrained` wrote comes back.
        return as_saved(manifest, keys);
    }
    let mut found: BTreeMap<&str, Vec<(usize, &TensorRecord)>> = BTreeMap::new();
    for (part, record) in manifest.parts.iter().enumerate() {
        for entry in &record.entries {
            if let EntryContent::State { tensors, .. } = &entry.content {
                for tensor in tensors {
                    found.entry(&tensor.name).or_default().push((part, tensor));
                }
            }
        }
    }
    let prefix = MODEL_KEYS
        .iter()
        .map(|key| format!("{key}."))
        .find(|prefix| found.keys().any(|name| name.starts_with(prefix.as_str())))
        .unwrap_or_default();
    let mut whole = Vec::new();
    let mut sources: Vec<Vec<PartExtent>> = Vec::new();
    for (name, shards) in found {
        let Some(short) = name.strip_prefix(&prefix) else {
            continue;
        };
        if keys.is_some_and(|keys| !glob::matches(keys, name) && !glob::matches(keys, short)) {
            continue;
        }
        let (shape, pieces) =
            put_together(&shards).map_err(|error| error.in_context(format!("tensor {name:?}")))?;
        whole.push(TensorRecord {
            name: short.to_owned(),
            dtype: shards[0].1.dtype.clone(),
            shape,
            global_shape: None,
            global_offset: None,
            extents: Vec::new(),
        });
        sources.push(pieces);
    }
    if whole.is_empty() {
        return Err(nothing_matches(keys));
    }
    // `from_pretrained` wants to know which framework's layout it is.
    let layout = safetensors::lay_out(&whole, |_| true, &[("format", "pt".to_owned())])?;
    let mut members = vec![Member {
        path: "model.safetensors".to_owned(),
        mode: 0o644,
        body: Body::File {
            rest: layout
                .order
                .iter()
                .flat_map(|&at| sources[at].iter().copied())
                .collect(),
            head: layout.header,
        },
    }];
    // Config and tokenizer files that were saved beside the state.
    let others = as_saved(manifest, None)?;
    let states: Vec<String> = manifest
        .parts
        .iter()
        .flat_map(|part| &part.entries)
        .filter(|entry| has_state(&entry.content))
        .map(|entry| entry.path.clone())
        .collect();
    members.extend(others.into_iter().filter(|member| {
        let name = member.path.rsplit('/').next().unwrap_or_default();
        let made_of_state = states
            .iter()
            .any(|state| name == format!("{state}.json") || name == format!("{state}.safetensors"));
        !made_of_state && name != "model.safetensors"
    }));
    Ok(members)
}

/// A stretch of a global tensor that one shard holds without a gap.
struct Run {
    start: u64,
    bytes: u64,
    source: Vec<PartExtent>,
}

/// The shape of the whole, and where its bytes are, in order.
fn put_together(shards: &[(usize, &TensorRecord)]) -> Result<(Vec<u64>, Vec<PartExtent>)> {
    let first = shards[0].1;
    let shape = first.global_shape.as_ref().unwrap_or(&first.shape).clone();
    let mut runs = Vec::new();
    let mut seen: Vec<(Vec<u64>, &[u64])> = Vec::new();
    for (part, tensor) in shards {
        let global = tensor.global_shape.as_ref().unwrap_or(&tensor.shape);
        if *global != shape || tensor.dtype != first.dtype {
            return Err(Error::conflict(format!(
                "{} {shape:?} in one part, {} {global:?} in another",
                first.dtype, tensor.dtype
            )));
        }
        let offset = tensor
            .global_offset
            .clone()
            .unwrap_or_else(|| vec![0; shape.len()]);
        // Replicas hold the same stretch; the first of them serves.
        if seen
            .iter()
            .any(|(other, size)| *other == offset && *size == tensor.shape.as_slice())
        {
            continue;
        }
        add_runs(*part, tensor, &shape, &offset, &mut runs);
        seen.push((offset, &tensor.shape));
    }
    runs.sort_by_key(|run| run.start);
    let mut at = 0;
    let mut pieces = Vec::new();
    for run in runs {
        if run.start != at {
            let what = if run.start < at {
                "overlap"
            } else {
                "leave a hole"
            };
            return Err(Error::corrupt(format!("shards {what} at byte {at}")));
        }
        at += run.bytes;
        pieces.extend(run.source);
    }
    let whole = shape
        .iter()
        .try_fold(first.dtype.item_bytes(), |bytes, &size| {
            bytes.checked_mul(size)
        });
    if whole != Some(at) {
        return Err(Error::corrupt(format!(
            "shards hold {at} bytes of {shape:?} {}",
            first.dtype
        )));
    }
    Ok((shape, pieces))
}

fn add_runs(
    part: usize,
    tensor: &TensorRecord,
    global: &[u64],
    offset: &[u64],
    runs: &mut Vec<Run>,
) {
    let item = tensor.dtype.item_bytes();
    if tensor.shape.contains(&0) {
        return;
    }
    // Dimensions behind `cut` are whole in this shard, so that a run spans them and this shard's share of `cut` itself.
    let cut = (0..global.len())
        .rev()
        .find(|&d| tensor.shape[d] != global[d])
        .unwrap_or(0);
    let behind: u64 = global.iter().skip(cut + 1).product();
    let run_items = tensor.shape.get(cut).copied().unwrap_or(1) * behind;
    let outer = &tensor.shape[..cut.min(tensor.shape.len())];
    let count: u64 = outer.iter().product();
    for run in 0..count {
        let mut rest = run;
        let mut start = offset.get(cut).copied().unwrap_or(0) * behind;
        let mut stride = behind * global.get(cut).copied().unwrap_or(1);
        for d in (0..outer.len()).rev() {
            start += (rest % outer[d] + offset[d]) * stride;
            rest /= outer[d];
            stride *= global[d];
        }
        let bytes = run_items * item;
        runs.push(Run {
            start: start * item,
            bytes,
            source: of_part(part, &slice(&tensor.extents, run * bytes, bytes)).collect(),
        });
    }
}

#[cfg(test)]
mod tests {
    use runtree_core::manifest::Extent;

    use super::*;

    fn shard(shape: &[u64], global: &[u64], offset: &[u64]) -> TensorRecord {
        TensorRecord {
            name: "w".to_owned(),
            dtype: runtree_core::state::Dtype::U8,
            shape: shape.to_vec(),
            global_shape: Some(global.to_vec()),
            global_offset: Some(offset.to_vec()),
            extents: vec![Extent {
                chunk: 0,
                offset: 0,
                bytes: shape.iter().product(),
            }],
        }
    }

    /// Puts shards of the matrix 0, 1, 2, … together, by hand.
    fn whole(shards: &[TensorRecord], global: &[u64]) -> Result<Vec<u64>> {
        let columns = global[1];
        let parts: Vec<(usize, &TensorRecord)> = shards.iter().enumerate().collect();
        let (shape, pieces) = put_together(&parts)?;
        assert_eq!(shape, global);
        let value = |part: usize, at: u64| {
            let (shape, offset) = (
                &shards[part].shape,
                shards[part].global_offset.as_ref().unwrap(),
            );
            (at / shape[1] + offset[0]) * columns + at % shape[1] + offset[1]
        };
        Ok(pieces
            .iter()
            .flat_map(|piece| {
                (0..piece.extent.bytes).map(|i| value(piece.part, piece.extent.offset + i))
            })
            .collect())
    }

    #[test]
    fn shards_of_rows_columns_and_blocks_become_the_whole() {
        let expected: Vec<u64> = (0..24).collect();
        let rows = [
            shard(&[3, 6], &[4, 6], &[1, 0]),
            shard(&[1, 6], &[4, 6], &[0, 0]),
        ];
        assert_eq!(whole(&rows, &[4, 6]).unwrap(), expected);
        let columns = [
            shard(&[4, 2], &[4, 6], &[0, 4]),
            shard(&[4, 4], &[4, 6], &[0, 0]),
        ];
        assert_eq!(whole(&columns, &[4, 6]).unwrap(), expected);
        let blocks = [
            shard(&[2, 3], &[4, 6], &[0, 0]),
            shard(&[2, 3], &[4, 6], &[0, 3]),
            shard(&[2, 3], &[4, 6], &[2, 0]),
            shard(&[2, 3], &[4, 6], &[2, 3]),
            shard(&[2, 3], &[4, 6], &[2, 3]),
        ];
        assert_eq!(whole(&blocks, &[4, 6]).unwrap(), expected);
        assert!(whole(&rows[..1], &[4, 6]).is_err(), "a hole is found");
    }
}
