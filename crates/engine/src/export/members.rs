//! What a checkpoint is as files: one list of members, which a directory and a tar stream are both written from.

use std::collections::BTreeSet;

use runtree_core::manifest::{Entry, EntryContent, Extent, PartManifest};
use runtree_core::state::region::Region;
use runtree_core::state::{StateNode, TensorRecord};
use runtree_core::{CheckpointId, Error, Result};
use serde_json::json;

use super::glob;
use super::safetensors;
use crate::load::stream::{PartExtent, of_part};
use crate::load::{LoadedManifest, WholeTensor};
use crate::save::link_stays_inside;

/// One file, directory or link.
#[derive(Debug)]
pub(crate) struct Member {
    /// Path below the target, `/` between its parts.
    pub(crate) path: String,
    /// Unix permission bits.
    pub(crate) mode: u32,
    /// What it is.
    pub(crate) body: Body,
}

/// What a member consists of.
#[derive(Debug)]
pub(crate) enum Body {
    /// A file: `head`, then bytes of the checkpoint.
    File {
        /// Bytes that are made here: a header, or a whole JSON file.
        head: Vec<u8>,
        /// The rest, in order.
        rest: Vec<PartExtent>,
    },
    /// A file: `head`, then tensors, each put together from its shards.
    Tensors {
        /// Bytes that are made here.
        head: Vec<u8>,
        /// What follows, in order.
        tensors: Vec<WholeTensor>,
    },
    /// A directory.
    Directory,
    /// A link.
    Symlink(String),
}

impl Body {
    /// Length of a file.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::File { head, rest } => {
                head.len() as u64 + rest.iter().map(|piece| piece.extent.bytes).sum::<u64>()
            }
            Self::Tensors { head, tensors } => {
                let bytes =
                    |tensor: &WholeTensor| tensor.region_bytes(&Region::whole(&tensor.shape));
                head.len() as u64 + tensors.iter().map(bytes).sum::<u64>()
            }
            Self::Directory | Self::Symlink(_) => 0,
        }
    }
}

/// The members of a checkpoint as it was saved: links last, so that nothing is written through one.
///
/// One part lies at the top; several have a directory each, `<component>-<rank>`.
///
/// # Errors
/// `Corrupt` for a path or link that leaves the target, or two members of one path; `NotFound` if `keys` matches nothing.
pub(crate) fn as_saved(manifest: &LoadedManifest, keys: Option<&str>) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for (index, part) in manifest.parts.iter().enumerate() {
        let prefix = if manifest.parts.len() > 1 {
            format!("{}-{}/", part.component, part.rank)
        } else {
            String::new()
        };
        for entry in &part.entries {
            let path = format!("{prefix}{}", entry.path);
            match &entry.content {
                EntryContent::State {
                    tree,
                    tensors,
                    blobs,
                } => members.extend(state(
                    manifest, part, index, &path, entry, tree, tensors, blobs, keys,
                )?),
                _ if keys.is_some_and(|keys| !glob::matches(keys, &entry.path)) => {}
                EntryContent::File { extents, mode, .. } => members.push(Member {
                    path,
                    mode: *mode,
                    body: Body::File {
                        head: Vec::new(),
                        rest: of_part(index, extents).collect(),
                    },
                }),
                EntryContent::Directory { mode } => members.push(Member {
                    path,
                    mode: *mode,
                    body: Body::Directory,
                }),
                EntryContent::Symlink { target } => {
                    if !link_stays_inside(target, entry.path.split('/').count() - 1) {
                        return Err(Error::corrupt(format!(
                            "link {:?} of the checkpoint points to {target:?}, outside it",
                            entry.path
                        )));
                    }
                    members.push(Member {
                        path,
                        mode: 0o777,
                        body: Body::Symlink(target.clone()),
                    });
                }
            }
        }
    }
    if members.is_empty() && keys.is_some() {
        return Err(nothing_matches(keys));
    }
    check_paths(&members)?;
    members.sort_by_key(|member| matches!(member.body, Body::Symlink(_)));
    Ok(members)
}

/// The error for a glob that leaves nothing.
pub(crate) fn nothing_matches(keys: Option<&str>) -> Error {
    let what = keys.map_or_else(
        || "is a tensor".to_owned(),
        |keys| format!("matches {keys:?}"),
    );
    Error::not_found(format!("nothing in the checkpoint {what}"))
        .with_hint("see what is in it: runtree show REF")
}

