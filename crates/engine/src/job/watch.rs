//! Directories that a command writes checkpoints into, and which of them are whole.
//!
//! A trainer says nothing while it writes. What is known of a directory is its files, when they changed last, who has them open, and how the command ended. One is
//! ready if nothing has changed for a while, no process has a file of it open for writing, and
//!
//! - its files say that it is whole: what its trainer writes last is there, and is the newest; or
//! - it was renamed into its place when it was done; or
//! - the command that wrote it ended well; or
//! - the trainer went on to a later one, which lies there quiet, with no file that this one lacks.
//!
//! The last three are of the launch that wrote it alone: what a launch before left is not made whole by what comes after. That something looks quiet is never enough: a
//! trainer that is stopped between two files looks the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtree_core::{Error, ErrorKind, Result, Step};

use super::disk::{
    Stamps, files, find, free_name, is_being_written, links, lock, names, stamp, was_sealed,
};
use super::snapshot::Snapshot;
use super::whole::{Verdict, judge_nodes};
use crate::layouts::unreadable;

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
    step: Step,
    stamps: Stamps,
    /// Since when the stamps are those.
    since: Instant,
    /// Files that were there before the command was started, and are the same: somebody else may have been killed while writing them.
    before: Stamps,
    /// What it was when it was taken in.
    taken: Stamps,
    state: State,
}

/// How far it is with a directory, while its stamps are the same.
#[derive(Debug)]
enum State {
    /// Nobody has looked into its files.
    New,
    /// What they say.
    Judged(Verdict),
    /// Whole, and not in the run: it could not be saved, and is tried again from then on.
    Unsaved(Instant),
    /// It can not be saved as it is.
    Refused(String),
    /// In the run, or none of the command's.
    Settled,
}

/// What a look found.
#[derive(Debug, Default)]
pub struct Looked {
    /// What is ready, oldest step first.
    pub ready: Vec<Ready>,
    /// What can not be saved as it is, and why; each is told once.
    pub refused: Vec<(PathBuf, Error)>,
}

/// A directory that is not in the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Below the watched directory.
    pub path: PathBuf,
    /// Why.
    pub why: String,
    /// Whether it is whole all the same: it could not be saved.
    pub is_whole: bool,
}

