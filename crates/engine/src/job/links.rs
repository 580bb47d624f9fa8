//! What lies in a root beside the jobs, and what of it was made here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Error, Result};

use super::place::{Placed, Placing};
use super::shares::{rank_in, rank_name};
use crate::export::directory::failed;

/// What was placed in a root, a name a line.
const LIST: &str = ".runtree-loaded";
/// How weights are called; everything else may be what describes them.
const WEIGHTS: [&str; 7] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".distcp",
    ".index.json",
];

/// The links that make simple loaders work.
pub(super) fn link_from_root(
    placing: &Placing<'_>,
    placed: &[(CheckpointName, Placed)],
    list: &mut List<'_>,
) -> Result<()> {
    let first = placed
        .iter()
        .find(|(name, _)| Some(*name) == placing.first)
        .map(|(_, one)| one);
    let all: Vec<&Placed> = first.map_or_else(
        || placed.iter().map(|(_, one)| one).collect(),
        |first| vec![first],
    );
    let jobs: BTreeSet<&str> = all.iter().map(|one| one.job.as_str()).collect();
    if let (Some(job), 1) = (jobs.first(), jobs.len()) {
        let folder = placing.root.join(job);
        for entry in fs::read_dir(&folder)
            .map_err(|error| failed("read", &folder, error))?
            .flatten()
        {
            if let Some(name) = entry
                .file_name()
                .to_str()
                .filter(|name| rank_in(name).is_some())
            {
                list.link(name, &format!("{job}/{name}"))?;
            }
        }
    }
    let mut names: BTreeMap<String, Vec<&Placed>> = BTreeMap::new();
    for (checkpoint, one) in placed.iter().filter(|(_, one)| all.contains(&one)) {
        let plain = format!("checkpoint-{}", checkpoint.key.step);
        names.entry(plain).or_default().push(one);
    }
    for (name, ones) in names {
        if let [one] = ones.as_slice() {
            list.link(&name, &format!("{}/{}/{}", one.job, rank_name(0), one.name))?;
        }
    }
    if let [only] = all.as_slice() {
        let files = fs::read_dir(&only.directory)
            .map_err(|error| failed("read", &only.directory, error))?;
        for entry in files.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let describes =
                !name.starts_with('.') && !WEIGHTS.iter().any(|end| name.ends_with(end));
            if describes && entry.path().is_file() {
                list.link(
                    name,
                    &format!("{}/{}/{}/{name}", only.job, rank_name(0), only.name),
                )?;
            }
        }
    }
    Ok(())
}

/// The names in a root that were made here. A name is in the list before it is made, so that what a killed process left is known.
pub(super) struct List<'a> {
    root: &'a Path,
    names: BTreeSet<String>,
}

impl<'a> List<'a> {
    /// Removes what was placed before.
    pub(super) fn open(root: &'a Path) -> Result<Self> {
        let path = root.join(LIST);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| failed("read", &path, error))?,
        };
        let ours: BTreeSet<&str> = text
            .lines()
            .filter(|name| !name.is_empty() && *name != ".." && !name.contains('/'))
            .collect();
        let mut others = Vec::new();
        for entry in fs::read_dir(root).map_err(|error| failed("read", root, error))? {
            let entry = entry.map_err(|error| failed("read", root, error))?;
            let name = entry.file_name();
            if name != LIST && !name.to_str().is_some_and(|name| ours.contains(name)) {
                others.push(name.display().to_string());
            }
        }
        if !others.is_empty() {
            others.sort();
            others.truncate(5);
            return Err(Error::conflict(format!(
                "{} holds something else already: {}",
                root.display(),
                others.join(", ")
            ))
            .with_hint(
                "checkpoints are loaded into a directory of their own: name another, or empty it",
            ));
        }
        for name in ours {
            let path = root.join(name);
            let removed = match fs::symlink_metadata(&path) {
                Err(error) => Err(error),
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
            };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(Self {
            root,
            names: BTreeSet::new(),
        })
    }

    pub(super) fn add(&mut self, name: &str) -> Result<()> {
        if self.names.insert(name.to_owned()) {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let path = self.root.join(LIST);
            fs::write(&path, names.join("\n") + "\n")
                .map_err(|error| failed("write", &path, error))?;
        }
        Ok(())
    }

    /// A link, unless something has its name.
    fn link(&mut self, name: &str, target: &str) -> Result<()> {
        let path = self.root.join(name);
        if self.names.contains(name) || fs::symlink_metadata(&path).is_ok() {
            return Ok(());
        }
        self.add(name)?;
        symlink(target, &path).map_err(|error| failed("create", &path, error))
    }
}
