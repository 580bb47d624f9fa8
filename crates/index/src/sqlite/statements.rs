//! How many statements were run: tests hold against it that a question's cost does not grow with what it is about.

use std::cell::Cell;

use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

thread_local! {
    static STATEMENTS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what a connection runs.
pub(super) fn count(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.trace_v2(
        TraceEventCodes::SQLITE_TRACE_STMT,
        Some(|_: TraceEvent<'_>| STATEMENTS.with(|count| count.set(count.get() + 1))),
    )
}

/// Statements that indexes ran on this thread so far.
pub fn on_this_thread() -> u64 {
    STATEMENTS.with(Cell::get)
}
