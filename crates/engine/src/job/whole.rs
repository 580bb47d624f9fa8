//! What the files of a checkpoint say of themselves. Names and sizes first, then headers and ends of files; nothing is run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtree_core::{Error, ErrorKind, Result};

use crate::layouts::{Sizes, adapter, odd_below, prime_rl, read_small, unreadable, walk_sizes};
use crate::python_json;

/// An empty file that says that a directory is whole: prime-rl's, and that of whoever writes a format of their own.
const STABLE: &str = "STABLE";
/// A file that Hugging Face's trainer leaves where it was interrupted.
const INCOMPLETE: &str = "checkpoint-is-incomplete.txt";
/// What the trainer of Hugging Face writes last.
const TRAINER_STATE: &str = "trainer_state.json";
/// Larger texts are not read: of runs of a million steps a state has some hundred megabytes.
const LONGEST_JSON: u64 = 1 << 28;
/// How much later than the mark another rank's last file may be. Who starts again and writes into the same directory is not so quick.
const SLACK: Duration = Duration::from_millis(100);
/// Of a model of thousands of tensors on thousands of ranks it has some hundred megabytes.
const LONGEST_METADATA: u64 = 1 << 30;

/// What files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something is missing or cut off.
    Torn(String),
    /// Nothing is, and what its writer writes last is there.
    Whole,
    /// Nothing is, of what is there. Whether more comes, the files do not say.
    Unmarked,
    /// What is written last is there, and other files are newer: it may be of an earlier checkpoint that was in the same directory.
    Stale(String),
}

/// A directory of files, or those of several nodes that make one checkpoint together.
pub(super) struct Looked<'a> {
    /// Each node's directory.
    pub(super) directories: &'a [&'a Path],
    /// The files of each.
    pub(super) sizes: &'a [Sizes],
}

impl Looked<'_> {
    fn has(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.sizes
            .iter()
            .flat_map(Sizes::keys)
            .any(|name| wanted(name))
    }

    fn bytes_of(&self, name: &str) -> u64 {
        let all = self.sizes.iter().filter_map(|sizes| sizes.get(name));
        all.copied().max().unwrap_or(0)
    }

    /// Every file with the node that has it.
    fn files(&self) -> impl Iterator<Item = (&Path, &str, u64)> {
        let nodes = self.directories.iter().zip(self.sizes);
        nodes.flat_map(|(directory, sizes)| {
            sizes
                .iter()
                .map(|(name, &bytes)| (*directory, name.as_str(), bytes))
        })
    }
}

/// What the files of a checkpoint say. A file that goes meanwhile makes it torn.
///
/// # Errors
/// What reading says, but that something is not there.
pub(super) fn look(at: &Looked<'_>) -> Result<Verdict> {
    match judge(at) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Verdict::Torn("files of it went away".to_owned()))
        }
        judged => judged,
    }
}

fn judge(at: &Looked<'_>) -> Result<Verdict> {
    let torn = |why: String| Ok(Verdict::Torn(why));
    if !at.has(|_| true) {
        return torn("empty".to_owned());
    }
    if at.has(|name| name == INCOMPLETE) {
        return torn(format!("it has {INCOMPLETE}"));
    }
    if let Some(why) = find_torn_file(at)? {
        return torn(why);
    }
    if let Some(why) = find_missing_shards(at)? {
        return torn(why);
    }
    if at.has(|name| name == STABLE) {
        return marked(at, "", STABLE);
    }
    if at.has(|name| name.starts_with("trainer/") || name.starts_with("orchestrator/")) {
        return look_at_prime_rl(at);
    }
    let is_of_trainer = at.has(|name| {
        matches!(
            name,
            "training_args.bin" | "optimizer.pt" | "scheduler.pt" | TRAINER_STATE
        ) || name.starts_with("rng_state")
    });
    if is_of_trainer {
        if at.bytes_of(TRAINER_STATE) == 0 {
            return torn(format!("no {TRAINER_STATE}, which is written last"));
        }
        return marked(at, "", TRAINER_STATE);
    }
    if at.has(|name| name == ".metadata") {
        // The coordinator writes it after every rank has written its shards.
        return marked(at, "", ".metadata");
    }
    Ok(Verdict::Unmarked)
}

/// What the mark of a whole checkpoint says, of the files in `folder`.
fn marked(at: &Looked<'_>, folder: &str, mark: &str) -> Result<Verdict> {
    let mut newest = None;
    let mut marked = None;
    for (directory, name, _) in at.files().filter(|(_, name, _)| name.starts_with(folder)) {
        let path = directory.join(name);
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|error| unreadable(&path, error))?;
        newest = newest.max(Some(modified));
        if name == mark {
            marked = marked.max(Some(modified));
        }
    }
    let is_last = marked
        .zip(newest)
        .is_some_and(|(marked, newest)| marked + SLACK >= newest);
    Ok(if is_last {
        Verdict::Whole
    } else {
        Verdict::Stale(format!(
            "files of it are newer than {mark}, which is written last"
        ))
    })
}

