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

use super::links::{List, link_from_root};
use super::names::step_in;
use super::shares::{clone_all, link_shards, rank_in, rank_name, split};
use super::snapshot::reflink;
use crate::engine::Engine;
use crate::export::directory::{self, Access, Durability, failed};
use crate::export::members;
use crate::layouts::Folder;

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
            // A link of the root may be called like that.
            let name = if step_in(&name).is_some() {
                format!("_{name}")
            } else {
                name
            };
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
