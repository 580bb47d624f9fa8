//! Reading a journal, from anywhere a reader stopped before.

use object_store::ObjectStoreExt as _;
use runtree_core::manifest::JournalPosition;
use runtree_core::{Error, Result, RunId, WriterId};

use super::frame::{
    FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, MAX_PAYLOAD_BYTES, ParsedFrame, holds_frame,
    parse_frame, start_hash, was_whole,
};
use super::{Cursor, Frame, FrameKind, describe};
use crate::error::from_object;
use crate::layout;
use crate::store::Store;
use crate::wait::block_on;

mod behind;

/// Bytes read at once.
const WINDOW_BYTES: u64 = 1 << 20;
/// Bytes behind a bad frame that are searched for a valid one.
const MAX_SEARCH_BYTES: u64 = 256 << 20;

/// A reader of one journal.
///
/// It sees what was there when it was opened. A torn tail ends it quietly, with the cursor before the tear; a bad frame with something valid behind it is
/// `Corrupt`, and stays so: nothing behind it is ever returned.
#[derive(Debug)]
pub struct JournalReader {
    store: Store,
    run: RunId,
    writer: WriterId,
    pieces: Vec<PieceFile>,
    piece: usize,
    cursor: Cursor,
    /// Bytes of the piece from `cursor.offset` on.
    buffer: Vec<u8>,
    /// How much of `buffer` lies behind the cursor.
    consumed: usize,
    expected: Vec<JournalPosition>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct PieceFile {
    first_ordinal: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
}

impl JournalReader {
    /// Opens a journal to read on from `from`.
    ///
    /// # Errors
    /// `NotFound` if there is no journal of the writer, `Corrupt` if a part of it was read before; `Corrupt` if it is shorter than `from`.
    pub fn open(store: &Store, run: RunId, writer: WriterId, from: Cursor) -> Result<Self> {
        let pieces = pieces_of(store, run, writer)?;
        let what = describe(run, writer);
        match pieces.first() {
            None if from == Cursor::START => {
                return Err(Error::not_found(format!("{what} is not in the store")));
            }
            None => return Err(Error::corrupt(format!("{what} is missing"))),
            Some(first) if first.first_ordinal > from.ordinal => {
                return Err(Error::corrupt(format!(
                    "{what} starts with frame {}",
                    first.first_ordinal
                )));
            }
            Some(_) => {}
        }
        let mut reader = Self::before_first(store, run, writer, pieces);
        reader.seek(from)?;
        Ok(reader)
    }

    /// Opens a journal before a frame whose place in the files is not known: what is before it was sealed, and may be gone or damaged. `None` if the journal
    /// does not go so far.
    ///
    /// # Errors
    /// `Corrupt` if this frame or a later one is there, and the running hash before it is another.
    pub fn open_behind(
        store: &Store,
        run: RunId,
        position: JournalPosition,
    ) -> Result<Option<Self>> {
        let pieces = pieces_of(store, run, position.writer)?;
        let reader = Self::before_first(store, run, position.writer, pieces);
        reader.find(position)
    }

    fn before_first(store: &Store, run: RunId, writer: WriterId, pieces: Vec<PieceFile>) -> Self {
        Self {
            store: store.clone(),
            run,
            writer,
            pieces,
            piece: 0,
            cursor: Cursor::START,
            buffer: Vec::new(),
            consumed: 0,
            expected: Vec::new(),
            state: State::Reading,
        }
    }

    /// Where the reader stands: pass it to [`JournalReader::open`] to go on from here.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Bytes behind the cursor in the last piece: of a torn tail, once [`JournalReader::next_frame`] said that it is the end.
    pub fn torn_bytes(&self) -> u64 {
        match self.pieces.last() {
            Some(last) if self.piece + 1 == self.pieces.len() => {
                last.bytes.saturating_sub(self.cursor.offset)
            }
            _ => 0,
        }
    }

