//! Which blocks are read once, and where their bytes go: destinations of any shape become reads of whole, verified blocks.
//!
//! Only whole blocks can be verified. A block that one destination covers completely is read straight into it, and neighbours of that
//! kind in one read; a block that several destinations share (small tensors in a slab), or that is needed in part, is read once into scratch
//! memory and handed out from there. So ten thousand tensors in a slab cost eight reads, and one large tensor costs no copy.

use runtree_core::Result;
use runtree_core::manifest::BLOCK_BYTES;

/// Bytes of a chunk that are one unit of work for a thread.
pub(crate) const SPAN_BYTES: u64 = 8 * BLOCK_BYTES;

/// Bytes wanted from one chunk.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Index of the part.
    pub(crate) part: usize,
    /// Index of the chunk in the part.
    pub(crate) chunk: u32,
    /// First byte in the chunk.
    pub(crate) offset: u64,
    /// Which job this is of, for errors.
    pub(crate) job: usize,
    /// Where they go.
    pub(crate) to: &'a mut [u8],
}

/// Pieces within one span of one chunk, by offset.
#[derive(Debug)]
pub(crate) struct Span<'a> {
    pub(crate) part: usize,
    pub(crate) chunk: u32,
    first_block: u64,
    pub(crate) pieces: Vec<Piece<'a>>,
}

/// Cuts pieces at span borders and gathers what lies in one span. Spans come in the order of parts, chunks, offsets.
pub(crate) fn gather<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Vec<Span<'a>> {
    let mut cut = Vec::new();
    for mut piece in pieces {
        while !piece.to.is_empty() {
            let room = SPAN_BYTES - piece.offset % SPAN_BYTES;
            let count = (piece.to.len() as u64).min(room);
            let (first, rest) = piece.to.split_at_mut(count as usize);
            cut.push(Piece { to: first, ..piece });
            piece = Piece {
                to: rest,
                offset: piece.offset + count,
                ..piece
            };
        }
    }
    cut.sort_by_key(|piece| (piece.part, piece.chunk, piece.offset));
    let mut spans: Vec<Span<'a>> = Vec::new();
    for piece in cut {
        let first_block = piece.offset / SPAN_BYTES * (SPAN_BYTES / BLOCK_BYTES);
        match spans.last_mut() {
            Some(span)
                if (span.part, span.chunk, span.first_block)
                    == (piece.part, piece.chunk, first_block) =>
            {
                span.pieces.push(piece);
            }
            _ => spans.push(Span {
                part: piece.part,
                chunk: piece.chunk,
                first_block,
                pieces: vec![piece],
            }),
        }
    }
    spans
}

