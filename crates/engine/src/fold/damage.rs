//! What of a run can not be read, kept apart by what it makes unknown: who asks for one thing is not refused for the damage of another.

use std::collections::{BTreeMap, BTreeSet};

use runtree_core::event::Event;
use runtree_core::{AttemptNumber, Error, ErrorKind, Result, RunId, SaveKey, WriterId};
use runtree_index::{FrameContent, FrameRange};
use runtree_store::layout;

/// Damage of one run, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunDamage {
    /// Its birth or a launch: nobody knows what belongs to it.
    pub(crate) lineage: Vec<String>,
    /// A journal: points may be missing.
    pub(crate) journals: Vec<String>,
    /// Commits, or parts that a commit names.
    pub(crate) checkpoints: BTreeMap<SaveKey, String>,
    /// What nothing depends on.
    pub(crate) other: Vec<String>,
}

impl RunDamage {
    pub(crate) fn is_empty(&self) -> bool {
        self.texts().next().is_none()
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &String> {
        self.lineage
            .iter()
            .chain(&self.journals)
            .chain(self.checkpoints.values())
            .chain(&self.other)
    }

    /// All of it, as one error.
    pub(crate) fn to_error(&self) -> Error {
        let texts: Vec<&str> = self.texts().map(String::as_str).collect();
        as_error(&texts)
    }

    /// Launches are numbered without gaps.
    pub(crate) fn note_gaps(&mut self, run: RunId, attempts: &[AttemptNumber]) {
        let last = attempts.last().map_or(0, |last| last.0);
        for number in (1..last).map(AttemptNumber) {
            if attempts.binary_search(&number).is_err() {
                let path = layout::attempt(run, number);
                self.lineage.push(missing_attempt(path.as_ref()));
            }
        }
    }
}

/// Damage as people see it.
pub(crate) fn as_error(texts: &[&str]) -> Error {
    Error::corrupt(texts.join("; ")).with_hint("runtree verify lists everything that is damaged")
}

pub(crate) fn missing_attempt(path: &str) -> String {
    format!("{path} is missing, and the run was launched after it or wrote in it")
}

pub(crate) fn missing_commit(run: RunId, key: SaveKey) -> String {
    let path = layout::commit(run, key);
    format!("{path} is missing, and its writer journaled that it was there")
}

pub(crate) fn missing_journal(run: RunId, writer: WriterId) -> String {
    let path = layout::journal(run, writer);
    format!("{path} is missing, and was read before (`runtree reindex` forgets it)")
}

/// An error that is damage, in words; any other is passed on.
pub(crate) fn corrupt(error: Error) -> Result<String> {
    if error.kind() == ErrorKind::Corrupt {
        Ok(error.chain())
    } else {
        Err(error)
    }
}

/// What journals say about other objects.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) saved: BTreeSet<SaveKey>,
    pub(crate) attempts: BTreeSet<AttemptNumber>,
}

impl Told {
    pub(crate) fn take(&mut self, range: &FrameRange) {
        for frame in &range.frames {
            if let FrameContent::Event(event) = &frame.content {
                self.take_event(event);
            }
        }
    }

    pub(crate) fn take_event(&mut self, event: &Event) {
        match event {
            Event::Saved { key } => {
                self.saved.insert(*key);
            }
            Event::Opened {
                attempt: Some(attempt),
                ..
            } => {
                self.attempts.insert(*attempt);
            }
            _ => {}
        }
    }
}
