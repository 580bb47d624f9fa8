//! What a checkpoint is to its users, by the small files in it.

use std::collections::BTreeMap;

use runtree_core::Result;
use runtree_core::manifest::{CheckpointName, EntryContent};
use serde_json::Value;

use crate::engine::Engine;
use crate::load::LoadedManifest;
use crate::load::stream::of_part;

const ADAPTER_CONFIG: &str = "adapter_config.json";
const CONFIG: &str = "config.json";
/// A config is small; what is larger is something else of that name.
const LONGEST_CONFIG: u64 = 1 << 20;
/// What Baseten takes where a config says nothing.
const DEFAULT_RANK: u64 = 16;

/// What kind of checkpoint it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointType {
    /// A LoRA adapter.
    Lora,
    /// A whole model.
    Full,
    /// A whole Whisper model, which deploys in another way.
    Whisper,
    /// Shards of torch.distributed.checkpoint.
    Sharded,
    /// A state tree of runtree.
    State,
    /// Other files.
    Files,
}

impl CheckpointType {
    /// As it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lora => "lora",
            Self::Full => "full",
            Self::Whisper => "whisper",
            Self::Sharded => "sharded",
            Self::State => "state",
            Self::Files => "files",
        }
    }
}

/// What a checkpoint is.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Description {
    /// What kind.
    #[serde(rename = "checkpoint_type")]
    pub kind: CheckpointType,
    /// The model that it adapts, or was made from.
    pub base_model: Option<String>,
    /// The rank of an adapter.
    pub lora_rank: Option<u64>,
    /// The adapter's own config.
    #[serde(
        rename = "lora_adapter_config",
        skip_serializing_if = "Option::is_none"
    )]
    pub lora_config: Option<Value>,
}

impl Engine {
    /// What kind of checkpoint it is, for people: its manifests and at most one small file are read.
    ///
    /// # Errors
    /// As [`Engine::load_plan`].
    pub fn describe(&self, checkpoint: CheckpointName) -> Result<Description> {
        let manifest = self.load_plan(checkpoint)?;
        let mut files = BTreeMap::new();
        let mut has_state = false;
        for (index, part) in manifest.parts.iter().enumerate() {
            for entry in &part.entries {
                match &entry.content {
                    EntryContent::State { .. } => has_state = true,
                    EntryContent::File { .. } => {
                        files
                            .entry(entry.path.as_str())
                            .or_insert((index, &entry.content));
                    }
                    EntryContent::Directory { .. } | EntryContent::Symlink { .. } => {}
                }
            }
        }
        let read = |path: &str| -> Result<Option<Value>> {
            let Some((part, EntryContent::File { extents, .. })) = files.get(path) else {
                return Ok(None);
            };
            let pieces: Vec<_> = of_part(*part, extents).collect();
            if pieces.iter().map(|piece| piece.extent.bytes).sum::<u64>() > LONGEST_CONFIG {
                return Ok(None);
            }
            self.read_json(&manifest, &pieces, path)
        };
        let names: Vec<&str> = files.keys().copied().collect();
        describe(&names, has_state, read)
    }

    fn read_json(
        &self,
        manifest: &LoadedManifest,
        pieces: &[crate::load::stream::PartExtent],
        path: &str,
    ) -> Result<Option<Value>> {
        let mut bytes = Vec::new();
        self.stream(manifest, pieces, path, |window| {
            bytes.extend_from_slice(window);
            Ok(())
        })?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

/// The file of this name that is least deep.
fn shallowest<'a>(names: &[&'a str], wanted: &str) -> Option<&'a str> {
    let is_it = |name: &&str| name.rsplit('/').next() == Some(wanted);
    names
        .iter()
        .copied()
        .filter(is_it)
        .min_by_key(|name| (name.matches('/').count(), *name))
}

