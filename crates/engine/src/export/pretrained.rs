//! A checkpoint as `from_pretrained` loads it: the model's weights as safetensors, shards of all ranks put together, and the files that were
//! saved with it. No process group, no framework, and a window of memory at a time: the weights are read in the order of the file, whatever the
//! ranks held of them.
//!
//! The model is what lies below `model`, `module`, `model_state_dict`, `state_dict` or `params` at the top of the state, the first of
//! them that has tensors; that prefix is taken off the names. A state without any of them is the model itself. A dict below `config`,
//! `model_config` or `hf_config` that has a `model_type` becomes `config.json`.
//!
//! Weights larger than a file may be are spread over `model-00001-of-0000N.safetensors`, in the order of their names, and
//! `model.safetensors.index.json` says which is where.

use runtree_core::manifest::EntryContent;
use runtree_core::state::region::row_major;
use runtree_core::state::{StateKey, StateNode, TensorLeaf, TensorRecord};
use runtree_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::members::{Body, Member, as_saved, nothing_matches};
use super::{glob, safetensors};
use crate::engine::Engine;
use crate::load::{LoadedManifest, WholeRequest, WholeState, WholeTensor};

/// Where a model usually is in a state.
const MODEL_KEYS: [&str; 5] = [
    "model",
    "module",
    "model_state_dict",
    "state_dict",
    "params",
];
/// Where a model's config usually is in a state.
const CONFIG_KEYS: [&str; 3] = ["config", "model_config", "hf_config"];
/// Most bytes of a file, unless asked for otherwise.
const FILE_BYTES: u64 = 5_000_000_000;

/// The members of the layout.
///
/// # Errors
/// `NotFound` if there is no tensor; `Corrupt` if shards leave a hole; `Conflict` if ranks hold different weights of one name.
pub(crate) fn members(
    engine: &Engine,
    manifest: &LoadedManifest,
    keys: Option<&str>,
    max_file_bytes: Option<u64>,
) -> Result<Vec<Member>> {
    let Some((component, entry)) = state_of(manifest) else {
        // A directory that was saved as it is: what `save_pretrained` wrote comes back.
        return as_saved(manifest, keys);
    };
    let state = engine.whole_state(manifest, &component, &entry, &WholeRequest::default())?;
    let weights = weights(&state, keys)?;
    let mut members = files(&weights, max_file_bytes.unwrap_or(FILE_BYTES))?;
    members.extend(config(&state));
    // Config and tokenizer files that were saved beside the state.
    let states: Vec<String> = manifest
        .parts
        .iter()
        .flat_map(|part| &part.entries)
        .filter(|entry| matches!(entry.content, EntryContent::State { .. }))
        .map(|entry| entry.path.clone())
        .collect();
    let made: Vec<String> = members.iter().map(|member| member.path.clone()).collect();
    members.extend(as_saved(manifest, None)?.into_iter().filter(|member| {
        let name = member.path.rsplit('/').next().unwrap_or_default();
        let made_of_state = states
            .iter()
            .any(|state| name == format!("{state}.json") || name == format!("{state}.safetensors"));
        !made_of_state && !made.iter().any(|made| made == name || made == &member.path)
    }));
    Ok(members)
}

/// The component and the entry that hold the model: the trainer's state, or the first there is.
fn state_of(manifest: &LoadedManifest) -> Option<(String, String)> {
    let mut found: Vec<(bool, String, String)> = manifest
        .parts
        .iter()
        .flat_map(|part| {
            part.entries
                .iter()
                .filter(|entry| matches!(entry.content, EntryContent::State { .. }))
                .map(|entry| {
                    let component = part.component.to_string();
                    (component != "trainer", component, entry.path.clone())
                })
        })
        .collect();
    found.sort();
    found
        .into_iter()
        .next()
        .map(|(_, component, entry)| (component, entry))
}

