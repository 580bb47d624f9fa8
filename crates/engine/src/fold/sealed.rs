//! Folding what was sealed: segments stand for the journal's frames that they cover.
//!
//! A frame that is in a segment and in its journal is the same twice, so it makes no difference which of them is folded. The journal is, where it is whole:
//! its chain of hashes shows more damage than anything else. Frames that are gone from it, because gc collected what was sealed, or damaged in it, are
//! folded from the segment that covers them; of several, from the one with the smallest name that is whole. See `docs/design/0008`.

use std::collections::BTreeMap;

use runtree_core::manifest::JournalPosition;
use runtree_core::{Error, ErrorKind, Result, RunId, WriterId};
use runtree_index::{
    FoldItem, Frame, FrameContent, FrameRange, Index as _, JournalCursor, SealedPoints,
};
use runtree_metrics::{SealedSeries, Segment};
use runtree_store::{FrameKind, JournalReader, SegmentName, Store, layout};

use super::damage::Told;
use super::journals::{Standing, TRIES};
use super::run::Known;
use crate::engine::Engine;

/// The segments of a run.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    by_writer: BTreeMap<WriterId, Vec<SegmentName>>,
}

impl Sealed {
    /// Those that are there.
    pub(crate) fn list(store: &Store, run: RunId) -> Result<Self> {
        let mut by_writer: BTreeMap<WriterId, Vec<SegmentName>> = BTreeMap::new();
        for name in store.list_segments(run)? {
            by_writer.entry(name.writer).or_default().push(name);
        }
        Ok(Self { by_writer })
    }

