//! One collection: what it wants to delete, its rounds (G1), the listing after them (G2), and what that shows to be needless (G3, G4).

use std::collections::BTreeSet;
use std::time::Duration;

use runtree_core::manifest::CheckpointName;
use runtree_core::{Result, RunId, Timestamp};
use runtree_store::{KEPT_ROUNDS, ObjectName, OpenRounds, Store, layout};

use super::memory::Memory;
use super::needed::{Differences, Prefixes, SHARDS, prefix, walk};
use super::report::{GcOptions, GcProgress, GcReport, Kept};
use super::roots::TrashBound;
use super::spare::spare_of;
use super::survey::{Bounds, Deleted, Survey, survey};

/// Objects that one collection takes on: what is more waits for the next, so that memory is bounded whatever the store holds.
const MAX_OBJECTS: usize = 1 << 20;
/// Objects that are deleted before it is said how far it is.
const BATCH: usize = 1024;

/// Collects in a store. A process has one memory for all its collections of a store.
#[derive(Debug)]
pub struct Collector<'a> {
    pub(super) store: &'a Store,
    memory: &'a Memory,
    /// For the records, which people read.
    now: Timestamp,
    /// Closed rounds that stay below the highest.
    keep: u64,
}

/// What is collected.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// Whatever nothing needs.
    Store(GcOptions),
    /// What a run's trash let go.
    Trash(RunId, TrashBound),
}

impl Scope {
    fn bounds(&self) -> Bounds {
        match *self {
            Self::Store(options) => Bounds {
                all: options.trash,
                of_run: None,
                bytes: options.trash_bytes,
            },
            Self::Trash(run, bound) => Bounds {
                all: TrashBound::default(),
                of_run: Some((run, bound)),
                bytes: None,
            },
        }
    }

    fn grace(&self) -> Duration {
        match self {
            Self::Store(options) => options.grace,
            Self::Trash(..) => Duration::ZERO,
        }
    }
}

/// How old an object is at least that may be deleted.
#[derive(Clone, Copy, Debug)]
struct Age {
    grace: Duration,
    /// What was put later than this is no checkpoint's that was deleted: a save may be under way that put it, and no longer has its bytes.
    put_before: Option<Timestamp>,
}

/// An object that nothing needed when it was looked at.
pub(super) type Candidate = (ObjectName, u64);

impl<'a> Collector<'a> {
    /// A collector in `store`.
    pub fn new(store: &'a Store, memory: &'a Memory, now: Timestamp) -> Self {
        Self {
            store,
            memory,
            now,
            keep: KEPT_ROUNDS,
        }
    }

    /// The same that keeps another number of closed rounds. For simulations, in which a listing is a photograph and none has to stay.
    pub fn keeping(mut self, rounds: u64) -> Self {
        self.keep = rounds;
        self
    }

    /// Deletes every chunk object that nothing needs.
    ///
    /// # Errors
    /// `Denied` if the store is open for reading only; `Corrupt` if it can not be told what is needed: then nothing is deleted.
    pub fn collect_all(
        &self,
        options: &GcOptions,
        progress: &mut dyn FnMut(GcProgress),
    ) -> Result<GcReport> {
        let mut report = GcReport {
            dry_run: options.dry_run,
            ..GcReport::default()
        };
        while self.pass(&Scope::Store(*options), &mut report, progress)? {}
        if !options.dry_run {
            self.store.forget_rounds(self.keep)?;
            self.store.forget_dead_rounds(self.keep)?;
        }
        Ok(report)
    }

    /// Deletes what left the trash of a run.
    ///
    /// # Errors
    /// As [`Collector::collect_all`].
    pub fn collect_trash(&self, run: RunId, bound: TrashBound) -> Result<GcReport> {
        let mut report = GcReport::default();
        while self.pass(&Scope::Trash(run, bound), &mut report, &mut |_| {})? {}
        if report.rounds > 0 {
            self.store.forget_rounds(self.keep)?;
        }
        Ok(report)
    }

