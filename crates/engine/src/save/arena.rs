//! Staging memory: a pool of segments that saves copy into and the writers read from, kept between saves.
//!
//! The first touch of a page costs several times the copy into it, so segments are allocated once, touched by the first save that
//! needs them, and reused. A segment is lent out as plain `&mut [u8]` while a save fills it, then frozen into [`Bytes`] that any number
//! of writers share; the last of them to drop gives it back. No unsafe code and no lock is held while bytes move.
//!
//! What a segment is made of is for [`super::memory`] to say.
//!
//! The bound: at most twice the largest checkpoint so far (so that one can be written while the next is copied), never more than the arena's
//! limit, which is half of the memory the process may use unless set. A save that is larger than the limit is staged in turns: it waits
//! for its own first segments to be written. Memory is kept until nobody saves any more ([`Use`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::manifest::MAX_CHUNK_BYTES;

use super::memory::{Memory, Supply};
use runtree_shm::Room;

/// Bytes of a segment: the largest chunk fits.
pub(crate) const SEGMENT_BYTES: u64 = MAX_CHUNK_BYTES;
/// Below this a limit would make every save wait.
const LEAST_LIMIT_BYTES: u64 = 2 * SEGMENT_BYTES;

/// The pool.
#[derive(Debug)]
pub(crate) struct Arena {
    limit_segments: AtomicUsize,
    supply: Supply,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Lent from the end: memory with a name lies there.
    free: Vec<Memory>,
    lent: usize,
    /// Segments of the largest save so far.
    largest: usize,
    /// Who may save.
    users: usize,
    /// The last of them is gone.
    deserted: bool,
}

