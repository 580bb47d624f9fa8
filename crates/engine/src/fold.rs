//! Store → index: what is new in the store becomes rows. The index is a cache; nothing reads it to decide what to write.
//!
//! A refresh lists the runs, asks for each one's [`RunStamp`] (which changes when anything a fold reads changes), and folds the runs
//! whose stamp is new. The stamp is taken *before* the run is read and remembered *after*, so what appears in between is folded
//! again rather than missed. All items are idempotent and journals have cursors, so several processes may fold at once.
//!
//! A refresh of a large store is throttled to a small share of the time: a scan that took `t` is not repeated within `8 t`
//! (at most half a minute). A store of a few hundred runs is always looked at. What this process wrote itself, and the run a query
//! is about, are looked at whatever the throttle says.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::{Error, ErrorKind, Result, RunId, SaveKey};
use runtree_index::{FoldItem, Index as _, PinFacts};

use crate::engine::Engine;

pub(crate) mod damage;
mod journals;
mod run;

use damage::RunDamage;
use journals::Again;

/// A scan that took `t` is not repeated within this many `t`.
const THROTTLE_FACTOR: u32 = 8;
/// The scan of a store of at most this many runs is never throttled, however busy the machine: what another process wrote is seen at once.
const SMALL_STORE: usize = 256;
/// The longest throttle.
const MAX_THROTTLE: Duration = Duration::from_secs(30);
/// How many changes are remembered for [`Engine::changes_since`].
const MAX_CHANGES: usize = 16_384;
/// Key of the index's generation: another one means that somebody cleared it.
const GENERATION: &str = "generation";

/// How far a reindex has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReindexProgress {
    /// Runs folded.
    pub runs_done: u64,
    /// Runs in the store.
    pub runs: u64,
}

/// What a reindex found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReindexReport {
    /// Runs.
    pub runs: u64,
    /// Launches.
    pub attempts: u64,
    /// Checkpoints, whatever became of them.
    pub checkpoints: u64,
    /// Journal frames.
    pub frames: u64,
}

/// What this process knows about what is folded.
#[derive(Debug, Default)]
pub(crate) struct FoldState {
    scan: Mutex<Scan>,
    changes: Mutex<Changes>,
    /// Runs that were running when [`Engine::notice_silence`] looked last.
    running: Mutex<BTreeSet<RunId>>,
}

impl FoldState {
    pub(crate) fn running(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        lock(&self.running)
    }
}

#[derive(Debug, Default)]
struct Scan {
    generation: Option<Vec<u8>>,
    stamps: HashMap<RunId, Vec<u8>>,
    known: HashMap<RunId, run::Known>,
    pins: Option<BTreeSet<String>>,
    /// Runs whose last fold found damage: their stamp then, when that was, and how long it took.
    damaged: HashMap<RunId, (Vec<u8>, Instant, Duration)>,
    /// When the last scan ended, how long it took, how many runs it saw.
    last: Option<(Instant, Duration, usize)>,
}

/// How closely a fold looks at a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// For what is new since the last time.
    ForNews,
    /// At all of its journals, from their beginning.
    Anew,
}

#[derive(Debug, Default)]
struct Changes {
    /// What could not be folded because it is damaged, until it can.
    damaged: HashMap<RunId, RunDamage>,
    counter: u64,
    log: VecDeque<(u64, RunId)>,
    /// Changes up to this one were forgotten.
    forgotten: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Folds what is new in the store into the index. Cheap when nothing changed; every query calls it first.
    ///
    /// # Errors
    /// `Corrupt` if a journal is damaged where it should not be; `Unavailable` if a disk or the database fails.
    pub fn refresh(&self) -> Result<()> {
        let mut scan = lock(&self.fold.scan);
        if let Some((at, took, runs)) = scan.last
            && runs > SMALL_STORE
            && at.elapsed() < (took * THROTTLE_FACTOR).min(MAX_THROTTLE)
        {
            return Ok(());
        }
        let start = Instant::now();
        self.check_generation(&mut scan)?;
        let mut failed = None;
        let runs = self.store.list_runs()?;
        let count = runs.len();
        for run in runs {
            // One damaged run must not hide the others.
            if let Err(error) = self.fold_run(&mut scan, run, Look::ForNews)
                && error.kind() != ErrorKind::Corrupt
            {
                failed.get_or_insert(error);
            }
        }
        self.fold_pins(&mut scan)?;
        scan.last = Some((Instant::now(), start.elapsed(), count));
        failed.map_or(Ok(()), Err)
    }

