//! Tensors by name: shards are put together, and where a name is not unique it says which.

use runtree_core::state::TensorRecord;

use super::{LoadedManifest, ShardSource, WholeTensor};

/// A tensor that was found by its name.
#[derive(Clone, Debug)]
pub struct FoundTensor {
    /// The tensor; a shard's is the global one, unless the name says whose shard.
    pub tensor: WholeTensor,
    /// The part it is in, `trainer-0`; of shards that are put together, all of them.
    pub parts: Vec<String>,
    /// The entry it is in.
    pub entry: String,
}

impl LoadedManifest {
    /// The tensor of a dotted name. Before it may stand the entry, and before that the part, as comparisons write them where a checkpoint has several:
    /// `model.safetensors:lm_head.weight`, `trainer-3:rng`. Without them the first of that name is meant, and shards are one tensor.
    pub fn find_tensor(&self, name: &str) -> Option<FoundTensor> {
        let mut found: Option<FoundTensor> = None;
        for (part, manifest) in self.parts.iter().enumerate() {
            let label = format!("{}-{}", manifest.component, manifest.rank);
            let within = behind(name, &label);
            for entry in &manifest.entries {
                let named = |tensor: &&TensorRecord, name: &str| {
                    tensor.name == name || behind(name, &entry.path) == Some(&tensor.name)
                };
                let mut tensors = entry.content.tensors().iter();
                if let Some(all) = &mut found {
                    let component = all.parts[0]
                        .rsplit_once('-')
                        .map(|(component, _)| component);
                    let same =
                        component == Some(manifest.component.as_str()) && all.entry == entry.path;
                    let shard = tensors.find(|tensor| same && is_shard_of(tensor, &all.tensor));
                    if let Some(shard) = shard {
                        all.tensor.sources.push(ShardSource::new(part, shard));
                        all.parts.push(label.clone());
                    }
                    continue;
                }
                let shared = tensors.clone().find(|tensor| named(tensor, name));
                let own = within.and_then(|name| tensors.find(|tensor| named(tensor, name)));
                let (record, is_own) = (shared.or(own), shared.is_none());
                let Some(record) = record else { continue };
                let hit = FoundTensor {
                    tensor: whole(part, record, is_own),
                    parts: vec![label.clone()],
                    entry: entry.path.clone(),
                };
                if !hit.tensor.sharded {
                    return Some(hit);
                }
                found = Some(hit);
            }
        }
        found
    }
}

/// What stands behind `prefix` and a colon.
fn behind<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_prefix(':')
}

fn is_shard_of(record: &TensorRecord, tensor: &WholeTensor) -> bool {
    record.name == tensor.name
        && record.dtype == tensor.dtype
        && record.global_shape.as_ref() == Some(&tensor.shape)
}

fn whole(part: usize, record: &TensorRecord, alone: bool) -> WholeTensor {
    let global = record.global_shape.as_ref().filter(|_| !alone);
    let mut source = ShardSource::new(part, record);
    if global.is_none() {
        source.region.offset = vec![0; record.shape.len()];
    }
    WholeTensor {
        name: record.name.clone(),
        dtype: record.dtype.clone(),
        shape: global.unwrap_or(&record.shape).clone(),
        sharded: global.is_some(),
        own: None,
        sources: vec![source],
    }
}
