//! Journals whose beginning was sealed: frames whose place in the files is not known.

use runtree_core::Result;
use runtree_core::manifest::JournalPosition;

use super::super::frame::{
    FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, ParsedFrame, holds_frame, parse_frame,
};
use super::super::{Cursor, describe};
use super::{JournalReader, MAX_SEARCH_BYTES, PieceFile, WINDOW_BYTES};

impl JournalReader {
    /// Stands behind the header of the first piece, which is not the journal's first.
    pub(super) fn begin_behind(&mut self) -> Result<()> {
        let first_ordinal = self.pieces[self.piece].first_ordinal;
        let header = FileHeader::parse(self.have(HEADER_BYTES)?)
            .map_err(|error| error.in_context(describe(self.run, self.writer)))?;
        self.cursor.ordinal = first_ordinal;
        let Some(header) = header else {
            return Err(self.corrupt("its first file has no header".to_owned()));
        };
        // What the header claims is compared with what the caller knows once that is reached.
        self.cursor.hash = header.hash;
        self.read_header().map(drop)
    }

    /// Stands behind the header of the last piece that begins at or before a frame, taking its word for the running hash; `false` if that is the journal's first, or has no header: it
    /// was being made when its writer died.
    pub(super) fn begin_near(&mut self, ordinal: u64) -> Result<bool> {
        let near = |piece: &PieceFile| piece.first_ordinal <= ordinal;
        let piece = self.pieces.iter().rposition(near);
        let Some(piece) = piece.filter(|piece| self.pieces[*piece].first_ordinal > 0) else {
            return Ok(false);
        };
        self.piece = piece;
        let header = FileHeader::parse(self.have(HEADER_BYTES)?)
            .map_err(|error| error.in_context(describe(self.run, self.writer)))?;
        let Some(header) = header else {
            return Ok(false);
        };
        self.cursor.ordinal = self.pieces[piece].first_ordinal;
        self.cursor.hash = header.hash;
        self.read_header()
    }

    pub(super) fn find(mut self, position: JournalPosition) -> Result<Option<Self>> {
        let (ordinal, hash) = (position.ordinal, position.hash);
        let Some(piece) = self
            .pieces
            .iter()
            .rposition(|piece| piece.first_ordinal <= ordinal)
        else {
            if self.pieces.is_empty() {
                return Ok(None);
            }
            return Err(self.corrupt(format!("frame {ordinal} is missing")));
        };
        self.piece = piece;
        if self.pieces[piece].first_ordinal == ordinal {
            (self.cursor.ordinal, self.cursor.hash) = (ordinal, hash);
            if self.read_header()? {
                return Ok(Some(self));
            }
            self.judge_tail()?;
            return Ok(None);
        }
        let mut start = HEADER_BYTES as u64;
        let end = self.pieces[piece].bytes;
        while start < end {
            let window = start..end.min(start + WINDOW_BYTES + FRAME_HEADER_BYTES as u64);
            let bytes = self.read_range(window)?;
            for at in 0..bytes.len().saturating_sub(FRAME_HEADER_BYTES - 1) {
                if bytes[at..at + 8] == ordinal.to_le_bytes() {
                    self.stand_at(Cursor {
                        offset: start + at as u64,
                        ordinal,
                        hash,
                    });
                    if self.is_at_frame()? {
                        return Ok(Some(self));
                    }
                }
            }
            start += WINDOW_BYTES;
        }
        // Not there: the end of the journal, unless something later is.
        self.stand_at(Cursor {
            offset: HEADER_BYTES as u64,
            ordinal,
            hash,
        });
        if piece + 1 < self.pieces.len() {
            return Err(self.corrupt("a later file of it does not follow".to_owned()));
        }
        let range = HEADER_BYTES as u64..end.min(MAX_SEARCH_BYTES);
        if !range.is_empty() && holds_frame(&self.read_range(range)?, ordinal, MAX_SEARCH_BYTES) {
            return Err(self.corrupt("what is there does not follow what was sealed".to_owned()));
        }
        Ok(None)
    }

    pub(super) fn stand_at(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.buffer.clear();
        self.consumed = 0;
    }

    /// Whether the frame that belongs here is here, whole.
    fn is_at_frame(&mut self) -> Result<bool> {
        let Cursor { ordinal, hash, .. } = self.cursor;
        let mut needed = FRAME_HEADER_BYTES;
        loop {
            let here = self.have(needed)?;
            match parse_frame(here, ordinal, hash) {
                ParsedFrame::Whole { .. } => return Ok(true),
                ParsedFrame::NeedsBytes(more) if here.len() >= needed && more > needed => {
                    needed = more;
                }
                ParsedFrame::NeedsBytes(_) | ParsedFrame::Bad => return Ok(false),
            }
        }
    }
}