/// Watches the directories of a command.
#[derive(Debug)]
pub struct Watch {
    options: WatchOptions,
    seen: BTreeMap<PathBuf, Seen>,
    /// Says that somebody watches; the command inherits it.
    _lock: File,
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
        let lock = lock(&options.directories[0])?;
        let mut watch = Self {
            options,
            _lock: lock,
            seen: BTreeMap::new(),
            snapshots: 0,
        };
        watch.scan(Instant::now())?;
        for seen in watch.seen.values_mut() {
            seen.before = files(&seen.stamps);
            seen.state = State::Settled;
        }
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
            self.snapshots += 1;
            let is_known = match self.link(&self.nodes_of(&path)) {
                Ok(snapshot) => is_in_run(snapshot.path(), step)?,
                // What can not be linked can not be saved: that is said when it is looked at.
                Err(_) => false,
            };
            if let Some(seen) = self.seen.get_mut(&path).filter(|_| !is_known) {
                seen.state = State::New;
            }
        }
        Ok(())
    }

    /// What is ready. `ending` says how the command ended, if it has.
    ///
    /// # Errors
    /// As listing the directories says; what is wrong with one checkpoint keeps no other.
    pub fn look(&mut self, now: Instant, ending: Option<Ending>) -> Result<Looked> {
        self.scan(now)?;
        let mut looked = Looked::default();
        let paths: Vec<PathBuf> = self.seen.keys().cloned().collect();
        // All are judged before one is vouched for by another.
        for step in [Self::judge_if_quiet, Self::check] {
            for path in &paths {
                match step(self, path, now, ending) {
                    Ok(ready) => looked.ready.extend(ready),
                    // The trainer deletes it at this moment.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        self.set_state(path, State::Refused(error.chain()));
                        looked.refused.push((path.clone(), error));
                    }
                }
            }
        }
        looked
            .ready
            .sort_by(|a, b| (a.step, &a.path).cmp(&(b.step, &b.path)));
        Ok(looked)
    }

    /// Says that a checkpoint is in the run: it is ready again only if it changes.
    pub fn taken(&mut self, ready: &Ready) {
        self.settle(ready, State::Settled);
        if let Some(seen) = self.seen.get_mut(&ready.path) {
            seen.taken = files(&ready.stamps);
        }
    }

    /// Says that a checkpoint could not be saved now, and is ready again at a time, or when the command has ended.
    pub fn postponed(&mut self, ready: &Ready, until: Instant) {
        self.settle(ready, State::Unsaved(until));
    }

    /// Says that a checkpoint can not be saved as it is.
    pub fn refused(&mut self, ready: &Ready, why: String) {
        self.settle(ready, State::Refused(why));
    }

    fn settle(&mut self, ready: &Ready, state: State) {
        if let Some(seen) = self.seen.get_mut(&ready.path)
            && seen.stamps == ready.stamps
        {
            seen.state = state;
        }
    }

    fn set_state(&mut self, path: &Path, state: State) {
        if let Some(seen) = self.seen.get_mut(path) {
            seen.state = state;
        }
    }

    /// What is not in the run, and why.
    pub fn left(&self) -> Vec<Left> {
        let left = |(path, seen): (&PathBuf, &Seen)| {
            let (why, is_whole) = match &seen.state {
                State::Settled => return None,
                State::New => ("it was being written".to_owned(), false),
                State::Judged(Verdict::Torn(why) | Verdict::Stale(why)) => (why.clone(), false),
                State::Judged(Verdict::Unmarked) => {
                    ("nothing says that all of it is there".to_owned(), false)
                }
                // A process has it open; or, of several nodes, not all have it.
                State::Judged(Verdict::Whole) => (
                    "it is still being written to".to_owned(),
                    self.options.directories.len() == 1,
                ),
                State::Unsaved(_) => ("it could not be saved".to_owned(), true),
                State::Refused(why) => (why.clone(), true),
            };
            Some(Left {
                path: path.clone(),
                why,
                is_whole,
            })
        };
        self.seen.iter().filter_map(left).collect()
    }

    /// Renames what is not whole, now that nobody writes it any more, so that no trainer goes on from it; says what was renamed to where.
    ///
    /// # Errors
    /// As renaming says.
    pub fn set_aside(&mut self) -> Result<Vec<(Left, PathBuf)>> {
        let mut aside = Vec::new();
        for left in self.left().into_iter().filter(|left| !left.is_whole) {
            for root in &self.options.directories {
                let from = root.join(&left.path);
                if from.is_dir() {
                    let to = free_name(&from);
                    fs::rename(&from, &to).map_err(|error| unreadable(&from, error))?;
                    aside.push((left.clone(), to));
                }
            }
            self.seen.remove(&left.path);
        }
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
            let fresh = |stamps: Stamps, seen: Option<&Seen>| {
                let same = |before: &Stamps| -> Stamps {
                    let kept = before
                        .iter()
                        .filter(|(path, stamp)| stamps.get(*path) == Some(*stamp));
                    kept.map(|(path, stamp)| (path.clone(), *stamp)).collect()
                };
                Seen {
                    step,
                    since: now,
                    before: seen.map(|seen| same(&seen.before)).unwrap_or_default(),
                    taken: seen.map(|seen| seen.taken.clone()).unwrap_or_default(),
                    state: State::New,
                    stamps,
                }
            };
            match self.seen.get_mut(&path) {
                Some(seen) if seen.stamps == stamps => {}
                Some(seen) => *seen = fresh(stamps, Some(seen)),
                None => {
                    self.seen.insert(path, fresh(stamps, None));
                }
            }
        }
        Ok(())
    }

    fn is_quiet(&self, seen: &Seen, now: Instant, ending: Option<Ending>) -> bool {
        ending.is_some() || now.duration_since(seen.since) >= self.options.settle
    }

    fn judge_if_quiet(
        &mut self,
        path: &Path,
        now: Instant,
        ending: Option<Ending>,
    ) -> Result<Option<Ready>> {
        let seen = self.seen.get(path);
        let is_due = seen.is_some_and(|seen| {
            matches!(seen.state, State::New) && self.is_quiet(seen, now, ending)
        });
        if is_due {
            let verdict = judge_nodes(&self.nodes_of(path))?;
            self.set_state(path, State::Judged(verdict));
        }
        Ok(None)
    }

    fn check(
        &mut self,
        path: &Path,
        now: Instant,
        ending: Option<Ending>,
    ) -> Result<Option<Ready>> {
        let Some(seen) = self
            .seen
            .get(path)
            .filter(|seen| self.is_quiet(seen, now, ending))
        else {
            return Ok(None);
        };
        let nodes = self.nodes_of(path);
        let is_whole = match &seen.state {
            State::New | State::Settled | State::Refused(_) => false,
            State::Unsaved(until) => ending.is_some() || now >= *until,
            State::Judged(verdict) => self.is_vouched_for(path, seen, verdict, &nodes, now, ending),
        };
        if !is_whole || is_being_written(&nodes) {
            return Ok(None);
        }
        self.take_snapshot(path, &nodes)
    }

    /// Whether a directory whose files were judged is whole, by what they say and what else is known.
    fn is_vouched_for(
        &self,
        path: &Path,
        seen: &Seen,
        verdict: &Verdict,
        nodes: &[(usize, PathBuf)],
        now: Instant,
        ending: Option<Ending>,
    ) -> bool {
        let is_everywhere = nodes.len() == self.options.directories.len();
        // What was there before is nobody's of this launch, whatever was done to it since.
        let is_own = seen.before.is_empty();
        let ended_well = is_own && ending == Some(Ending::Well);
        let is_sealed =
            || is_own && is_everywhere && nodes.iter().all(|(_, directory)| was_sealed(directory));
        let was_followed = || is_own && self.has_successor(path, seen, now);
        // It was whole, and files came to it: nothing of it was written again.
        let was_added_to = !seen.taken.is_empty()
            && seen
                .taken
                .iter()
                .all(|(path, stamp)| seen.stamps.get(path) == Some(stamp));
        match verdict {
            Verdict::Torn(_) => false,
            Verdict::Whole => is_everywhere || ended_well || was_followed(),
            Verdict::Unmarked => ended_well || is_sealed() || was_followed(),
            Verdict::Stale(_) => {
                ended_well || was_added_to || (seen.taken.is_empty() && was_followed())
            }
        }
    }

    /// Whether the trainer went on to a later checkpoint beside this one after it had written to this one last: one that is quiet, and has no file that this one lacks.
    /// Who writes several at once may be stopped in each of them.
    fn has_successor(&self, path: &Path, seen: &Seen, now: Instant) -> bool {
        let own = names(&seen.stamps, seen.step);
        self.seen.iter().any(|(other, later)| {
            let is_sound = match &later.state {
                State::Judged(verdict) => matches!(verdict, Verdict::Whole | Verdict::Unmarked),
                State::Settled | State::Unsaved(_) => true,
                State::New | State::Refused(_) => false,
            };
            other.parent() == path.parent()
                && later.step > seen.step
                && later.since > seen.since
                && now.duration_since(later.since) >= self.options.settle
                && is_sound
                && names(&later.stamps, later.step).is_subset(&own)
        })
    }

    /// The files of a directory that is whole, unless they are not those any more that were looked at.
    fn take_snapshot(&mut self, path: &Path, nodes: &[(usize, PathBuf)]) -> Result<Option<Ready>> {
        self.snapshots += 1;
        let snapshot = self.link(nodes)?;
        let mut after = Stamps::new();
        for (node, directory) in nodes {
            stamp(directory, &PathBuf::from(node.to_string()), &mut after);
        }
        let Some(seen) = self.seen.get(path).filter(|seen| seen.stamps == after) else {
            return Ok(None);
        };
        let name = path.file_name().and_then(|name| name.to_str());
        Ok(Some(Ready {
            path: path.to_owned(),
            name: name.unwrap_or_default().to_owned(),
            step: seen.step,
            stamps: after,
            links: links(snapshot.path()),
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
        Snapshot::take(&self.options.directories[0], self.snapshots, &linked)
    }

    /// The nodes that have a directory, and where.
    fn nodes_of(&self, path: &Path) -> Vec<(usize, PathBuf)> {
        let all = self.options.directories.iter().enumerate();
        all.map(|(node, root)| (node, root.join(path)))
            .filter(|(_, directory)| directory.is_dir())
            .collect()
    }
}