    /// Whether the tail behind the cursor looks like a frame that was whole once, and not like one that was never written to its end. Readers
    /// need not care, since nothing recorded it; who looks for damage does.
    ///
    /// # Errors
    /// As the store says.
    pub fn tail_is_damaged(&self) -> Result<bool> {
        let torn = self.torn_bytes();
        if torn == 0 || torn > (FRAME_HEADER_BYTES + MAX_PAYLOAD_BYTES) as u64 {
            return Ok(false);
        }
        if self.cursor == Cursor::START {
            return Ok(torn >= HEADER_BYTES as u64);
        }
        let tail = self.read_range(self.cursor.offset..self.cursor.offset + torn)?;
        Ok(was_whole(&tail, self.cursor.ordinal, self.cursor.hash))
    }

    /// Demands that the journal is at least as long as recorded elsewhere, and the same up to there. Checked while reading; a position behind the cursor
    /// was checked by whoever read up to the cursor.
    pub fn expect(&mut self, position: JournalPosition) {
        if position.writer == self.writer && position.ordinal >= self.cursor.ordinal {
            self.expected.push(position);
        }
    }

    /// The next frame; `None` at the end, be it clean or torn.
    ///
    /// # Errors
    /// `Corrupt` if a bad frame has something valid behind it, or the journal is shorter than or different from what is expected; `Unsupported` for a frame
    /// of a newer build.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        self.check_expected()?;
        if self.state == State::Ended {
            return Ok(None);
        }
        if self.cursor == Cursor::START && !self.begin()? {
            return self.end();
        }
        self.change_piece()?;
        let mut needed = FRAME_HEADER_BYTES;
        let Cursor { ordinal, hash, .. } = self.cursor;
        loop {
            let here = self.have(needed)?;
            match parse_frame(here, ordinal, hash) {
                ParsedFrame::Whole {
                    kind,
                    payload_bytes,
                    hash,
                } => return self.take(kind, payload_bytes, hash).map(Some),
                ParsedFrame::NeedsBytes(more) if here.len() >= needed && more > needed => {
                    needed = more;
                }
                ParsedFrame::NeedsBytes(_) | ParsedFrame::Bad => {
                    self.judge_tail()?;
                    return self.end();
                }
            }
        }
    }

    fn take(&mut self, kind: u8, payload_bytes: usize, hash: u64) -> Result<Frame> {
        let ordinal = self.cursor.ordinal;
        let Some(kind) = FrameKind::from_byte(kind) else {
            return Err(Error::unsupported(format!(
                "frame {ordinal} of {} is of kind {kind}, which this runtree does not know",
                describe(self.run, self.writer)
            ))
            .with_hint("upgrade runtree: pip install -U runtree"));
        };
        let start = self.consumed + FRAME_HEADER_BYTES;
        let payload = self.buffer[start..start + payload_bytes].to_vec();
        let bytes = FRAME_HEADER_BYTES + payload_bytes;
        self.consumed += bytes;
        self.cursor = Cursor {
            offset: self.cursor.offset + bytes as u64,
            ordinal: ordinal + 1,
            hash,
        };
        Ok(Frame {
            ordinal,
            kind,
            payload,
        })
    }

    fn end(&mut self) -> Result<Option<Frame>> {
        self.state = State::Ended;
        self.check_expected()?;
        Ok(None)
    }

    /// Reads the file's header; `false` if it is torn.
    fn begin(&mut self) -> Result<bool> {
        self.cursor.hash = start_hash(self.run, self.writer);
        let whole = self.read_header()?;
        if !whole {
            self.cursor = Cursor::START;
            self.judge_tail()?;
        }
        Ok(whole)
    }

