//! Journals, as a collector sees them: the chunks that they name where nobody lists them, and the pieces that segments stand for.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use runtree_core::event::Event;
use runtree_core::{ErrorKind, Result, RunId, WriterId};
use runtree_metrics::Segment;
use runtree_store::{Cursor, FrameKind, JournalReader, SegmentName, Store, layout};

use super::needed::{Prefix, prefix};
use crate::engine::Engine;
use crate::fold::sealed::{Sealed, event};

/// Chunks that journals name, of stores whose writers may not list them. A journal only grows, a segment never changes: each is read once, and on from there.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    journals: HashMap<(RunId, WriterId), (Cursor, Vec<Prefix>)>,
    segments: HashMap<(RunId, SegmentName), Vec<Prefix>>,
}

impl Journaled {
    /// The chunks that the journals and segments of a run name.
    ///
    /// # Errors
    /// `Corrupt` if one can not be read: it may name any chunk.
    pub(super) fn chunks_of(&mut self, store: &Store, run: RunId) -> Result<HashSet<Prefix>> {
        let mut found = HashSet::new();
        // Before the journals: what is collected in between is then known to be sealed.
        for name in store.list_segments(run)? {
            let known = match self.segments.entry((run, name)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let segment = Segment::open(store.read_segment(run, &name)?)?;
                    place.insert(in_segment(&segment)?)
                }
            };
            found.extend(&*known);
        }
        for journal in store.list_journals(run)? {
            let (cursor, chunks) = self
                .journals
                .entry((run, journal.writer))
                .or_insert((Cursor::START, Vec::new()));
            // What is before its first piece was sealed, and read there.
            if cursor.ordinal >= journal.first_ordinal {
                let mut reader = JournalReader::open(store, run, journal.writer, *cursor)?;
                while let Some(frame) = reader.next_frame()? {
                    if frame.kind == FrameKind::Event {
                        chunks.extend(frame.event()?.chunks().map(|chunk| prefix(&chunk.hash)));
                    }
                }
                *cursor = reader.cursor();
            } else {
                chunks.extend(behind_sealed(store, run, journal.writer)?);
            }
            found.extend(&*chunks);
        }
        Ok(found)
    }
}

fn in_segment(segment: &Segment) -> Result<Vec<Prefix>> {
    let mut chunks = Vec::new();
    for (ordinal, payload) in segment.events()? {
        chunks.extend(
            event(ordinal, payload)?
                .chunks()
                .map(|chunk| prefix(&chunk.hash)),
        );
    }
    Ok(chunks)
}

/// What a journal names whose first frames are in segments alone.
fn behind_sealed(store: &Store, run: RunId, writer: WriterId) -> Result<Vec<Prefix>> {
    let sealed = Sealed::list(store, run)?;
    let mut chunks = Vec::new();
    if let Some(mut reader) = sealed.open_behind(store, run, writer)? {
        while let Some(frame) = reader.next_frame()? {
            if frame.kind == FrameKind::Event {
                chunks.extend(frame.event()?.chunks().map(|chunk| prefix(&chunk.hash)));
            }
        }
    }
    Ok(chunks)
}

/// What was removed of journals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Engine {
    /// Removes the journals of a run that were finished and are sealed to their last frame. Every segment that stands for a frame is read to its end first: of a damaged one
    /// nobody would have the points any more.
    ///
    /// # Errors
    /// As the store says; damage only keeps the journal.
    pub(super) fn remove_covered(&self, run: RunId, dry_run: bool) -> Result<Pieces> {
        let store = self.store();
        let mut removed = Pieces::default();
        let sealed = Sealed::list(store, run)?;
        let journals = store.list_journals(run)?;
        for journal in journals {
            let is_covered = match self.is_covered(run, journal.writer, &sealed) {
                Ok(is_covered) => is_covered,
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    false
                }
                Err(error) => return Err(error),
            };
            if !is_covered {
                continue;
            }
            // The last piece first: what is left of a crash in between begins where it began, and is covered still.
            for first in store.list_pieces(run, journal.writer)?.into_iter().rev() {
                removed.files += 1;
                if !dry_run {
                    store.delete(&layout::journal_piece(run, journal.writer, first))?;
                }
            }
            removed.bytes += journal.bytes;
        }
        Ok(removed)
    }

    /// Whether whole segments stand for all frames of a journal, and its writer said that it writes no more.
    fn is_covered(&self, run: RunId, writer: WriterId, sealed: &Sealed) -> Result<bool> {
        let reach = sealed.reach(writer, 0);
        let mut ordinal = 0;
        let mut is_closed = false;
        while ordinal < reach {
            let Some(segment) = self.segment_at(run, writer, sealed, ordinal)? else {
                return Ok(false);
            };
            for group in 0..segment.groups() {
                segment.read_group(group)?;
            }
            for (at, payload) in segment.events()? {
                is_closed = at + 1 == reach && matches!(event(at, payload)?, Event::Closed { .. });
            }
            ordinal = segment.head().to;
        }
        if !is_closed {
            return Ok(false);
        }
        // Nothing may follow: `closed` is the last frame, and what stands behind it is somebody else's doing.
        let behind = sealed.open_behind(self.store(), run, writer)?;
        let Some(mut reader) = behind else {
            return Ok(true);
        };
        Ok(reader.next_frame()?.is_none() && reader.torn_bytes() == 0)
    }
}