    /// One collection of bounded size; whether there is more to do.
    fn pass(
        &self,
        scope: &Scope,
        report: &mut GcReport,
        progress: &mut dyn FnMut(GcProgress),
    ) -> Result<bool> {
        let Some(mut candidates) = self.plan(scope, report, progress)? else {
            return Ok(false);
        };
        let more = candidates.len() > MAX_OBJECTS;
        if report.dry_run {
            report.removed_objects = candidates.len() as u64;
            report.freed_bytes = candidates.iter().map(|(_, bytes)| bytes).sum();
            return Ok(false);
        }
        candidates.truncate(MAX_OBJECTS);
        candidates.sort_unstable();
        let names = candidates.iter().map(|(name, _)| *name);
        let Some(rounds) = self.store.open_rounds(names, self.now)? else {
            report.gave_way = true;
            return Ok(false);
        };
        report.rounds += rounds.numbers().len() as u64;
        let swept = self.sweep(scope, &rounds, &candidates, report, progress);
        // Also after an error: nothing is deleted for these rounds any more.
        let closed = rounds.close();
        let swept = swept?;
        closed?;
        Ok(more && swept > 0)
    }

    /// What it would like to delete: what was needless a moment ago. Nothing depends on this being right, since it is looked at again once the rounds are there.
    fn plan(
        &self,
        scope: &Scope,
        report: &mut GcReport,
        progress: &mut dyn FnMut(GcProgress),
    ) -> Result<Option<Vec<Candidate>>> {
        let mut remembered = self.memory.lock();
        let nothing = BTreeSet::new();
        let found = survey(self.store, &mut remembered, &scope.bounds(), &nothing)?;
        let mut put_before = None;
        let mut dead = match *scope {
            Scope::Store(_) => None,
            Scope::Trash(run, _) => {
                let mut dead = Prefixes::default();
                for (&name, (index, parts)) in &found.gone {
                    if name.run == run && !remembered.collected.contains(&(name, *index)) {
                        let since = remembered.buried_at(self.store, name, *index)?;
                        put_before = put_before.max(Some(since));
                        let chunks = remembered.chunks_of(self.store, name, parts)?;
                        dead.extend(&chunks.hashes);
                    }
                }
                if dead.is_empty() {
                    return Ok(None);
                }
                Some(dead)
            }
        };
        let Survey { mut needed, .. } = found;
        report.kept = Kept {
            checkpoints: found.live,
            pending: found.pending,
            trash: found.trash.len() as u64,
            protected: found.protected.len() as u64,
            ..Kept::default()
        };
        drop(remembered);
        let condemned = match scope {
            Scope::Store(_) => self.store.list_rounds()?,
            Scope::Trash(..) => runtree_store::Rounds::default(),
        };
        let mut differences = Differences::default();
        let (mut needless, mut spare, mut all) = (Vec::new(), Vec::new(), 0);
        walk(
            self.store,
            |names| {
                all += names.len() as u64;
                for same in names.chunk_by(|a, b| a.hash == b.hash) {
                    if needed.contains(&prefix(&same[0].hash)) {
                        spare.extend(spare_of(same, |name| condemned.condemns(name)));
                    } else {
                        needless.extend_from_slice(same);
                    }
                }
                for name in names {
                    differences.note(name);
                }
            },
            &mut |listed| progress(GcProgress::Listed(listed)),
        )?;
        differences.close(&mut needed);
        needless.retain(|name| !needed.contains(&prefix(&name.hash)));
        match &mut dead {
            None => needless.append(&mut spare),
            Some(dead) => {
                differences.close(dead);
                needless.retain(|name| dead.contains(&prefix(&name.hash)));
            }
        }
        let age = Age {
            grace: scope.grace(),
            put_before,
        };
        let candidates = self.older_than(age, needless, report)?;
        report.kept_objects = all - candidates.len() as u64;
        Ok(Some(candidates))
    }

