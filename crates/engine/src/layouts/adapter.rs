//! Whether the files of a checkpoint of ART are a whole LoRA adapter: the rules of `python/runtree/compat/art/adapters.py`.
//!
//! ART writes file by file into the final directory and marks nothing as whole, so the files are looked into. They are not trusted: every
//! length is checked before it is used, and nothing is run (a `.bin` is a pickle).

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use runtree_core::Result;
use serde_json::Value;

use super::Sizes;
use super::place::unreadable;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// The format's own bound of a header.
const LONGEST_HEADER: u64 = 100_000_000;
/// A config has some hundred bytes; what is larger is no config.
const LONGEST_CONFIG: u64 = 1 << 20;
/// A zip ends with a record of 22 bytes and a comment of at most so many.
const ZIP_END_BYTES: u64 = 22;
const ZIP_COMMENT_BYTES: u64 = u16::MAX as u64;

/// Files of the directory itself, not of those below it.
fn own(sizes: &Sizes) -> impl Iterator<Item = (&str, u64)> {
    sizes
        .iter()
        .filter(|(name, _)| !name.contains('/'))
        .map(|(name, &bytes)| (name.as_str(), bytes))
}

pub(super) fn find_gap(sizes: &Sizes) -> Option<String> {
    let bytes_of = |name: &str| sizes.get(name).copied().unwrap_or(0);
    if own(sizes).next().is_none() {
        return Some("empty".to_owned());
    }
    if bytes_of(CONFIG) == 0 {
        return Some(format!("no {CONFIG}"));
    }
    let is_sharded = own(sizes)
        .any(|(name, _)| name.starts_with("adapter_model") && name.ends_with(".index.json"));
    let has_weights = WEIGHTS.iter().any(|name| bytes_of(name) > 0);
    (!is_sharded && !has_weights).then(|| format!("no weights ({})", WEIGHTS[0]))
}

pub(super) fn find_damage(directory: &Path, sizes: &Sizes) -> Result<Option<String>> {
    if read_object(&directory.join(CONFIG))?.is_none() {
        return Ok(Some(format!("{CONFIG} is no JSON object")));
    }
    for (name, _) in own(sizes).filter(|(name, _)| name.ends_with(".safetensors.index.json")) {
        if let Some(missing) = missing_shard(directory, name, |shard| sizes.contains_key(shard))? {
            return Ok(Some(missing));
        }
    }
    for (name, bytes) in own(sizes) {
        let path = directory.join(name);
        let problem = if name.ends_with(".safetensors") {
            torn_safetensors(&path, bytes)?
        } else if path.extension().is_some_and(|extension| extension == "bin") {
            torn_zip(&path)?
        } else {
            None
        };
        if let Some(problem) = problem {
            return Ok(Some(format!("{name} {problem}")));
        }
    }
    Ok(None)
}

fn read_object(path: &Path) -> Result<Option<serde_json::Map<String, Value>>> {
    let failed = |error| unreadable(path, error);
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_CONFIG + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST_CONFIG {
        return Ok(None);
    }
    Ok(match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    })
}

/// A shard that an index of weights names and that is not there, in words.
pub(crate) fn missing_shard(
    directory: &Path,
    index: &str,
    is_there: impl Fn(&str) -> bool,
) -> Result<Option<String>> {
    let object = read_object(&directory.join(index))?.unwrap_or_default();
    let Some(Value::Object(places)) = object.get("weight_map") else {
        return Ok(Some(format!("{index} is no index")));
    };
    let mut wanted: Vec<&str> = places.values().filter_map(Value::as_str).collect();
    wanted.sort_unstable();
    let missing = wanted.into_iter().find(|&name| !is_there(name));
    Ok(missing.map(|name| format!("{name} is missing, which {index} names")))
}

/// What is wrong with a safetensors file; none if its header ends where the file does.
pub(crate) fn torn_safetensors(path: &Path, bytes: u64) -> Result<Option<String>> {
    let failed = |error| unreadable(path, error);
    let torn_header = "is torn: its header is longer than the file".to_owned();
    let bad_header = "has a header that can not be read".to_owned();
    if bytes < 8 {
        return Ok(Some(torn_header));
    }
    let file = File::open(path).map_err(failed)?;
    let mut start = [0; 8];
    file.read_exact_at(&mut start, 0).map_err(failed)?;
    let length = u64::from_le_bytes(start);
    if length > bytes - 8 || length > LONGEST_HEADER {
        return Ok(Some(torn_header));
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8).map_err(failed)?;
    let Ok(Value::Object(header)) = serde_json::from_slice(&header) else {
        return Ok(Some(bad_header));
    };
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let ends: Option<Vec<u64>> = tensors
        .map(|(_, tensor)| tensor.get("data_offsets")?.get(1)?.as_u64())
        .collect();
    let Some(ends) = ends else {
        return Ok(Some(bad_header));
    };
    let end = ends.into_iter().max().unwrap_or(0);
    let said = (8 + length).saturating_add(end);
    Ok((said != bytes).then(|| format!("is torn: it has {bytes} bytes, its header says {said}")))
}

/// What is wrong with a file of `torch.save`: what begins like a zip and does not end like one was cut off.
pub(crate) fn torn_zip(path: &Path) -> Result<Option<String>> {
    let failed = |error| unreadable(path, error);
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut start = [0; 4];
    if bytes < 4 || file.read_exact_at(&mut start, 0).is_err() || &start != b"PK\x03\x04" {
        return Ok(None);
    }
    let first = bytes.saturating_sub(ZIP_END_BYTES + ZIP_COMMENT_BYTES);
    let mut tail = vec![0; (bytes - first) as usize];
    file.read_exact_at(&mut tail, first).map_err(failed)?;
    let ends = tail
        .windows(ZIP_END_BYTES as usize)
        .any(|window| window.starts_with(b"PK\x05\x06"));
    Ok((!ends).then(|| "is torn: the end of the zip is missing".to_owned()))
}