fn describe(
    names: &[&str],
    has_state: bool,
    read: impl Fn(&str) -> Result<Option<Value>>,
) -> Result<Description> {
    let plain = |kind| Description {
        kind,
        base_model: None,
        lora_rank: None,
        lora_config: None,
    };
    let is_weights =
        |name: &&str| matches!(name.rsplit_once('.'), Some((_, "safetensors" | "bin")));
    let has_weights = names.iter().any(is_weights);
    let text = |config: &Value, key: &str| {
        config
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    if let Some(config) = shallowest(names, ADAPTER_CONFIG).filter(|_| has_weights)
        && let Some(config) = read(config)?
    {
        return Ok(Description {
            kind: CheckpointType::Lora,
            base_model: text(&config, "base_model_name_or_path"),
            lora_rank: Some(
                config
                    .get("r")
                    .and_then(Value::as_u64)
                    .unwrap_or(DEFAULT_RANK),
            ),
            lora_config: Some(config),
        });
    }
    if names.iter().any(|name| name.ends_with(".distcp")) {
        let config = shallowest(names, CONFIG).map(&read).transpose()?.flatten();
        let base_model = config
            .as_ref()
            .and_then(|config| text(config, "_name_or_path"));
        return Ok(Description {
            base_model,
            ..plain(CheckpointType::Sharded)
        });
    }
    if let Some(config) = shallowest(names, CONFIG).filter(|_| has_weights)
        && let Some(config) = read(config)?
    {
        let kind = text(&config, "model_type");
        let is_whisper = kind.as_deref() == Some("whisper");
        return Ok(Description {
            base_model: text(&config, "_name_or_path").or(kind),
            ..plain(if is_whisper {
                CheckpointType::Whisper
            } else {
                CheckpointType::Full
            })
        });
    }
    Ok(plain(if has_state {
        CheckpointType::State
    } else {
        CheckpointType::Files
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(files: &[(&str, Value)], has_state: bool) -> Description {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let read = |path: &str| {
            let file = files.iter().find(|(name, _)| *name == path);
            Ok(file.map(|(_, content)| content.clone()))
        };
        describe(&names, has_state, read).unwrap()
    }

    #[test]
    fn files_say_what_a_checkpoint_is() {
        let weights = ("model.safetensors", Value::Null);
        let adapter = of(
            &[
                (
                    "rank-0/adapter_config.json",
                    json!({"r": 32, "base_model_name_or_path": "Qwen/Qwen3"}),
                ),
                ("rank-0/adapter_model.safetensors", Value::Null),
            ],
            false,
        );
        assert_eq!(adapter.kind, CheckpointType::Lora);
        assert_eq!(
            (adapter.lora_rank, adapter.base_model.as_deref()),
            (Some(32), Some("Qwen/Qwen3"))
        );
        // Without weights, or with a config that can not be read, it is nothing in particular.
        assert_eq!(
            of(&[("adapter_config.json", json!({"r": 32}))], false).kind,
            CheckpointType::Files
        );
        let full = of(
            &[
                ("config.json", json!({"model_type": "llama"})),
                weights.clone(),
            ],
            false,
        );
        assert_eq!(
            (full.kind, full.base_model.as_deref()),
            (CheckpointType::Full, Some("llama"))
        );
        let whisper = of(
            &[("config.json", json!({"model_type": "whisper"})), weights],
            false,
        );
        assert_eq!(whisper.kind, CheckpointType::Whisper);
        let shards = of(
            &[
                ("pytorch_model_fsdp_0/__0_0.distcp", Value::Null),
                ("config.json", json!({"_name_or_path": "a/b"})),
            ],
            false,
        );
        assert_eq!(
            (shards.kind, shards.base_model.as_deref()),
            (CheckpointType::Sharded, Some("a/b"))
        );
        assert_eq!(of(&[], true).kind, CheckpointType::State);
        assert_eq!(
            of(&[("weights.npz", Value::Null)], false).kind,
            CheckpointType::Files
        );
    }
}
