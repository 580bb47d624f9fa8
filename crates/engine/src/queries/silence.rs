//! Runs that fall silent: the one change that nobody writes down.
//!
//! A run whose process was killed says nothing more; that it is lost follows from the time alone, so no refresh finds anything new.
//! Who tells others of changes asks here as well.

use std::collections::BTreeSet;

use runtree_core::event::RunStatus;
use runtree_core::filter::{Comparison, Field, Filter, Value};
use runtree_core::{Result, RunId};
use runtree_index::{Deleted, MetricChoice};

use crate::engine::Engine;

/// Runs asked for at a time.
const PAGE: u32 = 1000;

impl Engine {
    /// Counts as a change that a run, which was running when this was asked last, is not any more. That its end may have been folded and
    /// counted already does no harm: a change says "look again".
    ///
    /// # Errors
    /// `Unavailable` if the index can not be read.
    pub fn notice_silence(&self) -> Result<()> {
        let running = self.running()?;
        let before = std::mem::replace(&mut *self.fold.running(), running.clone());
        for run in before.difference(&running) {
            self.note_change(*run);
        }
        Ok(())
    }

    fn running(&self) -> Result<BTreeSet<RunId>> {
        let snapshot = self.snapshot()?;
        let mut query = runtree_index::RunQuery::new(self.liveness());
        query.filter = Filter::Compare {
            field: Field::Status,
            comparison: Comparison::Equal,
            value: Value::Text(RunStatus::Running.as_str().to_owned()),
        };
        query.deleted = Deleted::Include;
        query.show_metrics = MetricChoice::None;
        query.limit = PAGE;
        let mut running = BTreeSet::new();
        loop {
            let slice = snapshot.runs(&query)?;
            running.extend(slice.runs.iter().map(|row| row.record.run));
            match slice.next_cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(running),
            }
        }
    }
}
