//! The listing of roots (G2), in the order that the protocol demands: intents, parts, commits and tombstones, run records, pins.
//!
//! The order is what makes it safe to walk a store that others change. Who moves a checkpoint from one protection to another writes the new one before it takes the old
//! one back: an undelete its `restored` before its lease goes. So the old one is looked for first. Parts stand before commits, because a part outlives its being pending.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runtree_core::manifest::{CheckpointName, CommittedPart};
use runtree_core::{Result, RunId, SaveKey};
use runtree_store::{Store, layout};

use super::memory::{Chunks, Contents};
use super::needed::Prefixes;
use super::roots::{self, TrashBound};
use super::trash::{Buried, in_trash};

/// Bytes of free disk that the trash may take: one in twenty.
const TRASH_SHARE: u64 = 20;

/// How much of the trash stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Of every run.
    pub(super) all: TrashBound,
    /// Of one run, for who just put something in.
    pub(super) of_run: Option<(RunId, TrashBound)>,
    /// Bytes of all trash together; what a twentieth of the free disk is, if it is not said.
    pub(super) bytes: Option<u64>,
}

impl Bounds {
    fn of(&self, run: RunId) -> u32 {
        match self.of_run {
            Some((only, bound)) if only == run => bound.checkpoints,
            _ => self.all.checkpoints,
        }
    }
}

/// What roots reach, and what they do not.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Chunks that roots reference; not yet the bases of their differences.
    pub(super) needed: Prefixes,
    /// Checkpoints that are there and not deleted.
    pub(super) live: u64,
    /// Saves that are not decided.
    pub(super) pending: u64,
    /// Deleted, and protected all the same.
    pub(super) protected: BTreeSet<CheckpointName>,
    /// Deleted, and in the trash.
    pub(super) trash: BTreeSet<CheckpointName>,
    /// Deleted, and not in it: nothing keeps their bytes.
    pub(super) gone: Deleted,
    /// Saves that were given up: nothing keeps their bytes either.
    pub(super) given_up: BTreeSet<CheckpointName>,
}

/// What is left out of a survey, and counts as gone.
pub(super) type Without<'a> = &'a BTreeSet<CheckpointName>;

/// Deleted checkpoints: the tombstone that says so, and their parts.
pub(super) type Deleted = BTreeMap<CheckpointName, (u64, Arc<[CommittedPart]>)>;

/// Looks at every root there is. Nothing that was there before this began is missed; what comes after looks at `gc/` itself (W4).
pub(super) fn survey(
    store: &Store,
    contents: &mut Contents,
    bounds: &Bounds,
    without: Without<'_>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    let mut pins = roots::pins(store)?;
    let runs = store.list_runs()?;
    let mut deleted = Deleted::new();
    for &run in &runs {
        saves(store, contents, run, without, &mut survey, &mut deleted)?;
    }
    let mut protected: BTreeSet<CheckpointName> = BTreeSet::new();
    // Listed again, after tombstones: a run may be forked from a checkpoint after the runs were listed and before it is deleted, and its W4 saw no new round.
    for run in store.list_runs()? {
        let named = contents.references_of(store, run)?;
        protected.extend(named.iter().map(|reference| reference.checkpoint));
    }
    pins.extend(roots::pins(store)?);
    let now = roots::time_for(store, &pins)?;
    protected.extend(roots::holding(&pins, now).map(|pin| pin.record.checkpoint));
    bury(store, contents, bounds, &protected, deleted, &mut survey)?;
    Ok(survey)
}

/// The saves and files of a run: what is live goes into the survey, what is deleted waits for what protects it.
fn saves(
    store: &Store,
    contents: &mut Contents,
    run: RunId,
    without: Without<'_>,
    survey: &mut Survey,
    deleted: &mut Deleted,
) -> Result<()> {
    let mut pending: BTreeSet<SaveKey> = store.list_saves(run)?.into_iter().collect();
    for list in store.list_file_lists(run)? {
        reach(survey, &*contents.chunks_of_files(store, run, list)?);
    }
    if !store.has_file_lists() {
        survey
            .needed
            .extend(contents.journaled.chunks_of(store, run)?);
    }
    let decided = store.list_commits(run)?;
    let buried: BTreeMap<SaveKey, u64> = store
        .list_tombstones(run)?
        .into_iter()
        .filter(|(_, highest)| layout::is_deleted(*highest))
        .collect();
    for key in decided {
        pending.remove(&key);
        let name = CheckpointName { run, key };
        let Some(parts) = contents.decided(store, name)? else {
            survey.given_up.insert(name);
            continue;
        };
        if without.contains(&name) {
            survey.gone.insert(name, (u64::MAX, parts));
        } else if let Some(&index) = buried.get(&key) {
            deleted.insert(name, (index, parts));
        } else {
            survey.live += 1;
            reach(survey, &*contents.chunks_of(store, name, &parts)?);
        }
    }
    for key in pending {
        let name = CheckpointName { run, key };
        survey.pending += 1;
        for part in store.list_parts(run, key)? {
            let chunks = contents.chunks_of_part(store, name, &part.component, part.rank)?;
            reach(survey, &chunks);
        }
    }
    Ok(())
}

/// Sorts what is deleted: protected, in the trash, gone.
fn bury(
    store: &Store,
    contents: &mut Contents,
    bounds: &Bounds,
    protected: &BTreeSet<CheckpointName>,
    deleted: Deleted,
    survey: &mut Survey,
) -> Result<()> {
    let mut buried = Vec::new();
    for (&name, (index, parts)) in &deleted {
        if protected.contains(&name) {
            reach(survey, &*contents.chunks_of(store, name, parts)?);
            survey.protected.insert(name);
        } else {
            let since = contents.buried_at(store, name, *index)?;
            buried.push(Buried { name, since });
        }
    }
    let limit = bounds
        .bytes
        .or_else(|| store.free_bytes().map(|free| free / TRASH_SHARE));
    // What is counted here is not needed by that: of the trash only what stays is.
    let mut counted = Prefixes::default();
    let kept = in_trash(
        buried,
        |run| bounds.of(run),
        limit,
        |name| {
            let chunks = contents.chunks_of(store, name, &deleted[&name].1)?;
            let sizes = chunks.hashes.iter().zip(&chunks.bytes);
            let own =
                sizes.filter(|(hash, _)| !survey.needed.contains(hash) && counted.insert(**hash));
            Ok(own.map(|(_, bytes)| u64::from(*bytes)).sum())
        },
    )?;
    for name in kept {
        reach(
            survey,
            &*contents.chunks_of(store, name, &deleted[&name].1)?,
        );
        survey.trash.insert(name);
    }
    survey.gone.extend(
        deleted
            .into_iter()
            .filter(|(name, _)| !survey.trash.contains(name) && !survey.protected.contains(name)),
    );
    Ok(())
}

fn reach(survey: &mut Survey, chunks: &Chunks) {
    survey.needed.extend(&chunks.hashes);
}
