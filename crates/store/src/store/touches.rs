//! Which runs of a large store were published into: a thousand files stand for all of them.
//!
//! Whoever publishes anything into a run's folder first touches the file of `touched/` that the run shares with others ([`LocalStore`]). So a reader that
//! finds a file as it was knows of all its runs that nothing was published into them, but by a writer that was stopped for seconds between the two, or by
//! other hands: what that leaves unseen is found when the run itself is looked at. What is appended to a journal touches nothing here.

use runtree_core::RunId;

use super::Store;
use crate::layout;
use crate::local::{LocalStore, Mark};

/// What the files of `touched/` looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touches {
    /// By place; `None` where nothing is known.
    marks: Vec<Option<Mark>>,
}

impl Store {
    /// What the files of `touched/` look like now; nothing behind an object store or on a network file system.
    pub fn touches(&self) -> Option<Touches> {
        let names = (0..layout::TOUCHED_FILES).map(layout::touched_name);
        let marks = self
            .local()
            .and_then(|local: &LocalStore| local.settled_marks(&layout::all_touched(), names))?;
        Some(Touches { marks })
    }
}

impl Touches {
    /// Whether certainly nothing was published into `run` between `self` and `now`.
    pub fn holds(&self, now: &Self, run: RunId) -> bool {
        let place = layout::touched_place(run);
        self.marks[place].is_some() && self.marks[place] == now.marks[place]
    }

    /// Takes back what is known of `run`, and of those that share its file.
    pub fn forget(&mut self, run: RunId) {
        self.marks[layout::touched_place(run)] = None;
    }

    /// Bytes that [`Touches::parse`] reads: an index stores them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.marks.len() * 25);
        for mark in &self.marks {
            bytes.push(u8::from(mark.is_some()));
            if let Some(mark) = mark {
                mark.write(&mut bytes);
            }
        }
        bytes
    }

    /// What [`Touches::to_bytes`] wrote; `None` of anything else.
    pub fn parse(mut bytes: &[u8]) -> Option<Self> {
        let from = &mut bytes;
        let mut marks = Vec::with_capacity(layout::TOUCHED_FILES);
        for _ in 0..layout::TOUCHED_FILES {
            let (known, rest) = from.split_first()?;
            *from = rest;
            marks.push(match known {
                0 => None,
                1 => Some(Mark::read(from)?),
                _ => return None,
            });
        }
        from.is_empty().then_some(Self { marks })
    }
}
