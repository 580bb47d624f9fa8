//! Folding the journals of a run: what is new in them, and whether what was folded still stands there.
//!
//! A journal only grows, so a fold goes on behind its cursor. What is before the cursor was whole when it was read, and the index has it; but
//! that the store still holds it is a promise of its own. So it is read once more, and compared by its running hash, when the store's own stamps
//! say that the file was touched without growing, when damage was found the last time, and when the run is launched again ([`Again`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runtree_core::manifest::JournalPosition;
use runtree_core::{Error, ErrorKind, Result, RunId, WriterId};
use runtree_index::{FoldItem, Frame, FrameContent, FrameRange, Index as _, JournalCursor};
use runtree_metrics::{Limits, PointsBatch};
use runtree_store::{Cursor, FrameKind, JournalReader, ListedJournal};

use super::damage::{RunDamage, Told, corrupt, missing_journal};
use super::run::Known;
use super::sealed::Sealed;
use crate::engine::Engine;

/// Frames of at most about this many bytes are folded in one transaction.
const RANGE_BYTES: usize = 8 << 20;
/// At most this many frames are.
const RANGE_FRAMES: usize = 2048;
/// How often a fold that met another one tries again.
pub(super) const TRIES: usize = 8;

/// Which journals are read once more although they are folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// All.
    All,
    /// Those that something else than their writer touched.
    These(BTreeSet<WriterId>),
}

impl Again {
    fn holds(&self, writer: WriterId) -> bool {
        match self {
            Self::All => true,
            Self::These(writers) => writers.contains(&writer),
        }
    }
}

/// What became of the frames of a journal that were folded.
pub(super) enum Standing {
    /// They are there, the same.
    Whole,
    /// The last of them are not, and look like what was never written to its end.
    Torn,
}

impl Engine {
    /// Folds what is new in each journal; `true` if one has become shorter and nothing says that it must not.
    ///
    /// Readers see what a writer has not made durable yet. After a power cut such a journal is shorter than what was folded of it: that is no
    /// damage unless a part recorded what is gone, and the index is what has to follow. A journal that is gone altogether is damage: its first
    /// frames are durable before anything is logged.
    pub(super) fn fold_journals(
        &self,
        run: RunId,
        known: &mut Known,
        again: &Again,
        mut positions: HashMap<WriterId, Vec<JournalPosition>>,
        told: &mut Told,
        damage: &mut RunDamage,
    ) -> Result<bool> {
        // Before the journals: what is collected in between is then known to be sealed.
        let sealed = Sealed::list(&self.store, run)?;
        let mut journals: BTreeMap<WriterId, ListedJournal> = BTreeMap::new();
        for journal in self.store.list_journals(run)? {
            journals.insert(journal.writer, journal);
        }
        let mut hurt: BTreeSet<WriterId> = BTreeSet::new();
        let mut is_shorter = false;
        for (&writer, &cursor) in &known.cursors {
            if cursor.ordinal == 0 {
                continue;
            }
            let reach = sealed.reach(writer, 0);
            let journal = journals.get(&writer);
            let is_smaller = journal.is_some_and(|journal| journal.bytes < cursor.offset);
            if is_smaller && reach == 0 {
                is_shorter = true;
                continue;
            }
            let why = if journal.is_none() && reach < cursor.ordinal {
                missing_journal(run, writer)
            } else if is_smaller || !known.trusted || again.holds(writer) {
                match self.read_again(run, writer, cursor, &sealed, told) {
                    Ok(Standing::Whole) => continue,
                    Ok(Standing::Torn) => {
                        is_shorter = true;
                        continue;
                    }
                    Err(error) => corrupt(error)?,
                }
            } else {
                continue;
            };
            damage.journals.push(why);
            hurt.insert(writer);
        }
        if is_shorter {
            let (recorded, _) = self.recorded_positions(run)?;
            for (writer, recorded) in recorded {
                if !hurt.contains(&writer)
                    && let Err(error) = self.check_recorded(run, writer, &sealed, &recorded)
                {
                    damage.journals.push(corrupt(error)?);
                    hurt.insert(writer);
                }
            }
            if damage.journals.is_empty() {
                return Ok(true);
            }
        }
        let mut writers: BTreeSet<WriterId> = journals.keys().copied().collect();
        writers.extend(positions.keys());
        writers.extend(sealed.writers());
        for writer in writers.difference(&hurt).copied() {
            let expected = positions.remove(&writer).unwrap_or_default();
            let journal = journals.get(&writer);
            if let Err(error) =
                self.fold_writer(run, known, journal, &sealed, (writer, expected), told)
            {
                damage.journals.push(corrupt(error)?);
            }
        }
        Ok(false)
    }