/// The model's weights by name, in the order of their names; what several leaves share stands once, under the first name.
fn weights(state: &WholeState, keys: Option<&str>) -> Result<Vec<(String, WholeTensor)>> {
    let mut leaves = Vec::new();
    if let Some(tree) = &state.tree {
        collect(tree, "", &mut leaves);
    }
    let prefix = MODEL_KEYS
        .iter()
        .map(|key| format!("{key}."))
        .find(|prefix| {
            leaves
                .iter()
                .any(|(name, _)| name.starts_with(prefix.as_str()))
        })
        .unwrap_or_default();
    let mut found: Vec<(String, WholeTensor)> = Vec::new();
    let mut taken: Vec<&TensorLeaf> = Vec::new();
    for (name, leaf) in &leaves {
        let Some(short) = name.strip_prefix(&prefix) else {
            continue;
        };
        if keys.is_some_and(|keys| !glob::matches(keys, name) && !glob::matches(keys, short)) {
            continue;
        }
        if let Some(differing) = state
            .differing
            .iter()
            .find(|differing| is_at_or_below(name, &differing.path))
        {
            return Err(Error::conflict(format!(
                "ranks {:?} hold different {name:?}, and it is no shard",
                differing.ranks
            ))
            .with_hint("leave it out with --keys, or export as it was saved"));
        }
        // Weights that are tied: a loader ties them again, as its config says.
        if taken
            .iter()
            .any(|other| other.tensor == leaf.tensor && other.view == leaf.view)
        {
            continue;
        }
        taken.push(leaf);
        found.push((short.to_owned(), tensor_of(state, leaf, name)?));
    }
    if found.is_empty() {
        return Err(nothing_matches(keys));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn is_at_or_below(name: &str, path: &str) -> bool {
    name.strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn collect<'a>(node: &'a StateNode, path: &str, leaves: &mut Vec<(String, &'a TensorLeaf)>) {
    let below = |part: &str| {
        if path.is_empty() {
            part.to_owned()
        } else {
            format!("{path}.{part}")
        }
    };
    match node {
        StateNode::Tensor(leaf) => leaves.push((path.to_owned(), leaf)),
        StateNode::Stateful { state, .. } => collect(state, path, leaves),
        StateNode::Dict { k, v, .. } => {
            for (key, value) in k.iter().zip(v) {
                collect(value, &below(&key.path_part()), leaves);
            }
        }
        StateNode::List { v }
        | StateNode::Tuple { v }
        | StateNode::Deque { v, .. }
        | StateNode::NamedTuple { v, .. } => {
            for (index, value) in v.iter().enumerate() {
                collect(value, &below(&index.to_string()), leaves);
            }
        }
        _ => {}
    }
}

/// The tensor of a leaf; of one that is a stretch of shared memory, that stretch.
fn tensor_of(state: &WholeState, leaf: &TensorLeaf, name: &str) -> Result<WholeTensor> {
    let tensor = &state.tensors[leaf.tensor as usize];
    match &leaf.view {
        None => Ok(tensor.clone()),
        Some(view) if view.strides == row_major(&view.shape) => {
            Ok(tensor.stretch(view.offset, &view.shape))
        }
        Some(view) => Err(Error::unsupported(format!(
            "{name:?} is a view of other weights with strides {:?}, which safetensors has not",
            view.strides
        ))
        .with_hint("save a contiguous copy of it, or export as it was saved")),
    }
}

/// The files of the weights.
fn files(weights: &[(String, WholeTensor)], max_bytes: u64) -> Result<Vec<Member>> {
    let bytes = |tensor: &WholeTensor| tensor.region_bytes(&tensor.default_whole());
    let mut groups: Vec<Vec<&(String, WholeTensor)>> = vec![Vec::new()];
    let mut held = 0_u64;
    for weight in weights {
        let size = bytes(&weight.1);
        let last = groups.last().is_some_and(Vec::is_empty);
        if !last && held.saturating_add(size) > max_bytes {
            groups.push(Vec::new());
            held = 0;
        }
        held += size;
        if let Some(group) = groups.last_mut() {
            group.push(weight);
        }
    }
    let count = groups.len();
    let mut members = Vec::new();
    let mut map = Map::new();
    for (at, group) in groups.iter().enumerate() {
        let name = if count == 1 {
            "model.safetensors".to_owned()
        } else {
            format!("model-{:05}-of-{count:05}.safetensors", at + 1)
        };
        let records: Vec<TensorRecord> = group
            .iter()
            .map(|(short, tensor)| TensorRecord {
                name: short.clone(),
                dtype: tensor.dtype.clone(),
                shape: tensor.shape.clone(),
                global_shape: None,
                global_offset: None,
                extents: Vec::new(),
            })
            .collect();
        // `from_pretrained` wants to know which framework's layout it is.
        let layout = safetensors::lay_out(&records, |_| true, &[("format", "pt".to_owned())])?;
        for (short, _) in group {
            map.insert(short.clone(), Value::String(name.clone()));
        }
        members.push(Member {
            path: name,
            mode: 0o644,
            body: Body::Tensors {
                head: layout.header,
                tensors: layout.order.iter().map(|&at| group[at].1.clone()).collect(),
            },
        });
    }
    if count > 1 {
        let total: u64 = weights.iter().map(|(_, tensor)| bytes(tensor)).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        members.push(json_member("model.safetensors.index.json", &index));
    }
    Ok(members)
}

fn json_member(path: &str, value: &Value) -> Member {
    let mut head = serde_json::to_vec_pretty(value).expect("BUG: a JSON value serializes");
    head.push(b'\n');
    Member {
        path: path.to_owned(),
        mode: 0o644,
        body: Body::File {
            head,
            rest: Vec::new(),
        },
    }
}

/// `config.json`, if the state has a model's config.
fn config(state: &WholeState) -> Option<Member> {
    let mut node = state.tree.as_ref()?;
    while let StateNode::Stateful { state, .. } = node {
        node = state;
    }
    let config = CONFIG_KEYS.iter().find_map(|key| child(node, key))?;
    child(config, "model_type")?;
    Some(json_member("config.json", &plain(config)?))
}

fn child<'a>(node: &'a StateNode, name: &str) -> Option<&'a StateNode> {
    let StateNode::Dict { k, v, .. } = node else {
        return None;
    };
    let at = k
        .iter()
        .position(|key| matches!(key, StateKey::Str(text) if text == name))?;
    v.get(at)
}

/// A node as JSON, if it is plain data.
fn plain(node: &StateNode) -> Option<Value> {
    Some(match node {
        StateNode::None => Value::Null,
        StateNode::Bool { v } => json!(v),
        StateNode::Int { v } => serde_json::from_str(v).ok()?,
        StateNode::Float { v } => {
            serde_json::Number::from_f64(v.0).map_or(Value::Null, Value::Number)
        }
        StateNode::Str { v } | StateNode::TorchDtype { v } | StateNode::Path { v } => json!(v),
        StateNode::List { v } | StateNode::Tuple { v } => {
            Value::Array(v.iter().map(plain).collect::<Option<_>>()?)
        }
        StateNode::Enum { value, .. } => plain(value)?,
        StateNode::Dict { k, v, .. } => Value::Object(
            k.iter()
                .zip(v)
                .map(|(key, value)| Some((key.path_part(), plain(value)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}
