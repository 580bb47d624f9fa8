//! Checkpoints as files, laid out as loaders of jobs expect them.
//!
//! ```text
//! <root>/<job>/rank-0/checkpoint-20/…     what node 0 saved; each node has its own
//!              rank-1/checkpoint-20/…
//! <root>/rank-0        → <job>/rank-0                      if one job is loaded, or one is gone on from
//! <root>/checkpoint-20 → <job>/rank-0/checkpoint-20        where only one has that name: `get_last_checkpoint(root)` finds it
//! <root>/config.json   → …                                 what is no weights of the only one: `from_pretrained(root)` reads it
//! ```
//!
//! A job is a run: its key, else its display id. Shards of one model that several nodes saved are in every node's directory, its own as files and the others' as links, so
//! that any number of nodes loads them. Links are relative: the root may be moved. Files are read-only, and verified while they are written; where the disk has
//! reflinks they share the bytes of the verified copy in the cache.
//!
//! What is in the root is never overwritten, but for what was placed there before: a list of it lies beside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use runtree_core::manifest::CheckpointName;
use runtree_core::wire::CheckpointInfo;
use runtree_core::{Error, Result};

use super::snapshot::reflink;
use crate::engine::Engine;
use crate::export::directory::{self, Access, Durability, failed};
use crate::export::members::{self, Body, Member};
use crate::layouts::Folder;
use crate::load::LoadedManifest;

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

/// What to place.
#[derive(Clone, Debug)]
pub struct Placing<'a> {
    /// Where; made if it is not there.
    pub root: &'a Path,
    /// How many nodes will look for it.
    pub nodes: usize,
    /// Which.
    pub checkpoints: &'a [CheckpointName],
    /// The one that the job goes on from, whose links win.
    pub first: Option<CheckpointName>,
}

/// A checkpoint that was placed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// `ck_…`.
    pub id: String,
    /// REF.
    pub reference: String,
    /// The job's name in the root.
    pub job: String,
    /// The checkpoint's.
    pub name: String,
    /// The directory of node 0.
    pub directory: PathBuf,
    /// Files, of all nodes.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What one node has of a checkpoint.
#[derive(Default)]
struct Share {
    members: Vec<Member>,
    /// Where each lies in the checkpoint as it was saved.
    saved: Vec<String>,
}

impl Engine {
    /// Writes checkpoints into a root that is empty, or holds what was placed there before, which goes.
    ///
    /// # Errors
    /// `Conflict` if something else is there; `Corrupt` naming tensor and chunk; else as [`Engine::export`].
    pub fn place(&self, placing: &Placing<'_>) -> Result<Vec<Placed>> {
        let root = placing.root;
        fs::create_dir_all(root).map_err(|error| failed("create", root, error))?;
        let mut list = List::open(root)?;
        let mut placed: Vec<(CheckpointName, Placed)> = Vec::new();
        let mut jobs: BTreeMap<String, String> = BTreeMap::new();
        for &checkpoint in placing.checkpoints {
            if placed.iter().any(|(name, _)| *name == checkpoint) {
                continue;
            }
            let info = self.checkpoint_info(checkpoint)?;
            let job = self.job_name(&info, &mut jobs)?;
            let taken = placed
                .iter()
                .filter(|(_, one)| one.job == job)
                .map(|(_, one)| one.name.as_str());
            let name = name_in(&info, &taken.collect());
            list.add(&job)?;
            let (files, bytes) =
                self.place_one(checkpoint, &root.join(&job), &name, placing.nodes)?;
            let directory = root.join(&job).join(rank_name(0)).join(&name);
            placed.push((
                checkpoint,
                Placed {
                    id: info.id,
                    reference: info.reference,
                    job,
                    name,
                    directory,
                    files,
                    bytes,
                },
            ));
        }
        link_from_root(placing, &placed, &mut list)?;
        Ok(placed.into_iter().map(|(_, one)| one).collect())
    }

    /// A folder in the user's cache for what a job loads. It goes away with its handle; what a process left that was killed goes with the next one.
    ///
    /// # Errors
    /// As making it says.
    pub fn folder_for_job(&self) -> Result<Folder> {
        Folder::create(self)
    }

