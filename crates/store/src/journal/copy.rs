//! Copying a journal: the frames that another store does not have, as pieces of it.

use bytes::Bytes;
use runtree_core::{Error, Result, RunId, WriterId};

use super::describe;
use super::frame::{FRAME_HEADER_BYTES, FileHeader, HEADER_BYTES, ParsedFrame, parse_frame};
use crate::layout;
use crate::store::Store;

/// Bytes of frames after which a piece that is copied ends.
const PIECE_BYTES: usize = 8 << 20;

/// Frames of a piece, found whole.
struct Frames {
    header: FileHeader,
    bytes: Bytes,
    /// Per frame where it begins, and the running hash before it; then the end, and the hash after the last.
    starts: Vec<(usize, u64)>,
}

impl Frames {
    /// Reads a piece up to its last whole frame: what its writer is appending at the moment is left out.
    fn read(store: &Store, run: RunId, writer: WriterId, first_ordinal: u64) -> Result<Self> {
        let path = layout::journal_piece(run, writer, first_ordinal);
        let bytes = store.read_bytes(&path)?;
        let header = FileHeader::parse(&bytes)?.filter(|header| {
            (header.run, header.writer, header.first_ordinal) == (run, writer, first_ordinal)
        });
        let Some(header) = header else {
            // A file that was begun and has no header yet has no frame either.
            if bytes.len() < HEADER_BYTES {
                let hash = 0;
                let header = FileHeader {
                    run,
                    writer,
                    first_ordinal,
                    hash,
                };
                return Ok(Self {
                    header,
                    bytes: Bytes::new(),
                    starts: vec![(0, hash)],
                });
            }
            return Err(
                Error::corrupt(format!("{path} does not begin as it should"))
                    .with_hint("runtree verify tells what it holds"),
            );
        };
        let mut starts = vec![(HEADER_BYTES, header.hash)];
        let (mut at, mut hash) = (HEADER_BYTES, header.hash);
        let mut ordinal = first_ordinal;
        while let ParsedFrame::Whole {
            payload_bytes,
            hash: next,
            ..
        } = parse_frame(&bytes[at..], ordinal, hash)
        {
            at += FRAME_HEADER_BYTES + payload_bytes;
            (hash, ordinal) = (next, ordinal + 1);
            starts.push((at, hash));
        }
        Ok(Self {
            header,
            bytes,
            starts,
        })
    }

    fn end(&self) -> u64 {
        self.header.first_ordinal + self.starts.len() as u64 - 1
    }
}

impl Store {
    /// Copies the frames of a journal that `to` does not have; returns the bytes written. `pieces` are those here, `theirs` those there, ascending.
    ///
    /// Frames keep their ordinals and their running hashes, which the reader of the copy checks; pieces may be cut elsewhere than here.
    ///
    /// # Errors
    /// `Conflict` if the copy has frames that are not these; `Corrupt` if a piece can not be read.
    pub fn copy_journal(
        &self,
        to: &Self,
        run: RunId,
        writer: WriterId,
        pieces: &[u64],
        theirs: &[u64],
    ) -> Result<u64> {
        let mut have = match theirs.last() {
            Some(&last) => {
                let frames = Frames::read(to, run, writer, last)?;
                let (_, hash) = frames.starts[frames.starts.len() - 1];
                Some((frames.end(), hash))
            }
            None => None,
        };
        let mut written = 0;
        for (index, &first) in pieces.iter().enumerate() {
            // A later piece takes over at its first ordinal.
            let limit = pieces.get(index + 1).copied().unwrap_or(u64::MAX);
            if have.is_some_and(|(end, _)| end >= limit) {
                continue;
            }
            let frames = Frames::read(self, run, writer, first)?;
            let end = frames.end().min(limit);
            let from = have.map_or(first, |(end, _)| end.max(first));
            if from >= end {
                continue;
            }
            let (_, before) = frames.starts[(from - first) as usize];
            if let Some((end, hash)) = have
                && end == from
                && hash != before
            {
                return Err(Error::conflict(format!(
                    "{} has other frames in {} than here",
                    describe(run, writer),
                    to.objects()
                )));
            }
            written += write_pieces(to, &frames, from, end)?;
            let (_, after) = frames.starts[(end - first) as usize];
            have = Some((end, after));
        }
        Ok(written)
    }
}

fn write_pieces(to: &Store, frames: &Frames, from: u64, end: u64) -> Result<u64> {
    let first = frames.header.first_ordinal;
    let place = |ordinal: u64| frames.starts[(ordinal - first) as usize];
    let (mut from, mut written) = (from, 0);
    while from < end {
        let (start, hash) = place(from);
        let mut until = from + 1;
        while until < end && place(until + 1).0 - start <= PIECE_BYTES {
            until += 1;
        }
        let header = FileHeader {
            first_ordinal: from,
            hash,
            ..frames.header
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&frames.bytes[start..place(until).0]);
        written += bytes.len() as u64;
        let path = layout::journal_piece(header.run, header.writer, from);
        to.create_bytes(&path, bytes.into())?
            .or_conflict(|| format!("{path} is another one in {}", to.objects()))?;
        from = until;
    }
    Ok(written)
}
