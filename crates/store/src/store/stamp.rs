//! Noticing cheaply that nothing changed, or that what is there was touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use runtree_core::{Result, RunId, SaveKey, WriterId};

use super::{ListedJournal, Store};
use crate::layout;
use crate::local::{LocalStore, Look};

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

/// By what a run's folder is recognised as untouched, without listing it: that all its directories and the lengths of its journals
/// are what they were. Much cheaper than a [`RunStamp`], and weaker: a touched folder may have an equal stamp.
///
/// There is none of a store behind an object store, on a network file system, or of a folder that was touched in the last seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTrace {
    /// Pieces of journals: writer and first ordinal.
    pieces: Vec<(WriterId, u64)>,
    /// Saves that have parts and are not decided.
    pending: Vec<SaveKey>,
    digest: [u8; 16],
}

impl RunTrace {
    /// A text that [`RunTrace::parse`] reads: an index stores it.
    pub fn to_text(&self) -> String {
        let mut text = format!("{:032x}", u128::from_be_bytes(self.digest));
        for (writer, ordinal) in &self.pieces {
            write!(text, " {writer}.{ordinal}").expect("BUG: writing to a string fails never");
        }
        for key in &self.pending {
            write!(text, " {key}").expect("BUG: writing to a string fails never");
        }
        text
    }

    /// What [`RunTrace::to_text`] wrote; `None` of any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let digest = u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
        let (mut pieces, mut pending) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('.') {
                Some((writer, ordinal)) => {
                    pieces.push((layout::parse_id(writer)?, layout::parse_number(ordinal)?));
                }
                None => pending.push(layout::parse_id(word)?),
            }
        }
        Some(Self {
            pieces,
            pending,
            digest,
        })
    }
}

impl Store {
    /// What a run's folder looks like now.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamp(&self, run: RunId) -> Result<RunStamp> {
        self.stamp_of(run, &self.list_pending(run)?)
    }

    /// What a run's folder looks like now, and how to recognise it as long as it stays so.
    ///
    /// # Errors
    /// As the store says.
    pub fn run_stamp_and_trace(&self, run: RunId) -> Result<(RunStamp, Option<RunTrace>)> {
        // Begun before anything is listed: what changes from here on is too young for the look to count.
        let look = self.local().and_then(LocalStore::look);
        let pending = self.list_pending(run)?;
        let stamp = self.stamp_of(run, &pending)?;
        let Some(look) = look else {
            return Ok((stamp, None));
        };
        let pieces: Vec<_> = self
            .list_journal_pieces(run)?
            .into_iter()
            .map(|piece| (piece.writer, piece.first_ordinal))
            .collect();
        let trace = see(look, run, &pieces, &pending).map(|digest| RunTrace {
            pieces,
            pending,
            digest,
        });
        Ok((stamp, trace))
    }

    /// Whether nothing at all happened to a run's folder since `trace` was taken. `false` says nothing.
    pub fn is_untouched(&self, run: RunId, trace: &RunTrace) -> bool {
        let look = self.local().and_then(LocalStore::look);
        let seen = look.and_then(|look| see(look, run, &trace.pieces, &trace.pending));
        seen == Some(trace.digest)
    }

    fn stamp_of(&self, run: RunId, pending: &[SaveKey]) -> Result<RunStamp> {
        let mut pending_parts = 0;
        for key in pending {
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

/// Looks at every directory that a [`RunStamp`] lists, and at every journal.
fn see(
    mut look: Look<'_>,
    run: RunId,
    pieces: &[(WriterId, u64)],
    pending: &[SaveKey],
) -> Option<[u8; 16]> {
    let fixed = [
        layout::run_folder(run),
        layout::attempts(run),
        layout::commits(run),
        layout::tombstones(run),
        layout::all_parts(run),
        layout::journals(run),
    ];
    for directory in &fixed {
        look.directory(directory);
    }
    for key in pending {
        look.directory(&layout::parts(run, *key));
    }
    for &(writer, ordinal) in pieces {
        look.directory(&layout::journal(run, writer));
        look.length(&layout::journal_piece(run, writer, ordinal));
    }
    look.finish()
}