    /// Checks the header of the current piece and stands behind it; `false` if the bytes are not a header.
    fn read_header(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.consumed = 0;
        self.cursor.offset = 0;
        let header = FileHeader::parse(self.have(HEADER_BYTES)?)
            .map_err(|error| error.in_context(describe(self.run, self.writer)))?;
        let Some(header) = header else {
            return Ok(false);
        };
        let expected = FileHeader {
            run: self.run,
            writer: self.writer,
            first_ordinal: self.cursor.ordinal,
            hash: self.cursor.hash,
        };
        if header != expected {
            return Err(self.corrupt(format!(
                "its file {:020}.log does not continue it",
                self.pieces[self.piece].first_ordinal
            )));
        }
        self.consumed = HEADER_BYTES;
        self.cursor.offset = HEADER_BYTES as u64;
        Ok(true)
    }

    /// Goes over to the next piece where it takes up.
    fn change_piece(&mut self) -> Result<()> {
        while self
            .pieces
            .get(self.piece + 1)
            .is_some_and(|next| next.first_ordinal == self.cursor.ordinal)
        {
            let end_of_last = self.cursor;
            self.piece += 1;
            if !self.read_header()? {
                // The new file was being made when the writer died. If it is the last one the journal goes on in the old one.
                self.judge_tail()?;
                self.pieces.truncate(self.piece);
                self.piece -= 1;
                self.buffer.clear();
                self.consumed = 0;
                self.cursor = end_of_last;
            }
        }
        Ok(())
    }

    /// At least `needed` bytes from the cursor on, or all there are.
    fn have(&mut self, needed: usize) -> Result<&[u8]> {
        let there = self.buffer.len() - self.consumed;
        if there < needed {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
            let start = self.cursor.offset + there as u64;
            let wanted = (needed as u64 - there as u64).max(WINDOW_BYTES);
            let end = self.pieces[self.piece]
                .bytes
                .min(start.saturating_add(wanted));
            if start < end {
                let bytes = self.read_range(start..end)?;
                self.buffer.extend_from_slice(&bytes);
            }
        }
        Ok(&self.buffer[self.consumed..])
    }

    fn read_range(&self, range: std::ops::Range<u64>) -> Result<bytes::Bytes> {
        let first = self.pieces[self.piece].first_ordinal;
        let path = layout::journal_piece(self.run, self.writer, first);
        block_on(self.store.objects().get_range(&path, range))
            .map_err(|error| from_object(error, &format!("read {path}")))
    }

    /// Decides what the bytes behind the cursor are: a torn tail, which is nothing to worry about, or corruption.
    fn judge_tail(&mut self) -> Result<()> {
        if self.piece + 1 < self.pieces.len() {
            return Err(self.corrupt("a later file of it does not follow".to_owned()));
        }
        let end = self.pieces[self.piece].bytes;
        let range = self.cursor.offset..end.min(self.cursor.offset + MAX_SEARCH_BYTES);
        if range.is_empty() {
            return Ok(());
        }
        let tail = self.read_range(range)?;
        // The frame that belongs here is bad, whatever its CRC says: only later ones are evidence, or the same one further on.
        if holds_frame(&tail[1..], self.cursor.ordinal, MAX_SEARCH_BYTES) {
            return Err(self.corrupt("frames follow that are whole".to_owned()));
        }
        Ok(())
    }

    fn corrupt(&self, why: String) -> Error {
        Error::corrupt(format!(
            "{} is damaged at frame {} (byte {}): {why}",
            describe(self.run, self.writer),
            self.cursor.ordinal,
            self.cursor.offset
        ))
    }

    fn check_expected(&mut self) -> Result<()> {
        let (cursor, ended) = (self.cursor, self.state == State::Ended);
        let start = start_hash(self.run, self.writer);
        let here = if cursor == Cursor::START {
            start
        } else {
            cursor.hash
        };
        for position in &self.expected {
            let different = position.ordinal == cursor.ordinal && position.hash != here;
            let shorter = ended && position.ordinal > cursor.ordinal;
            if different || shorter {
                let how = if different {
                    "differs from".to_owned()
                } else {
                    format!("ends after {} frames, before", cursor.ordinal)
                };
                return Err(Error::corrupt(format!(
                    "{} {how} what a checkpoint recorded after frame {}",
                    describe(self.run, self.writer),
                    position.ordinal
                )));
            }
        }
        self.expected
            .retain(|position| position.ordinal > cursor.ordinal);
        Ok(())
    }