    /// Those that were put long enough ago by the store's clock, and are still there.
    fn older_than(
        &self,
        age: Age,
        names: Vec<ObjectName>,
        report: &mut GcReport,
    ) -> Result<Vec<Candidate>> {
        let grace = i64::try_from(age.grace.as_micros()).unwrap_or(i64::MAX);
        let now = match (grace, names.is_empty()) {
            (0, _) | (_, true) => None,
            _ if self.store.mode() == runtree_store::Mode::ReadOnly => Some(self.now),
            _ => Some(self.store.time()?),
        };
        let mut old = Vec::with_capacity(names.len());
        for name in names {
            let Some(meta) = self.store.head(&layout::chunk_object(&name))? else {
                continue;
            };
            let put = meta.last_modified.timestamp_micros();
            let is_young = now.is_some_and(|now| now.0.saturating_sub(put) < grace)
                || age.put_before.is_some_and(|before| put > before.0);
            if is_young {
                report.kept.young_objects += 1;
                report.kept.young_bytes += meta.size;
            } else {
                old.push((name, meta.size));
            }
        }
        Ok(old)
    }

    /// Lists what is needed now that the rounds are there (G2), and deletes what is not (G3). Says how many objects that were.
    fn sweep(
        &self,
        scope: &Scope,
        rounds: &OpenRounds,
        candidates: &[Candidate],
        report: &mut GcReport,
        progress: &mut dyn FnMut(GcProgress),
    ) -> Result<u64> {
        let mut remembered = self.memory.lock();
        let nothing = BTreeSet::new();
        let mut found = survey(self.store, &mut remembered, &scope.bounds(), &nothing)?;
        drop(remembered);
        let mut needed = std::mem::take(&mut found.needed);
        let mut differences = Differences::default();
        let mut is_there = vec![false; candidates.len()];
        walk(
            self.store,
            |names| {
                for name in names {
                    differences.note(name);
                    if let Ok(at) = candidates.binary_search_by(|(other, _)| other.cmp(name)) {
                        is_there[at] = true;
                    }
                }
            },
            &mut |_| {},
        )?;
        differences.close(&mut needed);
        let there = candidates
            .iter()
            .zip(is_there)
            .filter(|(_, is_there)| *is_there);
        let (spare, doomed): (Vec<Candidate>, Vec<Candidate>) = there
            .map(|(candidate, _)| *candidate)
            .partition(|(name, _)| needed.contains(&prefix(&name.hash)));
        if !doomed.is_empty() {
            self.make_decisions_durable(&found.gone, &found.given_up)?;
        }
        let before = report.removed_objects;
        let to_do = (doomed.len() + spare.len()) as u64;
        for batch in doomed.chunks(BATCH) {
            let names: Vec<ObjectName> = batch.iter().map(|(name, _)| *name).collect();
            rounds.delete(&names)?;
            report.removed_objects += batch.len() as u64;
            report.freed_bytes += batch.iter().map(|(_, bytes)| bytes).sum::<u64>();
            progress(GcProgress::Deleted(report.removed_objects - before, to_do));
        }
        self.sweep_spare(rounds, &spare, report)?;
        if let (Scope::Trash(run, _), false) = (scope, candidates.len() == MAX_OBJECTS) {
            let gone = found.gone.iter().filter(|(name, _)| name.run == *run);
            let gone = gone.map(|(&name, (index, _))| (name, *index));
            self.memory.lock().collected.extend(gone);
        }
        Ok(report.removed_objects - before)
    }
}

impl Collector<'_> {
    /// Makes durable what says that checkpoints need nothing any more. Whoever wrote it may have been killed before that, and a power cut would bring them back without
    /// their chunks.
    fn make_decisions_durable(
        &self,
        gone: &Deleted,
        given_up: &BTreeSet<CheckpointName>,
    ) -> Result<()> {
        let mut remembered = self.memory.lock();
        let tombstones = gone
            .iter()
            .map(|(name, (index, _))| layout::tombstone(name.run, name.key, *index));
        let commits = given_up
            .iter()
            .map(|name| layout::commit(name.run, name.key));
        let fresh: Vec<_> = tombstones
            .chain(commits)
            .filter(|path| !remembered.durable.contains(path))
            .collect();
        self.store.sync_dirs(&fresh)?;
        remembered.durable.extend(fresh);
        Ok(())
    }
}

/// Shards that are walked, for who shows progress.
pub const GC_SHARDS: u64 = SHARDS;
