//! Staging: a draft's bytes into memory of our own, chunk by chunk handed on as soon as no copy is left that competes with hashing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use runtree_core::Result;

use super::arena::{Arena, SEGMENT_BYTES};
use super::copy::{Piece, Source, copy_all};
use super::draft::Draft;
use super::plan::lay_out;
use super::request::IfBusy;

/// Longest wait for staging memory; then the save is skipped (the one exception to "training goes on").
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);
/// A state up to this size gets memory of its own: a segment would be wasted on it.
pub(crate) const SMALL_BYTES: u64 = 1 << 20;

/// What became of staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    /// Every chunk was handed on.
    Whole,
    /// No memory came free in time; some chunks may have been handed on.
    NoMemory,
}

/// Copies everything and calls `submit(chunk index, bytes)` for every chunk, in order of segments; `in_turns()` before, if there is not memory for all at once.
///
/// # Errors
/// What reading a file returned.
pub(crate) fn stage(
    arena: &Arc<Arena>,
    draft: &Draft<'_>,
    if_busy: IfBusy,
    mut submit: impl FnMut(usize, Bytes),
    mut in_turns: impl FnMut(),
) -> Result<Staged> {
    if draft.bytes <= SMALL_BYTES {
        return stage_small(draft, submit).map(|()| Staged::Whole);
    }
    let (places, total) = lay_out(&draft.chunk_bytes, SEGMENT_BYTES);
    let mut copies: Vec<(usize, u64, u64, Source<'_>)> = draft
        .copies
        .iter()
        .map(|(extent, source)| {
            let (segment, start) = places[extent.chunk as usize];
            (segment, start + extent.offset, extent.bytes, *source)
        })
        .collect();
    copies.sort_by_key(|&(segment, offset, ..)| (segment, offset));
    let mut chunks_of: Vec<Vec<usize>> = vec![Vec::new(); total];
    for (chunk, &(segment, _)) in places.iter().enumerate() {
        chunks_of[segment].push(chunk);
    }

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
        if segments.len() < total - done {
            in_turns();
        }
        let end = done + segments.len();
        let turn = rest.partition_point(|&(segment, ..)| segment < end);
        let mut pieces = Vec::with_capacity(turn);
        let mut of_turn = rest[..turn].iter().peekable();
        for (index, segment) in segments.iter_mut().enumerate() {
            let mut memory = segment.memory();
            let mut filled = 0;
            while let Some(&&(at, offset, bytes, from)) = of_turn.peek() {
                if at != done + index {
                    break;
                }
                // Chunks have no holes, but there is some space between them.
                let room = std::mem::take(&mut memory);
                let behind = room.split_at_mut((offset - filled) as usize).1;
                let (to, behind) = behind.split_at_mut(bytes as usize);
                memory = behind;
                filled = offset + bytes;
                pieces.push(Piece { from, to });
                of_turn.next();
            }
        }
        copy_all(pieces)?;
        rest = &rest[turn..];
        for (index, segment) in segments.into_iter().enumerate() {
            let memory = segment.freeze();
            for &chunk in &chunks_of[done + index] {
                let start = places[chunk].1 as usize;
                submit(
                    chunk,
                    memory.slice(start..start + draft.chunk_bytes[chunk] as usize),
                );
            }
        }
        done = end;
    }
    Ok(Staged::Whole)
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
        copy_all(vec![Piece { from: *from, to }])?;
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
                data: &data,
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
            let staged = stage(&arena, &draft, IfBusy::Wait, submit, || turns += 1).unwrap();
            assert_eq!(staged, Staged::Whole);
            assert!(turns > 0);
            drop(sender);
            assert_eq!(writer.join().unwrap(), data.len());
        });
    }
}
