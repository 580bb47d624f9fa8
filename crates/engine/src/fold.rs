//! Store → index: what is new in the store becomes rows. The index is a cache; nothing reads it to decide what to write.
//!
//! A refresh lists the runs. One that was not touched since it was folded ([`seen`]) costs a few questions to the file system; of any
//! other the [`RunStamp`](runtree_store::RunStamp) is asked, which changes when anything a fold reads changes, and the run is folded if its stamp is
//! new. Stamp and trace are taken *before* the run is read and remembered *after*, so what appears in between is folded again rather than
//! missed. All items are idempotent and journals have cursors, so several processes may fold at once.
//!
//! In a large store most runs get no question: a thousand files stand for all of them ([`scan`], docs/design/0011). The few questions that also find
//! what other hands did (a journal cut short, a file copied in) go round: each refresh asks them of the next 250 runs, and
//! whoever looks at a run asks them of that one.
//!
//! A refresh of a large store is throttled to a small share of the time: a scan that took `t` is not repeated within `8 t`
//! (at most half a minute). A store of a few hundred runs is always looked at. What this process wrote itself, and the run a query
//! is about, are looked at whatever the throttle says.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::{Error, ErrorKind, Result, RunId};
use runtree_index::{FoldItem, Index as _};
use runtree_store::{RunStamp, Touches};

use crate::engine::Engine;

mod changes;
pub(crate) mod damage;
mod journals;
mod pins;
mod refusal;
mod reindex;
mod run;
mod scan;
pub(crate) mod sealed;
mod seen;

pub use reindex::{ReindexProgress, ReindexReport};

use changes::Changes;
use damage::RunDamage;
use journals::Again;
use seen::{Saved, Seen};

/// A fold that found damage after `t` is not repeated within this many `t`, while nothing else changes.
const DAMAGE_FACTOR: u32 = 8;
/// The longest throttle.
const MAX_THROTTLE: Duration = Duration::from_secs(30);
/// Key of the index's generation: another one means that somebody cleared it.
const GENERATION: &str = "generation";

