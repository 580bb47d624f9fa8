//! Directories that a command writes checkpoints into, and which of them are whole.
//!
//! A trainer says nothing while it writes. What is known of a directory is its files, when they changed last, who has them open, and how the command ended. One is
//! ready if nothing has changed for a while, no process has a file of it open for writing, and
//!
//! - its files say that it is whole: what its trainer writes last is there, or
//! - they can not say, and something else does: it was renamed into its place when it was done; the trainer has begun a later one; the command ended well.
//!
//! That it looks quiet is never enough: a trainer that is stopped between two files looks the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtree_core::{Error, Result, Step};

use super::disk::{Stamps, find, free_name, is_being_written, links, stamp, was_sealed};
use super::snapshot::Snapshot;
use super::whole::{self, Looked, Verdict};
use crate::layouts::{Sizes, unreadable, walk_sizes};

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// A directory for each node, in their order.
    pub directories: Vec<PathBuf>,
    /// How long nothing may have changed.
    pub settle: Duration,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With 0: what it wrote, it wrote to its end.
    Well,
    /// With an error or a signal, which may have been in the middle of a file.
    Badly,
}

/// A checkpoint that is whole: its files as they were when that was seen, until it is dropped.
#[derive(Debug)]
pub struct Ready {
    /// Where the command wrote it, below the watched directory.
    pub path: PathBuf,
    /// The name of its directory.
    pub name: String,
    /// The step in its name.
    pub step: Step,
    stamps: Stamps,
    links: Stamps,
    snapshot: Snapshot,
}

impl Ready {
    /// A directory to save: the files of the only node, or a folder `rank-N` for each.
    pub fn directory(&self) -> &Path {
        self.snapshot.path()
    }

    /// Whether nobody wrote into the files since: a hard link shows that.
    pub fn is_unchanged(&self) -> bool {
        links(self.snapshot.path()) == self.links
    }
}

/// What is known of a directory.
#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    since: Instant,
    /// What its files said when they had these stamps.
    verdict: Option<Verdict>,
    is_taken: bool,
    step: Step,
}

/// Watches the directories of a command.
#[derive(Debug)]
pub struct Watch {
    options: WatchOptions,
    seen: BTreeMap<PathBuf, Seen>,
    /// Counts snapshots, for names that no other process has.
    snapshots: u64,
}

impl Watch {
    /// Makes the directories that are not there. What is in them is not of the command, unless it changes.
    ///
    /// # Errors
    /// As making and reading them says.
    pub fn begin(options: WatchOptions) -> Result<Self> {
        for directory in &options.directories {
            fs::create_dir_all(directory).map_err(|error| {
                Error::unavailable(format!("can not create {}", directory.display()))
                    .with_source(error)
            })?;
            Snapshot::clear(directory);
        }
        let mut watch = Self {
            options,
            seen: BTreeMap::new(),
            snapshots: 0,
        };
        watch.scan(Instant::now())?;
        watch
            .seen
            .values_mut()
            .for_each(|seen| seen.is_taken = true);
        Ok(watch)
    }

    /// Directories that were there when it began and look like checkpoints: path and step.
    pub fn found_at_start(&self) -> impl Iterator<Item = (&Path, Step)> {
        self.seen
            .iter()
            .map(|(path, seen)| (path.as_path(), seen.step))
    }

    /// Says that what was there at the start is the command's own, but what `is_in_run` already. It is given the files, and the step.
    ///
    /// # Errors
    /// What linking the files and `is_in_run` return.
    pub(super) fn adopt_unless(
        &mut self,
        is_in_run: impl Fn(&Path, Step) -> Result<bool>,
    ) -> Result<()> {
        let paths: Vec<(PathBuf, Step)> = self
            .seen
            .iter()
            .map(|(path, seen)| (path.clone(), seen.step))
            .collect();
        for (path, step) in paths {
            let snapshot = self.link(&self.nodes_of(&path))?;
            self.snapshots += 1;
            let is_taken = is_in_run(snapshot.path(), step)?;
            if let Some(seen) = self.seen.get_mut(&path) {
                seen.is_taken = is_taken;
            }
        }
        Ok(())
    }

    /// What is ready, oldest step first. `ending` says how the command ended, if it has.
    ///
    /// # Errors
    /// As reading the directories says.
    pub fn look(&mut self, now: Instant, ending: Option<Ending>) -> Result<Vec<Ready>> {
        self.scan(now)?;
        let mut ready = Vec::new();
        let paths: Vec<PathBuf> = self.seen.keys().cloned().collect();
        for path in paths {
            if let Some(one) = self.check(&path, now, ending)? {
                ready.push(one);
            }
        }
        ready.sort_by(|a, b| (a.step, &a.path).cmp(&(b.step, &b.path)));
        Ok(ready)
    }

    /// Says that a checkpoint is in the run: it is ready again only if it changes.
    pub fn taken(&mut self, ready: &Ready) {
        if let Some(seen) = self.seen.get_mut(&ready.path)
            && seen.stamps == ready.stamps
        {
            seen.is_taken = true;
        }
    }

    /// What is not whole now that the command ended and was not taken: renamed, so that no trainer goes on from it, and returned with the reason.
    ///
    /// # Errors
    /// As renaming says.
    pub fn set_aside(&mut self) -> Result<Vec<(PathBuf, String)>> {
        let mut aside = Vec::new();
        for (path, seen) in &self.seen {
            if seen.is_taken {
                continue;
            }
            let why = match &seen.verdict {
                Some(Verdict::Torn(why)) => why.clone(),
                _ => "nothing says that all of it is there".to_owned(),
            };
            for root in &self.options.directories {
                let from = root.join(path);
                if from.is_dir() {
                    let to = free_name(&from);
                    fs::rename(&from, &to).map_err(|error| unreadable(&from, error))?;
                    aside.push((to, why.clone()));
                }
            }
        }
        self.seen.retain(|_, seen| seen.is_taken);
        Ok(aside)
    }