    /// What a run is called as a job: what its owner calls it, in letters that a path can have.
    fn job_name(
        &self,
        info: &CheckpointInfo,
        taken: &mut BTreeMap<String, String>,
    ) -> Result<String> {
        let summary = self.summary(info.run.id.parse()?)?;
        for name in [
            summary.key.as_deref(),
            Some(&summary.display_id),
            Some(&summary.id),
        ]
        .into_iter()
        .flatten()
        {
            let name = plain(name);
            if taken
                .entry(name.clone())
                .or_insert_with(|| summary.id.clone())
                == &summary.id
            {
                return Ok(name);
            }
        }
        Err(Error::internal(format!(
            "two runs have the RunId {}",
            summary.id
        )))
    }

    fn place_one(
        &self,
        checkpoint: CheckpointName,
        job: &Path,
        name: &str,
        nodes: usize,
    ) -> Result<(u64, u64)> {
        let manifest = self.load_plan(checkpoint)?;
        let ranks = split(&manifest, members::as_saved(&manifest, None)?);
        let cache = self.reflinks_into(job, checkpoint)?;
        let (mut files, mut bytes) = (0, 0);
        for (rank, share) in &ranks {
            let target = job.join(rank_name(*rank)).join(name);
            let (written, written_bytes) = match &cache {
                Some(cache) => clone_all(cache, share, &target)?,
                None => directory::write(
                    self,
                    &manifest,
                    &share.members,
                    &target,
                    Access::ReadOnly,
                    Durability::Fleeting,
                )?,
            };
            files += written;
            bytes += written_bytes;
        }
        link_shards(job, name, &ranks)?;
        for rank in 0..nodes {
            let link = job.join(rank_name(rank));
            if !ranks.contains_key(&rank) && fs::symlink_metadata(&link).is_err() {
                symlink(rank_name(0), &link).map_err(|error| failed("create", &link, error))?;
            }
        }
        Ok((files, bytes))
    }

    /// The verified copy of a checkpoint in the cache, if files below `job` can share its bytes; made if it is not there.
    fn reflinks_into(&self, job: &Path, checkpoint: CheckpointName) -> Result<Option<PathBuf>> {
        let probe = self.options.cache_dir.join("dirs");
        fs::create_dir_all(&probe).map_err(|error| failed("create", &probe, error))?;
        fs::create_dir_all(job).map_err(|error| failed("create", job, error))?;
        let random = self.options.entropy.bits() as u64;
        let source = probe.join(format!(".probe-{random:016x}"));
        let target = job.join(format!(".probe-{random:016x}"));
        fs::write(&source, [0; 4096]).map_err(|error| failed("write", &source, error))?;
        let can = reflink(&source, &target);
        let _ = fs::remove_file(&source);
        let _ = fs::remove_file(&target);
        if can? {
            self.materialize(checkpoint).map(Some)
        } else {
            Ok(None)
        }
    }
}

fn rank_name(rank: usize) -> String {
    format!("rank-{rank}")
}

/// What the name of a rank's folder says.
fn rank_in(name: &str) -> Option<usize> {
    name.strip_prefix("rank-")?
        .parse()
        .ok()
        .filter(|&rank| rank_name(rank) == name)
}