impl Arena {
    /// Makes a pool of at most `limit_bytes` (two segments at least); allocates nothing yet.
    pub(crate) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            limit_segments: AtomicUsize::new(segments(limit_bytes)),
            supply: Supply::default(),
            state: Mutex::default(),
            returned: Condvar::new(),
        })
    }

    /// Sets another limit. Segments that are free beyond it are given back to the system at once.
    pub(crate) fn set_limit(&self, limit_bytes: u64) {
        let limit = segments(limit_bytes);
        self.limit_segments.store(limit, Ordering::Relaxed);
        let mut state = self.lock();
        let keep = limit.saturating_sub(state.lent);
        let surplus = state.free.len().saturating_sub(keep);
        state.free.drain(..surplus);
    }

    /// Says that somebody will save, until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Use {
        let mut state = self.lock();
        state.users += 1;
        state.deserted = false;
        Use {
            arena: Arc::clone(self),
        }
    }

    /// Where the memory comes from.
    pub(crate) fn supply(&self) -> &Supply {
        &self.supply
    }

    fn limit(&self) -> usize {
        self.limit_segments.load(Ordering::Relaxed)
    }

    /// Half of the memory this process may use: the machine's, or its control group's if that is less.
    pub(crate) fn default_limit_bytes() -> u64 {
        let machine = {
            let info = rustix::system::sysinfo();
            info.totalram
                .saturating_mul(u64::from(info.mem_unit.max(1)))
        };
        let group = [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ]
        .iter()
        .filter_map(|path| {
            std::fs::read_to_string(path)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .min()
        .unwrap_or(u64::MAX);
        machine.min(group) / 2
    }

    /// Lends up to `wanted` segments for a save that needs `total` in all, waiting until `deadline` for the first one.
    ///
    /// Returns none at the deadline, or if the system has no memory. A deadline in the past asks without waiting.
    pub(crate) fn lend(
        self: &Arc<Self>,
        wanted: usize,
        total: usize,
        deadline: Instant,
    ) -> Vec<Segment> {
        let mut state = self.lock();
        state.largest = state.largest.max(total);
        loop {
            let count = wanted.min(self.room(&state));
            if count > 0 {
                let keep = state.free.len() - count.min(state.free.len());
                let buffers = state.free.split_off(keep);
                state.lent += count;
                drop(state);
                return self.make_up(buffers, count);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Vec::new();
            }
            state = self
                .returned
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Segments of `buffers`, and new ones up to `count`, which are counted as lent already. Without the lock: it takes the system a while to have them.
    fn make_up(self: &Arc<Self>, mut buffers: Vec<Memory>, count: usize) -> Vec<Segment> {
        // The copy itself faults the pages in, on all its threads.
        buffers.extend((buffers.len()..count).map_while(|_| self.map_segment()));
        if buffers.len() < count {
            self.lock().lent -= count - buffers.len();
            self.returned.notify_all();
        }
        buffers
            .into_iter()
            .map(|buffer| Segment {
                buffer: Some(buffer),
                arena: Arc::downgrade(self),
            })
            .collect()
    }

    /// Fresh zeroed memory of a segment, if the system has any.
    fn map_segment(&self) -> Option<Memory> {
        self.supply.memory(SEGMENT_BYTES as usize)
    }

    /// Makes segments for a save of `bytes` bytes and touches their pages, so that the first save copies into warm memory. Returns when that is done.
    ///
    /// At most half of the limit: nobody saved yet, and perhaps nobody will.
    pub(crate) fn prefault(&self, bytes: u64) {
        const PAGE_BYTES: usize = 4096;
        let wanted = bytes.div_ceil(SEGMENT_BYTES) as usize;
        let mut untouched = bytes as usize;
        loop {
            let state = self.lock();
            let there = state.free.len() + state.lent;
            drop(state);
            if there >= wanted.min(self.limit() / 2) {
                return;
            }
            let Some(mut buffer) = self.map_segment() else {
                return;
            };
            let touched = untouched.min(buffer.len());
            for page in buffer[..touched].chunks_mut(PAGE_BYTES) {
                page[0] = 1;
            }
            untouched -= touched;
            self.lock().keep(buffer);
            self.returned.notify_all();
        }
    }

    /// Whether `total` segments could be lent right now.
    pub(crate) fn has_room(&self, total: usize) -> bool {
        let mut state = self.lock();
        state.largest = state.largest.max(total);
        self.room(&state) >= total.min(self.limit())
    }

    /// How many more segments may be lent.
    fn room(&self, state: &State) -> usize {
        let limit = self.limit().min(state.largest.saturating_mul(2));
        limit.saturating_sub(state.lent)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who may save. When the last one is gone all memory goes back to the system.
#[derive(Debug)]
pub(crate) struct Use {
    arena: Arc<Arena>,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.arena.lock();
        state.users -= 1;
        if state.users == 0 {
            state.deserted = true;
            let free = std::mem::take(&mut state.free);
            drop(state);
            drop(free);
        }
    }
}

impl State {
    fn keep(&mut self, buffer: Memory) {
        match buffer {
            Memory::Shared(_) => self.free.push(buffer),
            Memory::Private(_) => self.free.insert(0, buffer),
        }
    }
}

/// The segments of a limit.
fn segments(limit_bytes: u64) -> usize {
    (limit_bytes.max(LEAST_LIMIT_BYTES) / SEGMENT_BYTES) as usize
}

/// A lent segment: memory that one save fills. Goes back to its pool when it, or what it was frozen into, is dropped.
#[derive(Debug)]
pub(crate) struct Segment {
    /// There until it is dropped.
    buffer: Option<Memory>,
    arena: Weak<Arena>,
}

impl Segment {
    /// The whole memory; what an earlier save left is still in it.
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or_default()
    }

    /// What the next process finds the memory by, if it outlives this one.
    pub(crate) fn name(&self) -> Option<(&Arc<Room>, &str)> {
        self.buffer.as_ref()?.name()
    }

    /// Ends the filling: the memory as shared bytes.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Segment {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let (Some(arena), Some(buffer)) = (self.arena.upgrade(), self.buffer.take()) {
            let mut state = arena.lock();
            state.lent -= 1;
            let mut surplus = Some(buffer);
            if !state.deserted && state.free.len() + state.lent < arena.limit() {
                surplus
                    .take()
                    .into_iter()
                    .for_each(|buffer| state.keep(buffer));
            }
            drop(state);
            drop(surplus);
            arena.returned.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_reused_and_the_limit_holds() {
        let arena = Arena::new(3 * SEGMENT_BYTES);
        let now = Instant::now();
        let mut first = arena.lend(2, 2, now);
        assert_eq!(first.len(), 2);
        first[0].memory()[7] = 9;
        let address = first[0].memory().as_ptr();
        assert_eq!(
            arena.lend(2, 2, now).len(),
            1,
            "one segment below the limit"
        );
        let frozen = first.remove(0).freeze();
        let slice = frozen.slice(7..8);
        drop(frozen);
        assert_eq!(slice[0], 9);
        drop(slice);
        drop(first);
        let again = arena.lend(3, 3, now);
        assert_eq!(again.len(), 3);
        assert!(
            again
                .iter()
                .any(|segment| segment.as_ref().as_ptr() == address)
        );
        assert!(arena.lend(1, 1, now).is_empty());
    }

    #[test]
    fn memory_goes_back_when_nobody_saves_any_more() {
        let arena = Arena::new(8 * SEGMENT_BYTES);
        let (first, second) = (arena.enter(), arena.enter());
        let mut lent = arena.lend(3, 3, Instant::now());
        drop(lent.pop());
        drop(first);
        assert_eq!(arena.lock().free.len(), 1, "the other may save");
        drop(second);
        assert_eq!(arena.lock().free.len(), 0);
        drop(lent);
        assert_eq!(arena.lock().free.len(), 0, "what comes late goes, too");
        let _again = arena.enter();
        drop(arena.lend(1, 1, Instant::now()));
        assert_eq!(arena.lock().free.len(), 1);
    }

    #[test]
    fn a_lower_limit_gives_memory_back() {
        let arena = Arena::new(8 * SEGMENT_BYTES);
        let mut lent = arena.lend(4, 4, Instant::now());
        drop(lent.split_off(1));
        arena.set_limit(2 * SEGMENT_BYTES);
        assert_eq!(arena.lock().free.len(), 1, "one is still lent");
        drop(lent);
        assert_eq!(arena.lock().free.len(), 2);
        assert_eq!(arena.lend(4, 4, Instant::now()).len(), 2);
    }

    #[test]
    fn prefaulted_memory_is_what_a_save_gets() {
        let arena = Arena::new(8 * SEGMENT_BYTES);
        arena.prefault(2 * SEGMENT_BYTES - 5);
        arena.prefault(10);
        assert_eq!(arena.lock().free.len(), 2);
        let lent = arena.lend(3, 3, Instant::now());
        assert_eq!(
            lent.iter()
                .filter(|segment| segment.as_ref()[4096] == 1)
                .count(),
            2
        );
    }

    #[test]
    fn a_small_save_does_not_wait_for_a_large_one() {
        let arena = Arena::new(64 * SEGMENT_BYTES);
        let now = Instant::now();
        let _large = arena.lend(3, 3, now);
        assert_eq!(arena.lend(1, 1, now).len(), 1);
        assert!(arena.has_room(3) && arena.has_room(1));
        let _next = arena.lend(3, 3, now);
        assert!(!arena.has_room(1), "a third large one waits");
    }

    #[test]
    fn a_save_waits_for_segments_that_come_back() {
        let arena = Arena::new(2 * SEGMENT_BYTES);
        let held = arena.lend(2, 2, Instant::now());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                arena
                    .lend(1, 1, Instant::now() + Duration::from_secs(30))
                    .len()
            });
            drop(held);
            assert_eq!(waiter.join().expect("the waiter returns"), 1);
        });
    }
}