    fn scan(&mut self, now: Instant) -> Result<()> {
        let mut found: BTreeMap<PathBuf, (Step, Stamps)> = BTreeMap::new();
        for (node, root) in self.options.directories.iter().enumerate() {
            find(root, Path::new(""), 1, &mut |path, step| {
                let mut stamps = Stamps::new();
                stamp(
                    &root.join(path),
                    &PathBuf::from(node.to_string()),
                    &mut stamps,
                );
                let entry = found
                    .entry(path.to_owned())
                    .or_insert((step, Stamps::new()));
                entry.1.extend(stamps);
            })?;
        }
        self.seen.retain(|path, _| found.contains_key(path));
        for (path, (step, stamps)) in found {
            let fresh = |stamps| Seen {
                stamps,
                since: now,
                verdict: None,
                is_taken: false,
                step,
            };
            match self.seen.get_mut(&path) {
                Some(seen) if seen.stamps == stamps => {}
                Some(seen) => *seen = fresh(stamps),
                None => {
                    self.seen.insert(path, fresh(stamps));
                }
            }
        }
        Ok(())
    }

    fn check(
        &mut self,
        path: &Path,
        now: Instant,
        ending: Option<Ending>,
    ) -> Result<Option<Ready>> {
        let Some(seen) = self.seen.get(path) else {
            return Ok(None);
        };
        let is_quiet = ending.is_some() || now.duration_since(seen.since) >= self.options.settle;
        if seen.is_taken || !is_quiet || matches!(seen.verdict, Some(Verdict::Torn(_))) {
            return Ok(None);
        }
        let (step, stamps) = (seen.step, seen.stamps.clone());
        let nodes = self.nodes_of(path);
        let is_everywhere = nodes.len() == self.options.directories.len();
        let has_gone_on = self.has_later(path, seen);
        let verdict = match seen.verdict.clone() {
            Some(verdict) => verdict,
            None => look_at(&nodes)?,
        };
        if let Some(seen) = self.seen.get_mut(path) {
            seen.verdict = Some(verdict.clone());
        }
        let is_ready = match (verdict, ending) {
            (Verdict::Torn(_), _) => false,
            (Verdict::Whole, ending) => is_everywhere || has_gone_on || ending.is_some(),
            (Verdict::Unmarked, Some(Ending::Well)) => true,
            (Verdict::Unmarked, _) => {
                (is_everywhere && nodes.iter().all(|(_, directory)| was_sealed(directory)))
                    || has_gone_on
            }
        };
        if !is_ready || is_being_written(&nodes) {
            return Ok(None);
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        self.snapshots += 1;
        let snapshot = match self.link(&nodes) {
            Ok(snapshot) => snapshot,
            // The trainer deletes it at this moment.
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // What was linked must be what was looked at: nothing came, went or changed meanwhile.
        let mut after = Stamps::new();
        for (node, directory) in &nodes {
            stamp(directory, &PathBuf::from(node.to_string()), &mut after);
        }
        if stamps != after {
            return Ok(None);
        }
        let links = links(snapshot.path());
        Ok(Some(Ready {
            path: path.to_owned(),
            name,
            step,
            stamps,
            links,
            snapshot,
        }))
    }

    fn link(&self, nodes: &[(usize, PathBuf)]) -> Result<Snapshot> {
        let inside =
            |node: usize| (self.options.directories.len() > 1).then(|| format!("rank-{node}"));
        let linked: Vec<(Option<String>, &Path)> = nodes
            .iter()
            .map(|(node, directory)| (inside(*node), directory.as_path()))
            .collect();
        let random = u64::from(std::process::id()) << 32 | self.snapshots;
        Snapshot::take(&self.options.directories[0], random, &linked)
    }

    /// The nodes that have a directory, and where.
    fn nodes_of(&self, path: &Path) -> Vec<(usize, PathBuf)> {
        let all = self.options.directories.iter().enumerate();
        all.map(|(node, root)| (node, root.join(path)))
            .filter(|(_, directory)| directory.is_dir())
            .collect()
    }

    /// Whether the trainer has written to a later checkpoint beside this one since this one changed last, so that it is done with it. One of a launch before
    /// this, which is later by its step alone, says nothing.
    fn has_later(&self, path: &Path, seen: &Seen) -> bool {
        self.seen.iter().any(|(other, later)| {
            other.parent() == path.parent() && later.step > seen.step && later.since > seen.since
        })
    }
}

fn look_at(nodes: &[(usize, PathBuf)]) -> Result<Verdict> {
    let mut sizes = Vec::with_capacity(nodes.len());
    for (_, directory) in nodes {
        let mut found = Sizes::new();
        match walk_sizes(directory, "", &mut found) {
            Ok(()) => sizes.push(found),
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => {
                return Ok(Verdict::Torn("it went away".to_owned()));
            }
            Err(error) => return Err(error),
        }
    }
    let directories: Vec<&Path> = nodes
        .iter()
        .map(|(_, directory)| directory.as_path())
        .collect();
    whole::look(&Looked {
        directories: &directories,
        sizes: &sizes,
    })
}