    /// Whose journals were sealed.
    pub(crate) fn writers(&self) -> impl Iterator<Item = WriterId> + '_ {
        self.by_writer.keys().copied()
    }

    /// Those of one journal, by name.
    pub(crate) fn of(&self, writer: WriterId) -> &[SegmentName] {
        self.by_writer.get(&writer).map_or(&[], Vec::as_slice)
    }

    /// The first frame from `from` on that none covers.
    pub(crate) fn reach(&self, writer: WriterId, from: u64) -> u64 {
        let mut reach = from;
        while let Some(further) = self
            .of(writer)
            .iter()
            .filter(|name| name.covers(reach))
            .map(|name| name.to)
            .max()
        {
            reach = further;
        }
        reach
    }

    fn segment_at(
        &self,
        store: &Store,
        run: RunId,
        writer: WriterId,
        ordinal: u64,
    ) -> Result<Option<Segment>> {
        let mut damage = None;
        for name in self.of(writer).iter().filter(|name| name.covers(ordinal)) {
            match open_segment(store, run, name) {
                Ok(segment) => return Ok(Some(segment)),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    damage.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match damage {
            None => Ok(None),
            Some(error) if error.kind() == ErrorKind::Corrupt => Err(error),
            Some(error) => Err(Error::corrupt(error.chain())),
        }
    }

    /// The journal behind what was sealed of it, if there is anything.
    pub(crate) fn open_behind(
        &self,
        store: &Store,
        run: RunId,
        writer: WriterId,
    ) -> Result<Option<JournalReader>> {
        let ordinal = self.reach(writer, 0);
        let last = ordinal.checked_sub(1);
        let last = last.map(|last| self.segment_at(store, run, writer, last));
        let Some(segment) = last.transpose()?.flatten() else {
            return Ok(None);
        };
        let (ordinal, hash) = (segment.head().to, segment.head().hash_to);
        let position = JournalPosition {
            writer,
            ordinal,
            hash,
        };
        JournalReader::open_behind(store, run, position)
    }
}

fn open_segment(store: &Store, run: RunId, name: &SegmentName) -> Result<Segment> {
    let path = layout::segment(run, name);
    let bytes = store.read_segment(run, name)?;
    let segment = Segment::open(bytes).map_err(|error| error.in_context(&path))?;
    let head = segment.head();
    let says = (head.run, head.writer, head.from, head.to);
    if says == (run, name.writer, name.from, name.to) {
        return Ok(segment);
    }
    Err(Error::corrupt(format!(
        "{path} covers something else than its name says"
    )))
}

impl Engine {
    /// Opens a segment, and compares it with its name.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt`; `Unsupported`.
    pub(crate) fn open_segment(&self, run: RunId, name: &SegmentName) -> Result<Segment> {
        open_segment(&self.store, run, name)
    }

    /// The segment that speaks for a frame: of those that cover it and are whole, the one with the smallest name.
    ///
    /// # Errors
    /// `Corrupt` if some cover it and none is whole.
    pub(crate) fn segment_at(
        &self,
        run: RunId,
        writer: WriterId,
        sealed: &Sealed,
        ordinal: u64,
    ) -> Result<Option<Segment>> {
        sealed.segment_at(&self.store, run, writer, ordinal)
    }

    /// Folds the segment that covers the next frame of a journal; `false` if there is none.
    pub(super) fn fold_sealed(
        &self,
        run: RunId,
        writer: WriterId,
        known: &mut Known,
        sealed: &Sealed,
        told: &mut Told,
    ) -> Result<bool> {
        let mut before = match known.cursors.get(&writer) {
            Some(cursor) => *cursor,
            None => self.index.cursor(run, writer)?,
        };
        for tries in 0..=TRIES {
            let Some(segment) = self.segment_at(run, writer, sealed, before.ordinal)? else {
                return Ok(tries > 0);
            };
            let range = frames_of(&segment, before)?;
            told.take(&range);
            let after = range.after;
            match self.index.apply(&[FoldItem::Frames(range)]) {
                Ok(()) => {
                    known.cursors.insert(writer, after);
                    return Ok(true);
                }
                // Somebody else folded some of these frames.
                Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                    before = self.index.cursor(run, writer)?;
                    known.cursors.insert(writer, before);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Hears what frames that are folded tell of other objects, from their segments and from what the journal has behind them.
    pub(super) fn read_sealed_again(
        &self,
        run: RunId,
        writer: WriterId,
        until: JournalCursor,
        sealed: &Sealed,
        told: &mut Told,
    ) -> Result<Standing> {
        let (mut ordinal, mut hash) = (0, None);
        while ordinal < until.ordinal {
            let Some(segment) = self.segment_at(run, writer, sealed, ordinal)? else {
                break;
            };
            let head = segment.head();
            if hash.is_some_and(|hash| head.from == ordinal && head.hash_from != hash) {
                return Err(Error::corrupt(format!(
                    "what was sealed of journal {writer} of run {run} does not fit together at frame {ordinal}"
                )));
            }
            for (_, payload) in segment.events()? {
                told.take_event(&event(ordinal, payload)?);
            }
            (ordinal, hash) = (head.to, Some(head.hash_to));
        }
        let Some(hash) = hash else {
            return Ok(Standing::Torn);
        };
        if ordinal >= until.ordinal {
            let differs = ordinal == until.ordinal && hash != until.hash;
            return if differs {
                Err(super::journals::differs(run, writer, until.ordinal))
            } else {
                Ok(Standing::Whole)
            };
        }
        let position = JournalPosition {
            writer,
            ordinal,
            hash,
        };
        match JournalReader::open_behind(&self.store, run, position)? {
            Some(reader) => super::journals::read_until(reader, run, writer, until, told),
            None => Ok(Standing::Torn),
        }
    }

    /// Compares a journal with positions that were recorded elsewhere. What is before the end of its segments is vouched for by these.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check_recorded(
        &self,
        run: RunId,
        writer: WriterId,
        sealed: &Sealed,
        recorded: &[JournalPosition],
    ) -> Result<()> {
        let reach = sealed.reach(writer, 0);
        if reach == 0 {
            return self.store.check_journals(run, recorded);
        }
        let behind: Vec<JournalPosition> = recorded
            .iter()
            .filter(|position| position.ordinal > reach)
            .copied()
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        let reader = self.open_behind_sealed(run, writer, sealed)?;
        let Some(mut reader) = reader else {
            return Err(Error::corrupt(format!(
                "journal {writer} of run {run} ends with what was sealed of it, before what a checkpoint recorded"
            )));
        };
        for position in behind {
            reader.expect(position);
        }
        while reader.next_frame()?.is_some() {}
        Ok(())
    }

    /// The journal behind what was sealed of it, if there is anything.
    pub(crate) fn open_behind_sealed(
        &self,
        run: RunId,
        writer: WriterId,
        sealed: &Sealed,
    ) -> Result<Option<JournalReader>> {
        sealed.open_behind(&self.store, run, writer)
    }
}

/// What a segment holds from the cursor on, as frames.
fn frames_of(segment: &Segment, before: JournalCursor) -> Result<FrameRange> {
    let head = segment.head();
    let mut frames = Vec::new();
    for (ordinal, payload) in segment.events()? {
        if ordinal >= before.ordinal {
            let content = FrameContent::Event(event(ordinal, payload)?);
            frames.push(Frame { ordinal, content });
        }
    }
    let mut series: Vec<SealedSeries> = Vec::new();
    for group in 0..segment.groups() {
        series.extend(segment.read_group(group)?);
    }
    if before.ordinal > head.from {
        series.retain_mut(|series| {
            series.keep_from(before.ordinal);
            !series.points.is_empty()
        });
    }
    if !series.is_empty() || head.newest.is_some() {
        frames.push(Frame {
            ordinal: head.to - 1,
            content: FrameContent::Sealed(SealedPoints {
                series,
                newest: head.newest,
            }),
        });
    }
    Ok(FrameRange {
        run: head.run,
        writer: head.writer,
        before,
        after: JournalCursor {
            // Where that is in the journal's files, if it is, is for the reader to find.
            offset: 0,
            ordinal: head.to,
            hash: head.hash_to,
        },
        frames,
    })
}

pub(crate) fn event(ordinal: u64, payload: Vec<u8>) -> Result<runtree_core::event::Event> {
    let kind = FrameKind::Event;
    runtree_store::Frame {
        ordinal,
        kind,
        payload,
    }
    .event()
}
