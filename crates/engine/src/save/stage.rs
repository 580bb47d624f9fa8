//! Staging: a draft's bytes into memory of our own, chunk by chunk handed on as soon as no copy is left that competes with hashing.
//!
//! What its owner may change at once is copied before [`stage`] returns. Guarded memory is left to [`Rest`], if there is staging memory for the whole
//! save right now: turns need the trainer's patience anyway.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::Result;
use runtree_shm::Room;

use super::arena::{Arena, SEGMENT_BYTES, Segment};
use super::copy::{Piece, Source, copy_all, threads};
use super::draft::Draft;
use super::outlive::{Held, StagedPlace};
use super::plan::lay_out;
use super::request::{IfBusy, Ready};

/// Longest wait for staging memory; then the save is skipped (the one exception to "training goes on").
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// A state up to this size gets memory of its own: a segment would be wasted on it.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

/// Where staged chunks go.
pub(crate) trait Sink {
    /// There is not memory for the whole save at once: it comes in turns, and needs every segment back soon.
    fn in_turns(&self);
    /// All of the save lies in memory that may outlive the process. Comes before its first chunk, if it comes.
    fn hold(&self, held: Held);
    /// Chunk `index`.
    fn submit(&self, index: usize, bytes: Bytes);
}

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
    /// Copies it and submits every chunk of the save; calls `copied()` between, when nothing is read from guarded memory any more.
    ///
    /// Half of the threads: the trainer computes meanwhile, and a step takes longer than a copy.
    ///
    /// # Errors
    /// What `ready` returned.
    pub(crate) fn copy(self, copied: impl FnOnce(), sink: &impl Sink) -> Result<()> {
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
        hand_on_whole(segments, &chunks, sink);
        Ok(())
    }
}

/// Copies everything and submits every chunk, in order of segments.
///
/// # Errors
/// What reading a file, or `ready`, returned.
pub(crate) fn stage(
    arena: &Arc<Arena>,
    draft: &Draft<'_>,
    if_busy: IfBusy,
    mut ready: Option<Ready>,
    sink: &impl Sink,
) -> Result<Staged> {
    if draft.bytes <= SMALL_BYTES {
        await_ready(&mut ready)?;
        return stage_small(draft, sink).map(|()| Staged::Whole);
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
                hand_on_whole(segments, &chunks, sink);
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
            sink.in_turns();
        }
        let end = done + segments.len();
        let turn = rest.partition_point(|copy| copy.segment < end);
        copy_all(pieces(&mut segments, done, &rest[..turn]), threads())?;
        rest = &rest[turn..];
        let first = chunks.partition_point(|chunk| chunk.segment < done);
        let last = chunks.partition_point(|chunk| chunk.segment < end);
        hand_on(freeze(segments), done, &chunks[first..last], sink);
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

/// Hands on all chunks of a save, whose segments these are.
fn hand_on_whole(segments: Vec<Segment>, chunks: &[Chunk], sink: &impl Sink) {
    let place = names_of(&segments);
    let memory = freeze(segments);
    if let Some((room, names)) = place {
        let mut places = vec![StagedPlace::default(); chunks.len()];
        for chunk in chunks {
            places[chunk.index] = StagedPlace {
                segment: chunk.segment as u32,
                offset: chunk.range.start as u64,
                bytes: chunk.range.len() as u64,
            };
        }
        sink.hold(Held {
            room,
            memory: memory.clone(),
            names,
            places,
        });
    }
    hand_on(memory, 0, chunks, sink);
}

/// What the next process finds segments by, if all of them lie in one room.
fn names_of(segments: &[Segment]) -> Option<(Arc<Room>, Vec<String>)> {
    let (room, _) = segments.first()?.name()?;
    let names = segments.iter().map(|segment| {
        let (other, name) = segment.name()?;
        Arc::ptr_eq(room, other).then(|| name.to_owned())
    });
    Some((Arc::clone(room), names.collect::<Option<_>>()?))
}

fn freeze(segments: Vec<Segment>) -> Vec<Bytes> {
    segments.into_iter().map(Segment::freeze).collect()
}

/// Hands on the chunks in segments, the first of which is number `first`. Each is let go of as soon as its chunks are handed on.
fn hand_on(segments: Vec<Bytes>, first: usize, chunks: &[Chunk], sink: &impl Sink) {
    let mut chunks = chunks.iter().peekable();
    for (index, memory) in segments.into_iter().enumerate() {
        while let Some(chunk) = chunks.next_if(|chunk| chunk.segment == first + index) {
            sink.submit(chunk.index, memory.slice(chunk.range.clone()));
        }
    }
}

fn stage_small(draft: &Draft<'_>, sink: &impl Sink) -> Result<()> {
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
        sink.submit(index, Bytes::from(chunk));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use super::super::draft::Inputs;
    use super::super::request::{EntrySource, TensorSource};
    use super::*;
    use runtree_core::state::{Dtype, StateNode};

    struct ToWriter {
        sender: mpsc::Sender<(usize, Bytes)>,
        turns: Cell<u32>,
    }

    impl Sink for ToWriter {
        fn in_turns(&self) {
            self.turns.set(self.turns.get() + 1);
        }

        fn hold(&self, _held: Held) {
            panic!("what comes in turns can not be held");
        }

        fn submit(&self, index: usize, bytes: Bytes) {
            self.sender.send((index, bytes)).unwrap();
        }
    }

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
            let sink = ToWriter {
                sender,
                turns: Cell::new(0),
            };
            let staged = stage(&arena, &draft, IfBusy::Wait, None, &sink).unwrap();
            assert!(matches!(staged, Staged::Whole));
            assert!(sink.turns.get() > 0);
            drop(sink);
            assert_eq!(writer.join().unwrap(), data.len());
        });
    }
}