/// What this process knows about what is folded.
#[derive(Debug, Default)]
pub(crate) struct FoldState {
    scan: Mutex<Scan>,
    changes: Mutex<Changes>,
    /// What could not be folded because it is damaged, until it can.
    damaged: Mutex<HashMap<RunId, RunDamage>>,
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
    seen: Seen,
    pins: Option<BTreeSet<String>>,
    /// Runs whose last fold found damage: their stamp then, when that was, and how long it took.
    damaged: HashMap<RunId, (Vec<u8>, Instant, Duration)>,
    /// Runs of the last scan; before the first, those that the index knows.
    listed: Option<HashSet<RunId>>,
    /// What `touched/` looked like before the last scan, of this process or of any.
    touches: Option<Touches>,
    /// Where among the runs the next round of close looks begins; none yet before the first.
    round: Option<usize>,
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
            && runs > self.options.scan.small_store
            && at.elapsed() < (took * self.options.scan.throttle).min(MAX_THROTTLE)
        {
            return Ok(());
        }
        let start = Instant::now();
        self.check_generation(&mut scan)?;
        // Before the runs are listed: what is published from here on is for the next time.
        let touches = self.store.touches();
        // A process's first refresh has both to do, and each takes its time in a large store.
        let runs = std::thread::scope(|scope| {
            let listed = scope.spawn(|| self.store.list_runs());
            self.load_for_scan(&mut scan)?;
            listed.join().expect("BUG: a listing panics never")
        })?;
        let count = runs.len();
        let doubtful = self.doubtful_runs(&mut scan, &runs, touches.as_ref())?;
        // In a bucket each stamp is a question that takes its time: they are asked at once. Taken before their runs are read, like any other.
        let mut stamps = self.store.run_stamps(&doubtful)?;
        let mut failed = None;
        for &run in &doubtful {
            // One damaged run must not hide the others.
            if let Err(error) = self.fold_run(&mut scan, run, Look::ForNews, stamps.remove(&run))
                && error.kind() != ErrorKind::Corrupt
            {
                failed.get_or_insert(error);
            }
        }
        self.fold_pins(&mut scan)?;
        let Scan {
            seen, generation, ..
        } = &mut *scan;
        // First the traces: a process that finds the marks must find which journals are open, or it would take what they gain for nothing.
        let is_saved = self.save_seen(seen, generation.as_deref().unwrap_or_default());
        if failed.is_none() && is_saved {
            self.keep_touches(&mut scan, touches, &doubtful);
            scan.listed = Some(runs.into_iter().collect());
        }
        scan.last = Some((Instant::now(), start.elapsed(), count));
        failed.map_or(Ok(()), Err)
    }

    /// Folds one run, whatever the throttle says.
    ///
    /// # Errors
    /// As [`Engine::refresh`], `Corrupt` included.
    pub(crate) fn refresh_run(&self, run: RunId) -> Result<()> {
        let mut scan = lock(&self.fold.scan);
        self.check_generation(&mut scan)?;
        self.fold_run(&mut scan, run, Look::ForNews, None)
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
        match self.fold_run(&mut scan, run, Look::Anew, None) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            other => other,
        }
    }

    /// Folds everything that is new now, whatever the throttle says.
    pub(crate) fn refresh_now(&self) -> Result<()> {
        lock(&self.fold.scan).last = None;
        self.refresh()
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

    fn fold_run(
        &self,
        scan: &mut Scan,
        run: RunId,
        look: Look,
        stamp: Option<RunStamp>,
    ) -> Result<()> {
        let anew = look == Look::Anew;
        if let Some(trace) = scan.seen.get(run)
            && !anew
            && self.store.is_untouched(run, trace)
        {
            return Ok(());
        }
        let (now, mut trace) = match stamp {
            Some(stamp) => (stamp, None),
            None => self.store.run_stamp_and_trace(run)?,
        };
        // A process that has not noticed yet that somebody cleared the index may write its stamp afterwards: it means nothing to the others.
        let generation = scan.generation.clone().unwrap_or_default();
        let stamp = [now.to_text().as_bytes(), &generation].concat();
        if scan.stamps.get(&run) == Some(&stamp) && !anew {
            self.close_trace(run, &mut trace)?;
            scan.seen.note(run, trace, Saved::No);
            return Ok(());
        }
        let start = Instant::now();
        if let Some((seen, at, took)) = scan.damaged.get(&run)
            && *seen == stamp
            && at.elapsed() < (*took * DAMAGE_FACTOR).min(MAX_THROTTLE)
            && let Some(damage) = lock(&self.fold.damaged).get(&run)
        {
            return Err(damage.to_error());
        }
        let key = format!("run/{run}");
        let folded = self.index.stamp(&key)?;
        if folded.as_ref() == Some(&stamp) && !anew {
            self.close_trace(run, &mut trace)?;
            scan.seen.note(run, trace, Saved::No);
        } else {
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
                    return self.fold_run(scan, run, Look::ForNews, None);
                }
                Err(error) => {
                    // What was half folded is read again from what the index says.
                    scan.known.remove(&run);
                    return Err(error);
                }
            }
            lock(&self.fold.damaged).remove(&run);
            scan.damaged.remove(&run);
            self.close_trace(run, &mut trace)?;
            let [closed, open] = seen::items(run, &generation, trace.as_ref());
            let value = stamp.clone();
            self.index
                .apply(&[FoldItem::Stamp { key, value }, closed, open])?;
            scan.seen.note(run, trace, Saved::Yes);
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
        scan.seen.forget(run);
        let no_stamp = FoldItem::Stamp {
            key: format!("run/{run}"),
            value: Vec::new(),
        };
        let [closed, open] = seen::items(run, &[], None);
        self.index.apply(&[no_stamp, closed, open])?;
        let is_new = scan
            .damaged
            .get(&run)
            .is_none_or(|(seen, ..)| *seen != stamp);
        scan.damaged
            .insert(run, (stamp, Instant::now(), start.elapsed()));
        let error = damage.to_error();
        lock(&self.fold.damaged).insert(run, damage);
        if is_new {
            self.note_change(run);
        }
        Ok(error)
    }
}