    /// Stands at `from`.
    fn seek(&mut self, from: Cursor) -> Result<()> {
        if from == Cursor::START {
            return Ok(());
        }
        let what = describe(self.run, self.writer);
        let shorter = || {
            Error::corrupt(format!(
                "{what} is shorter than what was read of it before ({} frames, {} bytes)",
                from.ordinal, from.offset
            ))
        };
        if let [only] = self.pieces.as_slice()
            && only.first_ordinal == 0
        {
            if only.bytes < from.offset || from.offset < HEADER_BYTES as u64 {
                return Err(shorter());
            }
            self.cursor = from;
            return Ok(());
        }
        // An offset counts in one file only, and since it was noted another may have taken over from before it: read up to it in the last one that begins before it, whose
        // header says what the running hash was there. Whether that is so shows where `from` is reached.
        if !self.begin_near(from.ordinal)? {
            self.piece = 0;
            self.stand_at(Cursor::START);
            if self.pieces[0].first_ordinal > 0 {
                self.begin_behind()?;
            }
        }
        while self.cursor.ordinal < from.ordinal {
            if self.next_frame()?.is_none() {
                return Err(shorter());
            }
        }
        if self.cursor.hash == from.hash {
            Ok(())
        } else {
            Err(self.corrupt("it differs from what was read of it before".to_owned()))
        }
    }
}

/// The files of a journal, by their first frames.
fn pieces_of(store: &Store, run: RunId, writer: WriterId) -> Result<Vec<PieceFile>> {
    let directory = layout::journal(run, writer);
    let mut pieces: Vec<PieceFile> = store
        .objects_below(&directory)?
        .into_iter()
        .filter_map(|object| {
            Some(PieceFile {
                first_ordinal: layout::parse_journal_piece(object.location.filename()?)?,
                bytes: object.size,
            })
        })
        .collect();
    pieces.sort_by_key(|piece| piece.first_ordinal);
    Ok(pieces)
}

impl Iterator for JournalReader {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_frame().transpose();
        if matches!(next, Some(Err(_))) {
            self.state = State::Ended;
            self.expected.clear();
        }
        next
    }
}

impl Store {
    /// Reads journals of a run from their start and compares them with positions recorded elsewhere: in parts, in rolled pieces.
    ///
    /// # Errors
    /// `Corrupt` if a journal is missing, damaged, shorter than a position or different from it.
    pub fn check_journals(&self, run: RunId, positions: &[JournalPosition]) -> Result<()> {
        let mut by_writer: std::collections::BTreeMap<WriterId, Vec<JournalPosition>> =
            std::collections::BTreeMap::new();
        for position in positions {
            by_writer
                .entry(position.writer)
                .or_default()
                .push(*position);
        }
        for (writer, positions) in by_writer {
            let reader = Self::open_recorded(self, run, writer)?;
            let Some(mut reader) = reader else {
                return Err(Error::corrupt(format!(
                    "{} is missing, and a checkpoint recorded it",
                    describe(run, writer)
                )));
            };
            for position in positions {
                reader.expect(position);
            }
            while !reader.expected.is_empty() && reader.next_frame()?.is_some() {}
        }
        Ok(())
    }

    fn open_recorded(store: &Self, run: RunId, writer: WriterId) -> Result<Option<JournalReader>> {
        match JournalReader::open(store, run, writer, Cursor::START) {
            Err(error) if error.kind() == runtree_core::ErrorKind::NotFound => Ok(None),
            reader => reader.map(Some),
        }
    }
}