impl Span<'_> {
    /// Fills every piece. `read(first block, destination)` reads and verifies whole blocks of a chunk of `chunk_bytes` bytes.
    ///
    /// # Errors
    /// What `read` returned, with the index of the first piece it concerns.
    pub(crate) fn fill(
        mut self,
        chunk_bytes: u64,
        scratch: &mut Vec<u8>,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<(), (runtree_core::Error, usize)> {
        let span_start = self.first_block * BLOCK_BYTES;
        let blocks = (SPAN_BYTES.min(chunk_bytes - span_start)).div_ceil(BLOCK_BYTES) as usize;
        let bounds = |block: usize| {
            let start = span_start + block as u64 * BLOCK_BYTES;
            (start, (start + BLOCK_BYTES).min(chunk_bytes))
        };
        let mut touching: Vec<Vec<usize>> = vec![Vec::new(); blocks];
        for (index, piece) in self.pieces.iter().enumerate() {
            let first = ((piece.offset - span_start) / BLOCK_BYTES) as usize;
            let last =
                ((piece.offset + piece.to.len() as u64 - 1 - span_start) / BLOCK_BYTES) as usize;
            for list in &mut touching[first..=last] {
                list.push(index);
            }
        }
        let whole_owner = |pieces: &[Piece<'_>], block: usize| match touching[block].as_slice() {
            [only] => {
                let (start, end) = bounds(block);
                let piece = &pieces[*only];
                (piece.offset <= start && end <= piece.offset + piece.to.len() as u64)
                    .then_some(*only)
            }
            _ => None,
        };
        let mut block = 0;
        while block < blocks {
            let (start, end) = bounds(block);
            let Some(&first_piece) = touching[block].first() else {
                block += 1;
                continue;
            };
            if let Some(owner) = whole_owner(&self.pieces, block) {
                let mut last = block;
                while last + 1 < blocks && whole_owner(&self.pieces, last + 1) == Some(owner) {
                    last += 1;
                }
                let piece = &mut self.pieces[owner];
                let from = (start - piece.offset) as usize;
                let to = (bounds(last).1 - piece.offset) as usize;
                read(start / BLOCK_BYTES, &mut piece.to[from..to])
                    .map_err(|error| (error, owner))?;
                block = last + 1;
                continue;
            }
            scratch.resize((end - start) as usize, 0);
            read(start / BLOCK_BYTES, scratch).map_err(|error| (error, first_piece))?;
            for &index in &touching[block] {
                let piece = &mut self.pieces[index];
                let piece_end = piece.offset + piece.to.len() as u64;
                let (from, to) = (piece.offset.max(start), piece_end.min(end));
                let target = (from - piece.offset) as usize..(to - piece.offset) as usize;
                piece.to[target]
                    .copy_from_slice(&scratch[(from - start) as usize..(to - start) as usize]);
            }
            block += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte `i` of the chunk that the tests read from.
    fn byte(i: u64) -> u8 {
        (i % 253) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_piece_gets_its_bytes_and_no_block_is_read_in_part(
            chunk_bytes in 1_u64..(19 << 20),
            cuts in proptest::collection::vec((0.0_f64..1.0, 0.0_f64..1.0), 1..12),
        ) {
            let wanted: Vec<(u64, u64)> = cuts.iter().map(|&(from, length)| {
                let from = ((chunk_bytes - 1) as f64 * from) as u64;
                (from, 1 + ((chunk_bytes - from - 1) as f64 * length) as u64)
            }).collect();
            let mut buffers: Vec<Vec<u8>> = wanted.iter().map(|&(_, n)| vec![0; n as usize]).collect();
            let pieces = buffers.iter_mut().zip(&wanted).enumerate().map(|(job, (buffer, &(offset, _)))| {
                Piece { part: 0, chunk: 0, offset, job, to: buffer }
            });
            let spans = gather(pieces);
            for span in spans {
                span.fill(chunk_bytes, &mut Vec::new(), |first, to| {
                    let start = first * BLOCK_BYTES;
                    let end = start + to.len() as u64;
                    assert!(end == chunk_bytes || end.is_multiple_of(BLOCK_BYTES), "whole blocks only");
                    for (index, slot) in to.iter_mut().enumerate() {
                        *slot = byte(start + index as u64);
                    }
                    Ok(())
                }).map_err(|(error, _)| error).unwrap();
            }
            for (buffer, &(offset, _)) in buffers.iter().zip(&wanted) {
                prop_assert!(buffer.iter().enumerate().all(|(i, &b)| b == byte(offset + i as u64)));
            }
        }
    }

    #[test]
    fn small_tensors_of_a_slab_share_their_reads() {
        let mut buffers = vec![vec![0_u8; 100]; 10_000];
        let pieces = buffers.iter_mut().enumerate().map(|(job, buffer)| Piece {
            part: 0,
            chunk: 3,
            offset: job as u64 * 100,
            job,
            to: buffer,
        });
        let mut reads = 0;
        for span in gather(pieces) {
            span.fill(1_000_000, &mut Vec::new(), |_, _| {
                reads += 1;
                Ok(())
            })
            .map_err(|(error, _)| error)
            .unwrap();
        }
        assert_eq!(reads, 1);
    }
}
