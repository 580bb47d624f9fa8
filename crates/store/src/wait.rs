//! Running a backend's futures to their end on the calling thread.
//!
//! runtree's core is synchronous: trainers, the command line and loads block anyway. On a local disk every future is ready at its first
//! poll, because [`crate::LocalStore`] does its I/O inline when it is polled from here; so nothing is spawned and no runtime is needed.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

thread_local! {
    static BLOCKING_ALLOWED: Cell<bool> = const { Cell::new(false) };
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Whether this thread is inside [`block_on`], so that blocking it blocks nobody else.
pub(crate) fn blocking_is_allowed() -> bool {
    BLOCKING_ALLOWED.get()
}

/// Runs `future` to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            BLOCKING_ALLOWED.set(self.0);
        }
    }
    let _restore = Restore(BLOCKING_ALLOWED.replace(true));
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
