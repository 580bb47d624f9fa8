//! Noticing cheaply that nothing changed.

use runtree_core::{Result, RunId};

use super::{ListedJournal, Store};
use crate::layout;

/// What a run's folder looked like. Two equal stamps mean that there is nothing new to fold.
///
/// It holds counts and lengths, not times: everything in a run's folder is immutable or append-only, so whatever is added changes a
/// count or a length, and no clock's resolution can hide it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunStamp {
    born: bool,
    attempts: usize,
    commits: usize,
    tombstones: usize,
    /// Files in the part directories of saves that are not decided.
    pending_parts: usize,
    pending: usize,
    journals: Vec<ListedJournal>,
}

impl std::hash::Hash for ListedJournal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.writer, self.bytes).hash(state);
    }
}

impl RunStamp {
    /// A text that is equal if and only if the stamps are: an index stores it.
    pub fn to_text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!(
            "{}.{}.{}.{}.{}.{}",
            u8::from(self.born),
            self.attempts,
            self.commits,
            self.tombstones,
            self.pending,
            self.pending_parts
        );
        for journal in &self.journals {
            write!(text, ".{}={}", journal.writer, journal.bytes)
                .expect("BUG: writing to a string fails never");
        }
        text
    }
}

impl Store {
    /// What a run's folder looks like now.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamp(&self, run: RunId) -> Result<RunStamp> {
        let pending = self.list_pending(run)?;
        let mut pending_parts = 0;
        for key in &pending {
            pending_parts += self.names(&layout::parts(run, *key))?.len();
        }
        Ok(RunStamp {
            born: self.head(&layout::run(run))?.is_some(),
            attempts: self.names(&layout::attempts(run))?.len(),
            commits: self.names(&layout::commits(run))?.len(),
            tombstones: self.names(&layout::tombstones(run))?.len(),
            pending_parts,
            pending: pending.len(),
            journals: self.list_journals(run)?,
        })
    }
}
