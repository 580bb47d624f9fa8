//! Who needs a checkpoint beside itself: pins, leases, forks, bases. Read from the store, never from the index.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::manifest::{
    AttemptKind, AttemptRecord, CheckpointName, Outcome, PinRecord, RunRecord,
};
use runtree_core::retention::Protection;
use runtree_core::{ErrorKind, Result, RunId, Timestamp};
use runtree_store::{PinName, Store, layout};

use crate::engine::Engine;

/// How much of a run's trash keeps its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashBound {
    /// Checkpoints of the run: those that were deleted last.
    pub checkpoints: u32,
}

impl Default for TrashBound {
    fn default() -> Self {
        Self { checkpoints: 2 }
    }
}

/// A checkpoint of another run that a run's record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) checkpoint: CheckpointName,
    by: RunId,
    is_fork: bool,
}

impl Reference {
    pub(super) fn of_run(record: &RunRecord) -> Vec<Self> {
        let forked = record.fork.as_ref().and_then(|fork| fork.checkpoint);
        let named = [(forked, true), (record.base, false)];
        named
            .into_iter()
            .filter_map(|(checkpoint, is_fork)| {
                Some(Self {
                    checkpoint: checkpoint?,
                    by: record.run,
                    is_fork,
                })
            })
            .collect()
    }

    /// What a launch loads of another run. What it loads of its own run is kept by retention, as long as the run likes.
    pub(super) fn of_attempt(record: &AttemptRecord) -> Option<Self> {
        let checkpoint = record.checkpoint.filter(|name| name.run != record.run)?;
        Some(Self {
            checkpoint,
            by: record.run,
            is_fork: record.kind == AttemptKind::Fork,
        })
    }

    fn protection(&self) -> Protection {
        if self.is_fork {
            Protection::ForkedBy(self.by)
        } else {
            Protection::BaseOf(self.by)
        }
    }
}

/// A pin that is there.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) name: PinName,
    pub(super) record: PinRecord,
    /// When the store stamped it last.
    pub(super) stamp: Timestamp,
}

impl Pinned {
    /// For how many microseconds it has been a lapsed lease at `now`; `None` if it holds.
    pub(super) fn lapsed_for(&self, now: Timestamp) -> Option<i64> {
        let ttl = i64::try_from(self.record.ttl_seconds?).unwrap_or(i64::MAX);
        let over = (now.0 - self.stamp.0).checked_sub(ttl.saturating_mul(1_000_000))?;
        (over > 0).then_some(over)
    }

    fn protection(&self) -> Protection {
        let reason = self.record.reason.clone();
        match self.record.ttl_seconds {
            None => Protection::Pinned { reason },
            Some(_) => Protection::Leased { reason },
        }
    }
}

/// Every pin and lease. One that vanishes meanwhile was taken back.
///
/// # Errors
/// `Corrupt` if one can not be read: nobody knows what it keeps.
pub(super) fn pins(store: &Store) -> Result<Vec<Pinned>> {
    let mut found = Vec::new();
    for name in store.list_pins()? {
        // The stamp first: a lease that is renewed in between counts as older than it is, for this once.
        let Some(stamp) = store.stamp(&layout::pin(&name))? else {
            continue;
        };
        match store.read_pin(&name) {
            Ok(record) => found.push(Pinned {
                name,
                record,
                stamp,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The store's time, asked only if there is a lease whose age matters. A handle that may not write can not ask: then every lease holds.
pub(super) fn time_for(store: &Store, pins: &[Pinned]) -> Result<Option<Timestamp>> {
    let has_lease = pins.iter().any(|pin| pin.record.ttl_seconds.is_some());
    if has_lease && store.mode() == runtree_store::Mode::ReadWrite {
        return store.time().map(Some);
    }
    Ok(None)
}

/// Pins and leases that hold, by checkpoint.
pub(super) fn holding(pins: &[Pinned], now: Option<Timestamp>) -> impl Iterator<Item = &Pinned> {
    pins.iter()
        .filter(move |pin| now.is_none_or(|now| pin.lapsed_for(now).is_none()))
}

impl Engine {
    /// Pins and leases that hold a checkpoint.
    pub(crate) fn pins_of(&self, checkpoint: CheckpointName) -> Result<Vec<Protection>> {
        let mut pins = pins(self.store())?;
        pins.retain(|pin| pin.record.checkpoint == checkpoint);
        let now = time_for(self.store(), &pins)?;
        Ok(holding(&pins, now).map(Pinned::protection).collect())
    }

    /// Checkpoints that forks, bases, launches, pins and leases name, and that were committed in this store; sorted.
    ///
    /// # Errors
    /// As [`Engine::protected_checkpoints`].
    pub(crate) fn relied_checkpoints(&self) -> Result<Vec<CheckpointName>> {
        let store = self.store();
        let mut named = BTreeSet::new();
        let mut remembered = self.gc.lock();
        for run in store.list_runs()? {
            let references = remembered.references_of(store, run)?;
            named.extend(references.iter().map(|reference| reference.checkpoint));
        }
        drop(remembered);
        let pins = pins(store)?;
        let now = time_for(store, &pins)?;
        named.extend(holding(&pins, now).map(|pin| pin.record.checkpoint));
        let mut relied = Vec::new();
        for name in named {
            let commit = store.read_commit(name.run, name.key)?;
            if commit.is_some_and(|commit| commit.outcome == Outcome::Committed) {
                relied.push(name);
            }
        }
        Ok(relied)
    }

    /// Checkpoints of a run that keep their bytes whatever is said about them, and why each does. Read from the store.
    ///
    /// # Errors
    /// `Corrupt` if a pin, a birth or a launch can not be read: it may name any checkpoint.
    pub fn protected_checkpoints(
        &self,
        run: RunId,
    ) -> Result<BTreeMap<CheckpointName, Vec<Protection>>> {
        let store = self.store();
        let mut found: BTreeMap<CheckpointName, Vec<Protection>> = BTreeMap::new();
        let mut note = |name: CheckpointName, why: Protection| {
            let all = found.entry(name).or_default();
            if name.run == run && !all.contains(&why) {
                all.push(why);
            }
        };
        let mut remembered = self.gc.lock();
        for other in store.list_runs()? {
            for reference in remembered.references_of(store, other)? {
                note(reference.checkpoint, reference.protection());
            }
        }
        drop(remembered);
        let pins = pins(store)?;
        let now = time_for(store, &pins)?;
        for pin in holding(&pins, now) {
            note(pin.record.checkpoint, pin.protection());
        }
        found.retain(|_, all| !all.is_empty());
        for all in found.values_mut() {
            all.sort();
        }
        Ok(found)
    }
}