    /// Refuses to show what can not be shown whole: points of a run with a damaged journal or launch.
    ///
    /// # Errors
    /// `Corrupt` that names what is damaged.
    pub(crate) fn check_damage(&self, runs: impl Iterator<Item = RunId>) -> Result<()> {
        self.refuse_damage(runs, |damage| {
            damage.lineage.iter().chain(&damage.journals).collect()
        })
    }

    /// Refuses to say what belongs to a run if its birth or launches, or those of a run that it was forked from, are damaged.
    ///
    /// # Errors
    /// `Corrupt` that names what is damaged.
    pub(crate) fn check_lineage(&self, run: RunId) -> Result<()> {
        let hurt: BTreeSet<RunId> = {
            let changes = lock(&self.fold.changes);
            let hurt = changes.damaged.iter();
            let hurt = hurt.filter(|(_, damage)| !damage.lineage.is_empty());
            hurt.map(|(run, _)| *run).collect()
        };
        if hurt.is_empty() {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        let mut next = Some(run);
        while let Some(run) = next.filter(|run| seen.insert(*run)) {
            self.refuse_damage(std::iter::once(run), |damage| {
                damage.lineage.iter().collect()
            })?;
            let record = self.store.try_read_run(run)?;
            let fork = record.and_then(|record| record.fork);
            next = fork.map(|fork| fork.owner.run);
        }
        Ok(())
    }

    fn refuse_damage(
        &self,
        runs: impl Iterator<Item = RunId>,
        relevant: impl Fn(&RunDamage) -> Vec<&String>,
    ) -> Result<()> {
        let changes = lock(&self.fold.changes);
        for run in runs {
            let Some(damage) = changes.damaged.get(&run) else {
                continue;
            };
            let texts: Vec<&str> = relevant(damage).into_iter().map(String::as_str).collect();
            if !texts.is_empty() {
                return Err(damage::as_error(&texts));
            }
        }
        Ok(())
    }

    /// Checkpoints of a run whose commit or parts can not be read, and why. Known as far as the run was folded.
    pub(crate) fn damaged_checkpoints(&self, run: RunId) -> BTreeMap<SaveKey, String> {
        lock(&self.fold.changes)
            .damaged
            .get(&run)
            .map(|damage| damage.checkpoints.clone())
            .unwrap_or_default()
    }

    /// What is damaged so that it can not be folded, by run, in words.
    pub fn damaged_runs(&self) -> Vec<(RunId, String)> {
        let changes = lock(&self.fold.changes);
        let mut damaged: Vec<_> = changes
            .damaged
            .iter()
            .map(|(run, damage)| (*run, damage.to_error().message().to_owned()))
            .collect();
        damaged.sort();
        damaged
    }

    /// Folds one run, whatever the throttle says.
    ///
    /// # Errors
    /// As [`Engine::refresh`], `Corrupt` included.
    pub(crate) fn refresh_run(&self, run: RunId) -> Result<()> {
        let mut scan = lock(&self.fold.scan);
        self.check_generation(&mut scan)?;
        self.fold_run(&mut scan, run, Look::ForNews)
    }

    /// Folds one run as far as it can be read. Whoever decides or lists goes on with that; whoever shows points asks [`Engine::check_damage`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn refresh_known(&self, run: RunId) -> Result<()> {
        match self.refresh_run(run) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            other => other,
        }
    }

    /// [`Engine::refresh_known`], and reads all journals of the run from their beginning: damage that left no trace in a file's stamps is found
    /// before the run goes on, and [`Engine::check_damage`] knows it then.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn refresh_anew(&self, run: RunId) -> Result<()> {
        let mut scan = lock(&self.fold.scan);
        self.check_generation(&mut scan)?;
        match self.fold_run(&mut scan, run, Look::Anew) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            other => other,
        }
    }

    /// Folds everything that is new now, whatever the throttle says.
    pub(crate) fn refresh_now(&self) -> Result<()> {
        lock(&self.fold.scan).last = None;
        self.refresh()
    }

    /// Deletes the index and folds the whole store again.
    pub fn reindex(&self) -> Result<ReindexReport> {
        self.reindex_with(&mut |_| {})
    }

    /// [`Engine::reindex`], telling how far it is.
    ///
    /// # Errors
    /// `Corrupt` that names the first damaged run, after all others were folded; `Unavailable`.
    pub fn reindex_with(&self, progress: &mut dyn FnMut(ReindexProgress)) -> Result<ReindexReport> {
        let mut scan = lock(&self.fold.scan);
        self.index.clear()?;
        *scan = Scan::default();
        self.check_generation(&mut scan)?;
        let runs = self.store.list_runs()?;
        let mut report = ReindexReport::default();
        let mut failed: Option<Error> = None;
        for (done, run) in runs.iter().enumerate() {
            progress(ReindexProgress {
                runs_done: done as u64,
                runs: runs.len() as u64,
            });
            if let Err(error) = self.fold_run(&mut scan, *run, Look::ForNews) {
                failed.get_or_insert(error.in_context(format!("run {run}")));
            }
        }
        self.fold_pins(&mut scan)?;
        drop(scan);
        let snapshot = self.snapshot()?;
        for run in runs {
            let attempts = snapshot.attempts(run)?.len() as u64;
            report.runs += u64::from(attempts > 0);
            report.attempts += attempts;
            report.checkpoints += snapshot.checkpoints(run)?.len() as u64;
            report.frames += snapshot
                .writers(run)?
                .iter()
                .map(|writer| writer.cursor.ordinal)
                .sum::<u64>();
        }
        failed.map_or(Ok(report), Err)
    }

    /// Grows whenever a refresh found something new.
    pub fn change_counter(&self) -> u64 {
        lock(&self.fold.changes).counter
    }

    /// The counter now, and the runs that changed since it was `counter`; every run of the store if that is too long ago.
    pub fn changes_since(&self, counter: u64) -> (u64, Vec<RunId>) {
        let changes = lock(&self.fold.changes);
        let now = changes.counter;
        if counter < changes.forgotten {
            drop(changes);
            return (now, self.store.list_runs().unwrap_or_default());
        }
        let runs: BTreeSet<RunId> = changes
            .log
            .iter()
            .filter(|(at, _)| *at > counter)
            .map(|(_, run)| *run)
            .collect();
        (now, runs.into_iter().collect())
    }

    pub(crate) fn note_change(&self, run: RunId) {
        let mut changes = lock(&self.fold.changes);
        changes.counter += 1;
        let counter = changes.counter;
        changes.log.push_back((counter, run));
        if changes.log.len() > MAX_CHANGES
            && let Some((at, _)) = changes.log.pop_front()
        {
            changes.forgotten = at;
        }
    }

    /// Forgets what this process believed to be folded if the index was cleared or is new.
    fn check_generation(&self, scan: &mut Scan) -> Result<()> {
        let stored = self.index.stamp(GENERATION)?;
        if stored.is_some() && stored == scan.generation {
            return Ok(());
        }
        *scan = Scan::default();
        scan.generation = Some(if let Some(stored) = stored {
            stored
        } else {
            let value = self.options.entropy.bits().to_le_bytes().to_vec();
            self.index.apply(&[FoldItem::Stamp {
                key: GENERATION.to_owned(),
                value: value.clone(),
            }])?;
            value
        });
        Ok(())
    }

    fn fold_run(&self, scan: &mut Scan, run: RunId, look: Look) -> Result<()> {
        let now = self.store.run_stamp(run)?;
        // A process that has not noticed yet that somebody cleared the index may write its stamp afterwards: it means nothing to the others.
        let generation = scan.generation.clone().unwrap_or_default();
        let stamp = [now.to_text().as_bytes(), &generation].concat();
        let anew = look == Look::Anew;
        if scan.stamps.get(&run) == Some(&stamp) && !anew {
            return Ok(());
        }
        let start = Instant::now();
        if let Some((seen, at, took)) = scan.damaged.get(&run)
            && *seen == stamp
            && at.elapsed() < (*took * THROTTLE_FACTOR).min(MAX_THROTTLE)
            && let Some(damage) = lock(&self.fold.changes).damaged.get(&run)
        {
            return Err(damage.to_error());
        }
        let key = format!("run/{run}");
        let folded = self.index.stamp(&key)?;
        if folded.as_ref() != Some(&stamp) || anew {
            let known = match scan.known.entry(run) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(run::Known::load(&self.index, run, folded.is_some())?)
                }
            };
            // Another process that found damage took the stamp away.
            known.trusted &= folded.is_some();
            let again = if anew {
                Again::All
            } else {
                let before = folded
                    .as_deref()
                    .and_then(|it| it.strip_suffix(&*generation));
                let before = before.and_then(|text| std::str::from_utf8(text).ok());
                Again::These(
                    now.rewritten_since(before.unwrap_or_default())
                        .into_iter()
                        .collect(),
                )
            };
            match self.fold_run_objects(run, known, &again) {
                Ok(run::Folded::Whole) => {}
                Ok(run::Folded::Damaged(damage)) => {
                    return Err(self.note_damage(scan, run, stamp, start, damage)?);
                }
                Ok(run::Folded::Shrunk) => {
                    // The index knows what was never durable: it is a cache, and is begun anew.
                    self.index.clear()?;
                    *scan = Scan::default();
                    self.check_generation(scan)?;
                    return self.fold_run(scan, run, Look::ForNews);
                }
                Err(error) => {
                    // What was half folded is read again from what the index says.
                    scan.known.remove(&run);
                    return Err(error);
                }
            }
            lock(&self.fold.changes).damaged.remove(&run);
            scan.damaged.remove(&run);
            self.index.apply(&[FoldItem::Stamp {
                key,
                value: stamp.clone(),
            }])?;
        }
        scan.stamps.insert(run, stamp);
        self.note_change(run);
        Ok(())
    }

    /// Remembers what of a run is damaged. It keeps no stamp, here and in the index, so that every process finds it again until it is mended.
    fn note_damage(
        &self,
        scan: &mut Scan,
        run: RunId,
        stamp: Vec<u8>,
        start: Instant,
        damage: RunDamage,
    ) -> Result<Error> {
        scan.known.remove(&run);
        scan.stamps.remove(&run);
        self.index.apply(&[FoldItem::Stamp {
            key: format!("run/{run}"),
            value: Vec::new(),
        }])?;
        let is_new = scan
            .damaged
            .get(&run)
            .is_none_or(|(seen, ..)| *seen != stamp);
        scan.damaged
            .insert(run, (stamp, Instant::now(), start.elapsed()));
        let error = damage.to_error();
        lock(&self.fold.changes).damaged.insert(run, damage);
        if is_new {
            self.note_change(run);
        }
        Ok(error)
    }

    /// Pins are few and not bound to a run's stamp: their names are listed each time, new ones are read.
    fn fold_pins(&self, scan: &mut Scan) -> Result<()> {
        let listed = self.store.list_pins()?;
        if scan.pins.is_none() {
            let known = self.index.snapshot()?.pins()?;
            scan.pins = Some(known.into_iter().map(|pin| pin.name).collect());
        }
        let Some(known) = &mut scan.pins else {
            return Ok(());
        };
        let mut items = Vec::new();
        let mut now = BTreeSet::new();
        for name in &listed {
            let text = name.as_str().to_owned();
            if !known.contains(&text) {
                match self.store.read_pin(name) {
                    Ok(record) => items.push(FoldItem::Pin(PinFacts {
                        name: text.clone(),
                        record: Some(record),
                    })),
                    // One that can not be read keeps what it keeps, since collectors look at names; `verify` reports it.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) =>
                    {
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            now.insert(text);
        }
        for gone in known.difference(&now) {
            items.push(FoldItem::Pin(PinFacts {
                name: gone.clone(),
                record: None,
            }));
        }
        if !items.is_empty() {
            self.index.apply(&items)?;
        }
        *known = now;
        Ok(())
    }
}
