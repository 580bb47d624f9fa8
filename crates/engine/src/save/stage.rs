//! Staging: a draft's bytes into memory of our own, chunk by chunk handed on as soon as no copy is left that competes with hashing.
//!
//! What its owner may change at once is copied before [`stage`] returns. Guarded memory is left to [`Rest`], if there is staging memory for the whole
//! save right now: turns need the trainer's patience anyway.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::Result;

use super::arena::{Arena, SEGMENT_BYTES, Segment};
use super::copy::{Piece, Source, copy_all, threads};
use super::draft::Draft;
use super::plan::lay_out;
use super::request::{IfBusy, Ready};

/// Longest wait for staging memory; then the save is skipped (the one exception to "training goes on").
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// A state up to this size gets memory of its own: a segment would be wasted on it.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

/// What became of staging.
pub(crate) enum Staged {
    /// Every chunk was handed on.
    Whole,
    /// Guarded memory is still to be copied, and no chunk was handed on.
    Rest(Rest),
    /// No memory came free in time; some chunks may have been handed on.
    NoMemory,
}

/// Guarded memory that is still to be copied.
pub(crate) struct Rest {
    ready: Option<Ready>,
    segments: Vec<Segment>,
    copies: Vec<Place<Bytes>>,
    chunks: Vec<Chunk>,
}

/// A stretch of a segment, and what belongs there.
#[derive(Clone, Debug)]
struct Place<S> {
    segment: usize,
    offset: u64,
    bytes: u64,
    from: S,
}

/// A chunk's place.
#[derive(Clone, Debug)]
struct Chunk {
    index: usize,
    segment: usize,
    range: Range<usize>,
}

impl Rest {
    /// Copies it and calls `submit(chunk index, bytes)` for every chunk of the save; `copied()` between, when nothing is read from guarded memory any more.
    ///
    /// Half of the threads: the trainer computes meanwhile, and a step takes longer than a copy.
    ///
    /// # Errors
    /// What `ready` returned.
    pub(crate) fn copy(
        self,
        copied: impl FnOnce(),
        submit: impl FnMut(usize, Bytes),
    ) -> Result<()> {
        let Self {
            ready,
            mut segments,
            copies,
            chunks,
        } = self;
        ready.map_or(Ok(()), |ready| ready())?;
        let places: Vec<Place<Source<'_>>> = copies
            .iter()
            .map(|copy| Place {
                segment: copy.segment,
                offset: copy.offset,
                bytes: copy.bytes,
                from: Source::Guarded {
                    memory: &copy.from,
                    offset: 0,
                },
            })
            .collect();
        copy_all(pieces(&mut segments, 0, &places), threads().div_ceil(2))?;
        drop(places);
        drop(copies);
        copied();
        hand_on(segments, 0, &chunks, submit);
        Ok(())
    }
}

/// Copies everything and calls `submit(chunk index, bytes)` for every chunk, in order of segments; `in_turns()` before, if there is not memory for all at once.
///
/// # Errors
/// What reading a file, or `ready`, returned.
pub(crate) fn stage(
    arena: &Arc<Arena>,
    draft: &Draft<'_>,
    if_busy: IfBusy,
    mut ready: Option<Ready>,
    mut submit: impl FnMut(usize, Bytes),
    mut in_turns: impl FnMut(),
) -> Result<Staged> {
    if draft.bytes <= SMALL_BYTES {
        await_ready(&mut ready)?;
        return stage_small(draft, submit).map(|()| Staged::Whole);
    }
    let (places, total) = lay_out(&draft.chunk_bytes, SEGMENT_BYTES);
    let mut copies: Vec<Place<Source<'_>>> = draft
        .copies
        .iter()
        .map(|(extent, source)| {
            let (segment, start) = places[extent.chunk as usize];
            Place {
                segment,
                offset: start + extent.offset,
                bytes: extent.bytes,
                from: *source,
            }
        })
        .collect();
    copies.sort_by_key(|copy| (copy.segment, copy.offset));
    let mut chunks: Vec<Chunk> = places
        .iter()
        .enumerate()
        .map(|(index, &(segment, start))| Chunk {
            index,
            segment,
            range: start as usize..(start + draft.chunk_bytes[index]) as usize,
        })
        .collect();
    chunks.sort_by_key(|chunk| chunk.segment);

    if if_busy == IfBusy::Skip && !arena.has_room(total) {
        return Ok(Staged::NoMemory);
    }
    let mut done = 0;
    let mut rest = copies.as_slice();
    while done < total {
        let mut segments = arena.lend(total - done, total, Instant::now() + MAX_WAIT);
        if segments.is_empty() {
            return Ok(Staged::NoMemory);
        }
        if segments.len() == total {
            let (now, later) = split(copies);
            copy_all(pieces(&mut segments, 0, &now), threads())?;
            if later.is_empty() {
                await_ready(&mut ready)?;
                hand_on(segments, 0, &chunks, submit);
                return Ok(Staged::Whole);
            }
            return Ok(Staged::Rest(Rest {
                ready,
                segments,
                copies: later,
                chunks,
            }));
        }
        await_ready(&mut ready)?;
        if segments.len() < total - done {
            in_turns();
        }
        let end = done + segments.len();
        let turn = rest.partition_point(|copy| copy.segment < end);
        copy_all(pieces(&mut segments, done, &rest[..turn]), threads())?;
        rest = &rest[turn..];
        let first = chunks.partition_point(|chunk| chunk.segment < done);
        let last = chunks.partition_point(|chunk| chunk.segment < end);
        hand_on(segments, done, &chunks[first..last], &mut submit);
        done = end;
    }
    Ok(Staged::Whole)
}