fn look_at_prime_rl(at: &Looked<'_>) -> Result<Verdict> {
    for (directory, sizes) in at.directories.iter().zip(at.sizes) {
        if let Some(why) = prime_rl::find_gap(sizes) {
            return Ok(Verdict::Torn(why));
        }
        if let Some(why) = prime_rl::find_damage(directory, sizes)? {
            return Ok(Verdict::Torn(why));
        }
    }
    marked(at, "trainer/", "trainer/.metadata")
}

/// A file that ends before it says it does, or is no JSON where JSON must be.
fn find_torn_file(at: &Looked<'_>) -> Result<Option<String>> {
    for (directory, name, bytes) in at.files() {
        let path = directory.join(name);
        let own_name = name.rsplit('/').next().unwrap_or(name);
        let extension = own_name
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension);
        let problem = match extension {
            "safetensors" => adapter::torn_safetensors(&path, bytes)?,
            "bin" | "pt" | "pth" | "ckpt" | "npz" => {
                let empty = (bytes == 0).then(|| "is empty".to_owned());
                empty.map_or_else(|| adapter::torn_zip(&path), |why| Ok(Some(why)))?
            }
            "distcp" => (bytes == 0).then(|| "is empty".to_owned()),
            "json" => {
                let is_known = matches!(
                    own_name,
                    TRAINER_STATE | "config.json" | "adapter_config.json"
                );
                // A larger one is whole or not; nobody is told by its text.
                let is_torn = is_known && bytes <= LONGEST_JSON && !is_json(&path)?;
                is_torn.then(|| "is no JSON, or not all of it".to_owned())
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Ok(Some(format!("{name} {problem}")));
        }
    }
    Ok(None)
}

fn is_json(path: &Path) -> Result<bool> {
    let bytes = read_small(path, LONGEST_JSON)?;
    let text = std::str::from_utf8(&bytes).ok();
    Ok(text.and_then(python_json::parse).is_some())
}

/// A shard that an index names, of weights or of torch.distributed.checkpoint, and nobody has.
fn find_missing_shards(at: &Looked<'_>) -> Result<Option<String>> {
    for (directory, name, _) in at.files() {
        if !name.ends_with(".index.json") {
            continue;
        }
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_there = |shard: &str| at.bytes_of(&below(folder, shard)) > 0;
        if let Some(why) = adapter::missing_shard(directory, name, is_there)? {
            return Ok(Some(why));
        }
    }
    let mut folders: Vec<&str> = at
        .files()
        .filter(|(_, name, _)| name.ends_with(".distcp"))
        .map(|(_, name, _)| name.rsplit_once('/').map_or("", |(folder, _)| folder))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let metadata = below(folder, ".metadata");
        let Some((directory, _, _)) = at
            .files()
            .find(|(_, name, bytes)| *name == metadata && *bytes > 0)
        else {
            return Ok(Some(format!("no {metadata}, which is written last")));
        };
        let pickle = read_small(&directory.join(&metadata), LONGEST_METADATA)?;
        for shard in prime_rl::shards_named(&pickle) {
            let shard = below(folder, &shard);
            if at.bytes_of(&shard) == 0 {
                return Ok(Some(format!("{shard} is missing, which {metadata} names")));
            }
        }
    }
    Ok(None)
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// What the files of a checkpoint say, of each node that has some.
///
/// # Errors
/// `Invalid` if something in it can not be saved; else what reading says.
pub(super) fn judge_nodes(nodes: &[(usize, PathBuf)]) -> Result<Verdict> {
    let mut sizes = Vec::with_capacity(nodes.len());
    for (_, directory) in nodes {
        let inside = directory
            .canonicalize()
            .map_err(|error| unreadable(directory, error))?;
        if let Some(why) = odd_below(directory, "", &inside)? {
            return Err(Error::invalid(format!(
                "{} can not be saved: {why}",
                directory.display()
            )));
        }
        let mut found = Sizes::new();
        match walk_sizes(directory, "", &mut found) {
            Ok(()) => sizes.push(found),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Verdict::Torn("it went away".to_owned()));
            }
            Err(error) => return Err(error),
        }
    }
    let directories: Vec<&Path> = nodes
        .iter()
        .map(|(_, directory)| directory.as_path())
        .collect();
    let together = look(&Looked {
        directories: &directories,
        sizes: &sizes,
    })?;
    if together != Verdict::Whole || nodes.len() == 1 {
        return Ok(together);
    }
    // A node that saved a model of its own saved all of it; shards are of all nodes together.
    for (directory, sizes) in directories.iter().zip(&sizes) {
        let is_model = |name: &String| {
            let file = name.rsplit('/').next().unwrap_or(name);
            ["model", "adapter_model", "pytorch_model."]
                .iter()
                .any(|start| file.starts_with(start))
        };
        if sizes.keys().any(is_model) {
            let alone = look(&Looked {
                directories: &[*directory],
                sizes: std::slice::from_ref(sizes),
            })?;
            if alone != Verdict::Whole {
                return Ok(alone);
            }
        }
    }
    Ok(together)
}

#[cfg(test)]
mod tests;