/// No two members may have one path, and none may lie below another that is not a directory.
fn check_paths(members: &[Member]) -> Result<()> {
    let mut leaves = BTreeSet::new();
    for member in members {
        if !leaves.insert(member.path.as_str()) {
            return Err(Error::corrupt(format!(
                "the checkpoint has {:?} twice",
                member.path
            )));
        }
    }
    let directories: BTreeSet<&str> = members
        .iter()
        .filter(|member| matches!(member.body, Body::Directory))
        .map(|member| member.path.as_str())
        .collect();
    for member in members {
        let above = member
            .path
            .match_indices('/')
            .map(|(at, _)| &member.path[..at]);
        for parent in above {
            if leaves.contains(parent) && !directories.contains(parent) {
                return Err(Error::corrupt(format!(
                    "{:?} of the checkpoint lies below {parent:?}, which is no directory",
                    member.path
                )));
            }
        }
    }
    Ok(())
}

/// Whether a state's name can be a file's: one part, not hidden.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0', ':'])
}

/// A state tree: `<path>.safetensors` and `<path>.json`.
#[expect(
    clippy::too_many_arguments,
    reason = "the fields of one entry, taken apart"
)]
fn state(
    manifest: &LoadedManifest,
    part: &PartManifest,
    index: usize,
    path: &str,
    entry: &Entry,
    tree: &StateNode,
    tensors: &[TensorRecord],
    blobs: &[Vec<Extent>],
    keys: Option<&str>,
) -> Result<Vec<Member>> {
    if !is_plain_name(&entry.path) {
        return Err(Error::corrupt(format!(
            "state {:?} of the checkpoint has no usable name",
            entry.path
        )));
    }
    // Long byte strings stand beside the tensors, as bytes.
    let mut all = tensors.to_vec();
    all.extend(
        blobs
            .iter()
            .enumerate()
            .map(|(blob, extents)| TensorRecord {
                name: format!("__blob__.{blob}"),
                dtype: runtree_core::state::Dtype::U8,
                shape: vec![extents.iter().map(|extent| extent.bytes).sum()],
                global_shape: None,
                global_offset: None,
                extents: extents.clone(),
            }),
    );
    let wanted = |tensor: &TensorRecord| keys.is_none_or(|keys| glob::matches(keys, &tensor.name));
    if keys.is_some() && !all.iter().any(wanted) {
        return Ok(Vec::new());
    }
    let id = CheckpointId::of(manifest.name.run, manifest.name.key);
    let metadata = [
        ("format", "runtree".to_owned()),
        ("runtree.run", manifest.name.run.to_string()),
        ("runtree.checkpoint", id.to_string()),
        ("runtree.step", manifest.name.key.step.to_string()),
    ];
    let layout = safetensors::lay_out(&all, wanted, &metadata)?;
    let described = |range: std::ops::Range<usize>| -> Vec<serde_json::Value> {
        range
            .map(|at| {
                let tensor = &all[at];
                json!({
                    "name": tensor.name,
                    "dtype": tensor.dtype,
                    "shape": tensor.shape,
                    "global_shape": tensor.global_shape,
                    "global_offset": tensor.global_offset,
                    "stored_as": layout.names[at],
                })
            })
            .collect()
    };
    let document = json!({
        "format": "runtree.state",
        "version": 1,
        "run": manifest.name.run,
        "checkpoint": id,
        "step": manifest.name.key.step,
        "part": {"component": part.component, "rank": part.rank},
        "tree": tree,
        "tensors": described(0..tensors.len()),
        "blobs": described(tensors.len()..all.len()),
    });
    let mut text = serde_json::to_vec_pretty(&document)
        .map_err(|error| Error::internal("a state tree does not serialize").with_source(error))?;
    text.push(b'\n');
    let rest = layout
        .order
        .iter()
        .flat_map(|&at| of_part(index, &all[at].extents))
        .collect();
    Ok(vec![
        Member {
            path: format!("{path}.json"),
            mode: 0o644,
            body: Body::File {
                head: text,
                rest: Vec::new(),
            },
        },
        Member {
            path: format!("{path}.safetensors"),
            mode: 0o644,
            body: Body::File {
                head: layout.header,
                rest,
            },
        },
    ])
}
