//! What each node has of a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runtree_core::{Error, Result};

use super::snapshot::reflink;
use crate::export::directory::failed;
use crate::export::members::{Body, Member};
use crate::load::LoadedManifest;

/// What one node has of a checkpoint.
#[derive(Default)]
pub(super) struct Share {
    pub(super) members: Vec<Member>,
    /// Where each lies in the checkpoint as it was saved.
    saved: Vec<String>,
}

/// How the folder of a node is called.
pub(super) fn rank_name(rank: usize) -> String {
    format!("rank-{rank}")
}

/// What the name of a rank's folder says.
pub(super) fn rank_in(name: &str) -> Option<usize> {
    name.strip_prefix("rank-")?
        .parse()
        .ok()
        .filter(|&rank| rank_name(rank) == name)
}

/// The members of a checkpoint by the node that has them: each part of one program is a node's, as is each folder `rank-N` of what was saved for several at once.
/// Parts of several programs are one node's, in a folder each.
pub(super) fn split(manifest: &LoadedManifest, members: Vec<Member>) -> BTreeMap<usize, Share> {
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
pub(super) fn clone_all(cache: &Path, share: &Share, target: &Path) -> Result<(u64, u64)> {
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
pub(super) fn link_shards(job: &Path, name: &str, ranks: &BTreeMap<usize, Share>) -> Result<()> {
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