/// The members of a checkpoint by the node that has them: each part of one program is a node's, as is each folder `rank-N` of what was saved for several at once.
/// Parts of several programs are one node's, in a folder each.
fn split(manifest: &LoadedManifest, members: Vec<Member>) -> BTreeMap<usize, Share> {
    let components: BTreeSet<_> = manifest.parts.iter().map(|part| &part.component).collect();
    let is_one = manifest.parts.len() == 1;
    let mut folders: BTreeMap<String, (usize, String)> = BTreeMap::new();
    if is_one {
        for member in &members {
            let first = member.path.split('/').next().unwrap_or_default();
            if let Some(rank) = rank_in(first) {
                folders.insert(first.to_owned(), (rank, String::new()));
            }
        }
        if !members
            .iter()
            .all(|member| folders.contains_key(member.path.split('/').next().unwrap_or_default()))
        {
            folders.clear();
        }
    } else {
        for part in &manifest.parts {
            let folder = format!("{}-{}", part.component, part.rank);
            let ranks = manifest
                .parts
                .iter()
                .filter(|other| other.component == part.component)
                .count();
            let to = match (components.len(), ranks) {
                (1, _) => (part.rank as usize, String::new()),
                (_, 1) => (0, format!("{}/", part.component)),
                _ => (0, format!("{folder}/")),
            };
            folders.insert(folder, to);
        }
    }
    let mut shares: BTreeMap<usize, Share> = BTreeMap::new();
    for mut member in members {
        let saved = member.path.clone();
        let mut rank = 0;
        if let Some((first, rest)) = saved.split_once('/')
            && let Some((node, prefix)) = folders.get(first)
        {
            rank = *node;
            member.path = format!("{prefix}{rest}");
        } else if folders.contains_key(&saved) {
            // The folder itself, which is there anyway.
            continue;
        }
        let share = shares.entry(rank).or_default();
        share.members.push(member);
        share.saved.push(saved);
    }
    shares
}

/// A node's share from the cache, without copying a byte.
fn clone_all(cache: &Path, share: &Share, target: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    let create =
        |path: &Path| fs::create_dir_all(path).map_err(|error| failed("create", path, error));
    create(target)?;
    for (member, saved) in share.members.iter().zip(&share.saved) {
        let path = target.join(&member.path);
        if let Some(parent) = path.parent() {
            create(parent)?;
        }
        match &member.body {
            Body::Directory => create(&path)?,
            Body::Symlink(link) => {
                symlink(link, &path).map_err(|error| failed("create", &path, error))?;
                files += 1;
            }
            Body::File { .. } | Body::Tensors { .. } => {
                if !reflink(&cache.join(saved), &path)? {
                    return Err(Error::unavailable(format!(
                        "{} can not share bytes with {} any more",
                        path.display(),
                        cache.display()
                    )));
                }
                files += 1;
                bytes += member.body.bytes();
            }
        }
    }
    Ok((files, bytes))
}

/// Makes every node see the shards of all, where a checkpoint has shards that belong together.
fn link_shards(job: &Path, name: &str, ranks: &BTreeMap<usize, Share>) -> Result<()> {
    let is_shard = |member: &Member| member.path.ends_with(".distcp");
    let with_shards = ranks
        .values()
        .filter(|share| share.members.iter().any(is_shard))
        .count();
    if ranks.len() < 2 || with_shards == 0 {
        return Ok(());
    }
    for own in ranks.keys() {
        let mut there: BTreeSet<&str> = ranks[own]
            .members
            .iter()
            .map(|member| member.path.as_str())
            .collect();
        for (other, share) in ranks {
            for member in share
                .members
                .iter()
                .filter(|member| !matches!(member.body, Body::Directory))
            {
                if !there.insert(&member.path) {
                    continue;
                }
                let path = job.join(rank_name(*own)).join(name).join(&member.path);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(|error| failed("create", parent, error))?;
                }
                let up = "../".repeat(2 + member.path.matches('/').count());
                let target = format!("{up}{}/{name}/{}", rank_name(*other), member.path);
                symlink(target, &path).map_err(|error| failed("create", &path, error))?;
            }
        }
    }
    Ok(())
}

/// The links that make simple loaders work.
fn link_from_root(
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

/// What a run's or checkpoint's name is in a path. One that a link may have is told apart.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    if name.starts_with('.') || rank_in(&name).is_some() {
        format!("_{name}")
    } else {
        name
    }
}

fn name_in(info: &CheckpointInfo, taken: &BTreeSet<&str>) -> String {
    let name = info
        .name
        .as_deref()
        .map_or_else(|| format!("checkpoint-{}", info.step), plain);
    if taken.contains(name.as_str()) {
        format!("{name}-{}", info.id)
    } else {
        name
    }
}

/// The names in a root that were made here. A name is in the list before it is made, so that what a killed process left is known.
struct List<'a> {
    root: &'a Path,
    names: BTreeSet<String>,
}

impl<'a> List<'a> {
    /// Removes what was placed before.
    fn open(root: &'a Path) -> Result<Self> {
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

    fn add(&mut self, name: &str) -> Result<()> {
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
