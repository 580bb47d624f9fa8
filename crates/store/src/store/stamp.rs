//! Noticing cheaply that nothing changed, or that what is there was touched.

use std::collections::BTreeMap;

use runtree_core::{Result, RunId, WriterId};

use super::{ListedJournal, Store};
use crate::layout;

/// What a run's folder looked like. Two equal stamps mean that there is nothing new to fold.
///
/// What is added changes a count or a length, since everything in a run's folder is immutable or append-only: no clock's resolution can
/// hide it. Journals have the store's change tag besides, because what was damaged in place has the length it had.
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
        (self.writer, self.bytes, self.tag).hash(state);
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
            write!(
                text,
                ".{}={}-{:x}",
                journal.writer, journal.bytes, journal.tag
            )
            .expect("BUG: writing to a string fails never");
        }
        text
    }

    /// Journals that were written to since the stamp whose text is `before`, and are as long as they were then: their writer only ever makes
    /// them longer, so something else touched what was there.
    pub fn rewritten_since(&self, before: &str) -> Vec<WriterId> {
        let before: BTreeMap<&str, (&str, &str)> = before
            .split('.')
            .filter_map(|word| {
                let (writer, state) = word.split_once('=')?;
                Some((writer, state.split_once('-')?))
            })
            .collect();
        let journals = self.journals.iter().filter(|journal| {
            before
                .get(journal.writer.to_string().as_str())
                .is_some_and(|&(bytes, tag)| {
                    bytes == journal.bytes.to_string() && tag != format!("{:x}", journal.tag)
                })
        });
        journals.map(|journal| journal.writer).collect()
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
