//! How far a save is, and who waits for it: the one object that the caller, the writing threads and the committer share.
//!
//! Stages only go forward: writing → waiting for the committer → published (other ranks' parts may be missing) → ended. `ended` is said
//! once; errors are shared by [`Arc`], because `result`, `exception`, `finish` and health all show the same one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtree_core::manifest::ChunkRecord;
use runtree_core::{ComponentName, Error, PartHash, SaveKey};

/// How a save ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// The checkpoint exists.
    Committed,
    /// It does not, because its caller asked for that: skip when busy, or cancel.
    Declined(Arc<Error>),
    /// It does not, and it should.
    Failed(Arc<Error>),
}

/// Which parts were here when somebody looked last.
pub(crate) type PartsHere = BTreeMap<ComponentName, Vec<u32>>;

/// A save on its way.
#[derive(Debug)]
pub(crate) struct Progress {
    key: SaveKey,
    cancelled: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Chunks that are not written yet; none while staging has not said how many there will be.
    chunks_left: Option<usize>,
    chunks: Vec<Option<ChunkRecord>>,
    error: Option<Arc<Error>>,
    /// Nothing of the caller's memory is read any more.
    staged: bool,
    published: Option<PartHash>,
    parts_here: PartsHere,
    ended: Option<Ended>,
    /// Until when missing parts are waited for; callers with a longer timeout move it.
    give_up: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(key: SaveKey, chunks: usize) -> Arc<Self> {
        Arc::new(Self {
            key,
            cancelled: AtomicBool::new(false),
            state: Mutex::new(State {
                chunks_left: Some(chunks),
                chunks: vec![None; chunks],
                error: None,
                staged: false,
                published: None,
                parts_here: PartsHere::new(),
                ended: None,
                give_up: None,
            }),
            changed: Condvar::new(),
        })
    }

    /// A save that ended before it began.
    pub(crate) fn ended(key: SaveKey, ended: Ended) -> Arc<Self> {
        let progress = Self::new(key, 0);
        progress.set_staged();
        progress.end(ended);
        progress
    }

    pub(crate) fn key(&self) -> SaveKey {
        self.key
    }

    /// Takes a written chunk, or what went wrong; says whether it was the last one.
    pub(crate) fn chunk_done(&self, index: usize, result: Result<ChunkRecord, Arc<Error>>) -> bool {
        let mut state = self.lock();
        match result {
            // A save that ended meanwhile (cancelled, or another of its chunks failed) has no place for it any more.
            Ok(record) => {
                if let Some(slot) = state.chunks.get_mut(index) {
                    *slot = Some(record);
                }
            }
            Err(error) => {
                state.error.get_or_insert(error);
            }
        }
        let left = state.chunks_left.map_or(0, |left| left.saturating_sub(1));
        state.chunks_left = Some(left);
        left == 0
    }

    /// Whether no more writing is needed: all chunks are done, or one failed, or nobody wants them any more.
    pub(crate) fn chunks_are_done(&self) -> bool {
        let state = self.lock();
        state.chunks_left == Some(0) || state.error.is_some() || self.is_cancelled()
    }

    /// The written chunks, in order.
    pub(crate) fn take_chunks(&self) -> Result<Vec<ChunkRecord>, Arc<Error>> {
        let mut state = self.lock();
        if let Some(error) = &state.error {
            return Err(Arc::clone(error));
        }
        let chunks = std::mem::take(&mut state.chunks);
        chunks
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                Arc::new(Error::internal(format!(
                    "a chunk of save {} was never written",
                    self.key
                )))
            })
    }

    /// Notes that writing can not go on.
    pub(crate) fn fail(&self, error: Error) {
        self.lock().error.get_or_insert(Arc::new(error));
    }

    pub(crate) fn set_staged(&self) {
        self.lock().staged = true;
        self.changed.notify_all();
    }

    /// Waits until nothing of the caller's memory is read any more, at most until `deadline`; says whether that is so. A save that ended early
    /// (cancelled, failed) may still be reading.
    pub(crate) fn wait_staged(&self, deadline: Option<Instant>) -> bool {
        self.wait_for(deadline, |state| state.staged.then_some(()))
            .is_some()
    }

    pub(crate) fn set_published(&self, hash: PartHash) {
        self.lock().published = Some(hash);
        self.changed.notify_all();
    }

    /// Waits until the part is published and confirmed, or the save has ended; says whether either happened before `deadline`.
    pub(crate) fn wait_published(&self, deadline: Instant) -> bool {
        self.wait_for(Some(deadline), |state| {
            (state.published.is_some() || state.ended.is_some()).then_some(())
        })
        .is_some()
    }

    pub(crate) fn published(&self) -> Option<PartHash> {
        self.lock().published
    }

    pub(crate) fn set_parts_here(&self, parts: PartsHere) {
        self.lock().parts_here = parts;
    }

    pub(crate) fn parts_here(&self) -> PartsHere {
        self.lock().parts_here.clone()
    }

    /// Waits at least until `instant` for missing parts.
    pub(crate) fn keep_waiting_until(&self, instant: Instant) {
        let mut state = self.lock();
        state.give_up = Some(state.give_up.map_or(instant, |old| old.max(instant)));
    }

    pub(crate) fn gives_up_at(&self) -> Option<Instant> {
        self.lock().give_up
    }

    /// Ends the save; only the first call counts.
    pub(crate) fn end(&self, ended: Ended) {
        let mut state = self.lock();
        if state.ended.is_none() {
            state.ended = Some(ended);
            state.chunks = Vec::new();
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn outcome(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// Waits for the end, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Ended> {
        self.wait_for(deadline, |state| state.ended.clone())
    }

    fn wait_for<T>(
        &self,
        deadline: Option<Instant>,
        look: impl Fn(&State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let Some(deadline) = deadline else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Asks for the save to be given up; what is published already goes on.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use runtree_core::manifest::BlockChecksums;
    use runtree_core::{AttemptNumber, ChunkHash, Step};

    use super::*;

    #[test]
    fn a_chunk_that_arrives_after_the_end_is_let_go() {
        let key = SaveKey {
            attempt: AttemptNumber::FIRST,
            step: Step(5),
            k: 0,
        };
        let record = ChunkRecord {
            hash: ChunkHash::of(b"late"),
            bytes: 4,
            crc64: BlockChecksums::default(),
            object: "late".to_owned(),
        };
        let progress = Progress::new(key, 2);
        progress.end(Ended::Declined(Arc::new(Error::conflict("cancelled"))));
        assert!(!progress.chunk_done(0, Ok(record.clone())));
        assert!(progress.chunk_done(1, Ok(record)));
    }
}