    /// Folds what is new of one writer, from its journal where that is whole, else from segments.
    fn fold_writer(
        &self,
        run: RunId,
        known: &mut Known,
        journal: Option<&ListedJournal>,
        sealed: &Sealed,
        (writer, recorded): (WriterId, Vec<JournalPosition>),
        told: &mut Told,
    ) -> Result<()> {
        loop {
            let cursor = known.cursors.get(&writer).copied().unwrap_or_default();
            let mut expected = recorded.clone();
            expected.retain(|position| position.ordinal > cursor.ordinal);
            // Where the cursor is in the files of a journal whose first frames were collected, its offset does not tell.
            let is_cut = |journal: &ListedJournal| {
                journal.first_ordinal > 0 || (cursor.offset == 0 && cursor.ordinal > 0)
            };
            let read = match journal {
                None if expected.is_empty() && sealed.reach(writer, 0) <= cursor.ordinal => Ok(()),
                None => Err(missing(run, writer)),
                Some(journal) if is_cut(journal) => {
                    self.fold_journal(run, writer, known, &expected, told)
                }
                Some(journal) if cursor.offset < journal.bytes || !expected.is_empty() => {
                    if cursor.offset > journal.bytes {
                        return Ok(());
                    }
                    self.fold_journal(run, writer, known, &expected, told)
                }
                Some(_) => Ok(()),
            };
            let Err(error) = read else { return Ok(()) };
            // Not found: a collector took it since it was listed, and it does that to none whose frames are not all in segments.
            if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) {
                return Err(error);
            }
            match self.fold_sealed(run, writer, known, sealed, told) {
                Ok(true) => {}
                Ok(false) => return Err(error),
                Err(also) if also.kind() == ErrorKind::Corrupt => {
                    return Err(error.in_context(also.message().to_owned()));
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads the frames of a journal that are folded once more, hears what they tell of other objects, and compares where they end. What is not whole in
    /// the journal may be in segments.
    fn read_again(
        &self,
        run: RunId,
        writer: WriterId,
        until: JournalCursor,
        sealed: &Sealed,
        told: &mut Told,
    ) -> Result<Standing> {
        let read = JournalReader::open(&self.store, run, writer, Cursor::START)
            .and_then(|reader| read_until(reader, run, writer, until, told));
        let is_whole = matches!(read, Ok(Standing::Whole));
        if is_whole || sealed.reach(writer, 0) == 0 {
            return read;
        }
        match read {
            Err(error) if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                Err(error)
            }
            _ => self.read_sealed_again(run, writer, until, sealed, told),
        }
    }

    /// Positions in journals that the parts of a run recorded, by writer, and how many parts could not be read.
    pub(crate) fn recorded_positions(
        &self,
        run: RunId,
    ) -> Result<(BTreeMap<WriterId, Vec<JournalPosition>>, u64)> {
        let mut recorded: BTreeMap<WriterId, Vec<JournalPosition>> = BTreeMap::new();
        let mut unreadable = 0;
        let mut keys = self.store.list_commits(run)?;
        keys.extend(self.store.list_pending(run)?);
        for key in keys {
            // Only what the commit vouches for counts: a flipped bit of a part must not blame a journal.
            let commit = match self.store.read_commit(run, key) {
                Ok(commit) => commit,
                Err(error) => {
                    corrupt(error)?;
                    unreadable += 1;
                    continue;
                }
            };
            for part in commit.into_iter().flat_map(|commit| commit.parts) {
                match self.store.read_committed_part(run, key, &part) {
                    Ok(manifest) => {
                        let journal = manifest.journal;
                        recorded.entry(journal.writer).or_default().push(journal);
                    }
                    Err(error) => {
                        corrupt(error)?;
                        unreadable += 1;
                    }
                }
            }
        }
        Ok((recorded, unreadable))
    }

    fn fold_journal(
        &self,
        run: RunId,
        writer: WriterId,
        known: &mut Known,
        expected: &[JournalPosition],
        told: &mut Told,
    ) -> Result<()> {
        let mut tries = 0;
        let mut before = match known.cursors.get(&writer) {
            Some(cursor) => *cursor,
            None => self.index.cursor(run, writer)?,
        };
        loop {
            let reader = if before.offset == 0 && before.ordinal > 0 {
                JournalReader::open_behind(&self.store, run, position_of(writer, before))?
            } else {
                Some(JournalReader::open(
                    &self.store,
                    run,
                    writer,
                    to_store(before),
                )?)
            };
            let Some(mut reader) = reader else {
                return match expected {
                    [] => Ok(()),
                    _ => Err(missing(run, writer)),
                };
            };
            for position in expected {
                reader.expect(*position);
            }
            let conflict = loop {
                let (range, end) = read_range(&mut reader, run, writer, before);
                told.take(&range);
                let after = range.after;
                if after != before {
                    match self.index.apply(&[FoldItem::Frames(range)]) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::Conflict && tries < TRIES => {
                            break true;
                        }
                        Err(error) => return Err(error),
                    }
                    before = after;
                    known.cursors.insert(writer, after);
                }
                match end {
                    End::More => {}
                    End::Reached => break false,
                    End::Failed(error) => return Err(error),
                }
            };
            if !conflict {
                return Ok(());
            }
            // Somebody else folded some of these frames: go on where the index stands.
            tries += 1;
            before = self.index.cursor(run, writer)?;
        }
    }
}

/// Reads up to a cursor, hears what the frames tell of other objects, and compares where they end.
pub(super) fn read_until(
    mut reader: JournalReader,
    run: RunId,
    writer: WriterId,
    until: JournalCursor,
    told: &mut Told,
) -> Result<Standing> {
    while reader.cursor().ordinal < until.ordinal {
        let Some(frame) = reader.next_frame()? else {
            if reader.tail_is_damaged()? {
                return Err(Error::corrupt(format!(
                    "journal {writer} of run {run} is damaged in its last frame, after frame {}",
                    reader.cursor().ordinal
                )));
            }
            return Ok(Standing::Torn);
        };
        if frame.kind == FrameKind::Event {
            told.take_event(&frame.event()?);
        }
    }
    if reader.cursor().hash != until.hash {
        return Err(differs(run, writer, until.ordinal));
    }
    Ok(Standing::Whole)
}

pub(super) fn differs(run: RunId, writer: WriterId, ordinal: u64) -> Error {
    Error::corrupt(format!(
        "journal {writer} of run {run} differs from what was read of it before (frame {ordinal})"
    ))
}

/// A journal that a checkpoint recorded, or that segments were made of, and that is not there.
fn missing(run: RunId, writer: WriterId) -> Error {
    Error::corrupt(format!(
        "journal {writer} of run {run} is missing, and a checkpoint recorded it"
    ))
}

/// Why a range ends.
enum End {
    More,
    Reached,
    Failed(Error),
}

/// Reads frames until the range is large enough or the journal ends. What stands before damage is in the range.
fn read_range(
    reader: &mut JournalReader,
    run: RunId,
    writer: WriterId,
    before: JournalCursor,
) -> (FrameRange, End) {
    let mut frames = Vec::new();
    let mut bytes = 0;
    let mut end = End::More;
    let mut after = before;
    while bytes < RANGE_BYTES && frames.len() < RANGE_FRAMES {
        let frame = match reader.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                end = End::Reached;
                break;
            }
            Err(error) => {
                end = End::Failed(error);
                break;
            }
        };
        bytes += frame.payload.len();
        let content = match frame.kind {
            FrameKind::Event => frame.event().map(FrameContent::Event),
            FrameKind::Points => {
                PointsBatch::decode(&frame.payload, Limits::default()).map(FrameContent::Points)
            }
        };
        match content {
            Ok(content) => frames.push(Frame {
                ordinal: frame.ordinal,
                content,
            }),
            Err(error) => {
                end = End::Failed(error);
                break;
            }
        }
        after = from_store(reader.cursor());
    }
    let range = FrameRange {
        run,
        writer,
        before,
        after,
        frames,
    };
    (range, end)
}

fn position_of(writer: WriterId, cursor: JournalCursor) -> JournalPosition {
    JournalPosition {
        writer,
        ordinal: cursor.ordinal,
        hash: cursor.hash,
    }
}

fn to_store(cursor: JournalCursor) -> Cursor {
    Cursor {
        offset: cursor.offset,
        ordinal: cursor.ordinal,
        hash: cursor.hash,
    }
}

fn from_store(cursor: Cursor) -> JournalCursor {
    JournalCursor {
        offset: cursor.offset,
        ordinal: cursor.ordinal,
        hash: cursor.hash,
    }
}