fn await_ready(ready: &mut Option<Ready>) -> Result<()> {
    ready.take().map_or(Ok(()), |ready| ready())
}

/// What has to be copied at once, and what may be copied later; both in order.
fn split(copies: Vec<Place<Source<'_>>>) -> (Vec<Place<Source<'_>>>, Vec<Place<Bytes>>) {
    let mut now = Vec::new();
    let mut later = Vec::new();
    for copy in copies {
        match copy.from {
            Source::Guarded { memory, offset } => later.push(Place {
                segment: copy.segment,
                offset: copy.offset,
                bytes: copy.bytes,
                from: memory.slice(offset..offset + copy.bytes as usize),
            }),
            Source::Memory(_) | Source::File { .. } => now.push(copy),
        }
    }
    (now, later)
}

/// The copies into `segments`, the first of which is number `first`. They are in order and do not overlap; there may be space between them.
fn pieces<'s, 'a: 's>(
    segments: &'s mut [Segment],
    first: usize,
    copies: &[Place<Source<'a>>],
) -> Vec<Piece<'s>> {
    let mut pieces = Vec::with_capacity(copies.len());
    let mut copies = copies.iter().peekable();
    for (index, segment) in segments.iter_mut().enumerate() {
        let mut memory = segment.memory();
        let mut filled = 0;
        while let Some(copy) = copies.next_if(|copy| copy.segment == first + index) {
            let room = std::mem::take(&mut memory);
            let behind = room.split_at_mut((copy.offset - filled) as usize).1;
            let (to, behind) = behind.split_at_mut(copy.bytes as usize);
            memory = behind;
            filled = copy.offset + copy.bytes;
            pieces.push(Piece {
                from: copy.from,
                to,
            });
        }
    }
    pieces
}

/// Hands on the chunks in `segments`, the first of which is number `first`.
fn hand_on(
    segments: Vec<Segment>,
    first: usize,
    chunks: &[Chunk],
    mut submit: impl FnMut(usize, Bytes),
) {
    let mut chunks = chunks.iter().peekable();
    for (index, segment) in segments.into_iter().enumerate() {
        let memory = segment.freeze();
        while let Some(chunk) = chunks.next_if(|chunk| chunk.segment == first + index) {
            submit(chunk.index, memory.slice(chunk.range.clone()));
        }
    }
}

fn stage_small(draft: &Draft<'_>, mut submit: impl FnMut(usize, Bytes)) -> Result<()> {
    let mut chunks: Vec<Vec<u8>> = draft
        .chunk_bytes
        .iter()
        .map(|&bytes| vec![0; bytes as usize])
        .collect();
    for (extent, from) in &draft.copies {
        let start = extent.offset as usize;
        let to = &mut chunks[extent.chunk as usize][start..start + extent.bytes as usize];
        copy_all(vec![Piece { from: *from, to }], 1)?;
    }
    for (index, chunk) in chunks.into_iter().enumerate() {
        submit(index, Bytes::from(chunk));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::draft::Inputs;
    use super::super::request::{EntrySource, TensorSource};
    use super::*;
    use runtree_core::state::{Dtype, StateNode};

    #[test]
    fn a_state_larger_than_the_arena_is_staged_in_turns_and_arrives_whole() {
        let arena = Arena::new(2 * SEGMENT_BYTES);
        let data: Vec<u8> = (0..(210_u32 << 20)).map(|i| (i >> 12) as u8).collect();
        let entry = EntrySource::State {
            path: "state".to_owned(),
            tree: StateNode::None,
            tensors: vec![TensorSource {
                name: "w".to_owned(),
                dtype: Dtype::U8,
                shape: vec![data.len() as u64],
                global_shape: None,
                global_offset: None,
                data: data.as_slice().into(),
            }],
            blobs: Vec::new(),
        };
        let mut inputs = Inputs::take(vec![entry]).unwrap();
        let trees = inputs.take_trees();
        let draft = inputs.draft(trees).unwrap();
        let (sender, receiver) = mpsc::channel::<(usize, Bytes)>();
        std::thread::scope(|scope| {
            // The writers: each chunk's memory goes back when it was compared.
            let writer = scope.spawn(|| {
                let mut seen = 0;
                for (index, bytes) in receiver {
                    let start = index * SEGMENT_BYTES as usize;
                    assert!(bytes == data[start..start + bytes.len()]);
                    seen += bytes.len();
                }
                seen
            });
            let mut turns = 0;
            let submit = |index, bytes| sender.send((index, bytes)).unwrap();
            let staged = stage(&arena, &draft, IfBusy::Wait, None, submit, || turns += 1).unwrap();
            assert!(matches!(staged, Staged::Whole));
            assert!(turns > 0);
            drop(sender);
            assert_eq!(writer.join().unwrap(), data.len());
        });
    }
}
