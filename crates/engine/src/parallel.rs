//! Work on several threads: the one way in which this crate copies, reads, verifies and measures in parallel.
//!
//! Threads take items from a shared queue, so that a slow item holds up nobody but the thread that has it. The calling thread is one of them: little work
//! starts no thread at all. All threads are joined before the call returns, so work may borrow, and nothing goes on behind the caller's back.
//!
//! How many threads pay is not decided here; the caller knows what its items cost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use runtree_core::{Error, Result};

/// Lowers the calling thread's priority as far as it goes: what runs beside training gives way to it. Where the system refuses that, the thread runs as any other.
pub(crate) fn yield_to_everybody() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
}

/// Calls `work` for every item, on at most `threads` threads, and no more than there are items. Each thread has a state of its own, made by `begin`: a
/// buffer, or what it found. All states are returned, the calling thread's first; which thread has which items is chance.
///
/// After an error no thread takes another item. `doing` is what an error calls the threads: "a reading thread panicked".
///
/// # Errors
/// What `work` returned first, of the calling thread, else of the first thread started that has an error. `Internal` if `work` panicked, on whichever thread.
pub(crate) fn work_off<I, S>(
    items: I,
    threads: usize,
    doing: &str,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I::Item) -> Result<()> + Sync,
) -> Result<Vec<S>>
where
    I: IntoIterator<IntoIter: ExactSizeIterator + Send>,
    S: Send,
{
    let items = items.into_iter();
    let threads = threads.min(items.len());
    let queue = Mutex::new(items);
    let failed = AtomicBool::new(false);
    let work_alone = || -> Result<S> {
        let mut state = begin();
        while !failed.load(Ordering::Relaxed) {
            // Taken in one statement: the lock is not held while somebody works.
            let item = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(item) = item else { break };
            work(&mut state, item).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        }
        Ok(state)
    };
    let settle = |outcome: std::thread::Result<Result<S>>| {
        outcome.unwrap_or_else(|_| Err(Error::internal(format!("a {doing} thread panicked"))))
    };
    // Unwind safe: a state that a panic interrupted is dropped with it, and what `work` fills is not used after an error.
    let work_here = || settle(catch_unwind(AssertUnwindSafe(work_alone)));
    if threads < 2 {
        return Ok(vec![work_here()?]);
    }
    std::thread::scope(|scope| {
        // Where there are no more threads to be had, those that are there do the work.
        let start = |_| {
            std::thread::Builder::new()
                .spawn_scoped(scope, work_alone)
                .ok()
        };
        let helpers: Vec<_> = (1..threads).map_while(start).collect();
        let own = work_here().map(|state| vec![state]);
        // Every thread is joined, also behind an error: of one that was not, a scope would pass the panic on.
        helpers.into_iter().fold(own, |states, helper| {
            let theirs = settle(helper.join());
            let mut states = states?;
            states.push(theirs?);
            Ok(states)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use runtree_core::ErrorKind;

    use super::*;

    #[test]
    fn every_item_is_done_once() {
        for threads in [0, 1, 2, 7, 2000] {
            let note = |done: &mut Vec<u32>, item| {
                done.push(item);
                Ok(())
            };
            let items: Vec<u32> = (0..1000).collect();
            let done = work_off(items.clone(), threads, "testing", Vec::new, note).unwrap();
            assert!(done.len() <= threads.max(1));
            let mut done = done.concat();
            done.sort_unstable();
            assert_eq!(done, items, "{threads} threads");
        }
    }

    #[test]
    fn one_thread_or_one_item_starts_no_thread() {
        let caller = thread::current().id();
        for (threads, items) in [(0, 9), (1, 9), (8, 1), (8, 0)] {
            let begun = AtomicUsize::new(0);
            let begin = || {
                begun.fetch_add(1, Ordering::Relaxed);
            };
            let states = work_off(vec![(); items], threads, "testing", begin, |(), ()| {
                assert_eq!(thread::current().id(), caller);
                Ok(())
            });
            assert_eq!(states.unwrap().len(), 1);
            assert_eq!(begun.into_inner(), 1);
        }
    }

    #[test]
    fn threads_work_at_the_same_time() {
        let both = Barrier::new(2);
        let states = work_off(
            vec![(); 2],
            2,
            "testing",
            || (),
            |(), ()| {
                both.wait();
                Ok(())
            },
        );
        assert_eq!(states.unwrap().len(), 2);
    }

    #[test]
    fn an_error_stops_the_rest_and_is_returned() {
        for threads in [1, 2, 5] {
            let done = AtomicUsize::new(0);
            let work = |(): &mut (), item| {
                if item == 10 {
                    return Err(Error::conflict("item 10"));
                }
                done.fetch_add(1, Ordering::Relaxed);
                thread::park_timeout(Duration::from_micros(100));
                Ok(())
            };
            let error = work_off(0..1_000_000_u32, threads, "testing", || (), work).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert_eq!(error.message(), "item 10");
            let done = done.into_inner();
            assert!(done >= 10, "items before it were taken before it");
            // Half a minute of work, of which whoever meets item 10 says in time that it failed.
            assert!(done < 900_000, "{done} items on {threads} threads");
        }
    }

    #[test]
    fn a_panic_becomes_an_error_on_whichever_thread() {
        let caller = thread::current().id();
        for of_caller in [true, false] {
            let both = Barrier::new(2);
            let work = |(): &mut (), ()| {
                both.wait();
                let panics = (thread::current().id() == caller) == of_caller;
                assert!(!panics, "this one panics");
                Ok(())
            };
            let error = work_off(vec![(); 2], 2, "testing", || (), work).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert_eq!(error.message(), "a testing thread panicked");
        }
        let work = |(): &mut (), ()| panic!("alone");
        let error = work_off([()], 1, "testing", || (), work).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
