//! The part of a save that the trainer waits for: bytes into staging memory, on several threads.
//!
//! Work is cut into pieces of at most [`PIECE_BYTES`] and dealt in batches of about that size, so that one huge tensor is copied by all threads
//! and ten thousand small ones cost ten batches. The calling thread works too: a small state starts no thread at all.

use std::fs::File;
use std::num::NonZero;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use runtree_core::{Error, Result};

use crate::parallel::work_off;

/// Most bytes of a piece, and about the bytes of a batch.
pub(crate) const PIECE_BYTES: usize = 4 << 20;
/// More threads than this do not copy faster on the machines we know: memory is the limit.
const MAX_THREADS: usize = 8;

/// Where staged bytes come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Memory of the caller.
    Memory(&'a [u8]),
    /// Memory that its owner leaves alone until it is copied: bytes from `offset` on.
    Guarded {
        /// The whole of it.
        memory: &'a Bytes,
        /// First byte.
        offset: usize,
    },
    /// A file from `offset` on.
    File {
        /// The file.
        path: &'a Path,
        /// First byte.
        offset: u64,
    },
}

/// A copy to be made: `to` is filled completely.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// From here.
    pub(crate) from: Source<'a>,
    /// To here.
    pub(crate) to: &'a mut [u8],
}

/// Makes all copies, on at most `threads` threads: as many as pay.
///
/// # Errors
/// `Unavailable` if a file can not be read; `Conflict` if it became shorter.
pub(crate) fn copy_all(pieces: Vec<Piece<'_>>, threads: usize) -> Result<()> {
    let total: usize = pieces.iter().map(|piece| piece.to.len()).sum();
    let batches = deal(pieces);
    let threads = threads.min(total / PIECE_BYTES + 1);
    work_off(
        batches,
        threads,
        "copying",
        || (),
        |(), batch| batch.into_iter().try_for_each(copy),
    )
    .map(drop)
}

/// Threads that this machine copies, hashes or reads with. Asked for once: the answer is in a dozen files of control groups.
pub(crate) fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MAX_THREADS)
    })
}

fn deal(pieces: Vec<Piece<'_>>) -> Vec<Vec<Piece<'_>>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    for mut piece in pieces {
        while !piece.to.is_empty() {
            let count = piece.to.len().min(PIECE_BYTES - batch_bytes);
            let (first, rest) = piece.split(count);
            batch_bytes += count;
            batch.push(first);
            piece = rest;
            if batch_bytes == PIECE_BYTES {
                batches.push(std::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

impl<'a> Piece<'a> {
    fn split(self, at: usize) -> (Piece<'a>, Piece<'a>) {
        let (from_first, from_rest) = match self.from {
            Source::Memory(bytes) => {
                let (first, rest) = bytes.split_at(at);
                (Source::Memory(first), Source::Memory(rest))
            }
            Source::Guarded { memory, offset } => (
                Source::Guarded { memory, offset },
                Source::Guarded {
                    memory,
                    offset: offset + at,
                },
            ),
            Source::File { path, offset } => (
                Source::File { path, offset },
                Source::File {
                    path,
                    offset: offset + at as u64,
                },
            ),
        };
        let (to_first, to_rest) = self.to.split_at_mut(at);
        (
            Piece {
                from: from_first,
                to: to_first,
            },
            Piece {
                from: from_rest,
                to: to_rest,
            },
        )
    }
}

fn copy(piece: Piece<'_>) -> Result<()> {
    match piece.from {
        Source::Memory(bytes) => {
            piece.to.copy_from_slice(bytes);
            Ok(())
        }
        Source::Guarded { memory, offset } => {
            piece
                .to
                .copy_from_slice(&memory[offset..offset + piece.to.len()]);
            Ok(())
        }
        Source::File { path, offset } => {
            let file = open_nofollow(path)?;
            file.read_exact_at(piece.to, offset).map_err(|error| {
                if error.kind() == std::io::ErrorKind::UnexpectedEof {
                    Error::conflict(format!(
                        "file {} became shorter while it was saved",
                        path.display()
                    ))
                } else {
                    Error::unavailable(format!("can not read {}", path.display()))
                        .with_source(error)
                }
            })
        }
    }
}

/// Opens a regular file for reading; a link that took its place since it was looked at is refused by the kernel.
pub(crate) fn open_nofollow(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(|error| {
            Error::unavailable(format!("can not open {}", path.display())).with_source(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_every_size_arrive_whole() {
        let from: Vec<u8> = (0..40_000_003_u32).map(|i| (i % 251) as u8).collect();
        let mut to = vec![0; from.len()];
        let mut pieces = Vec::new();
        let (mut source, mut target) = (from.as_slice(), to.as_mut_slice());
        for size in [0, 1, 20 << 20, 4097, usize::MAX] {
            let size = size.min(source.len());
            let (a, b) = source.split_at(size);
            let (c, d) = std::mem::take(&mut target).split_at_mut(size);
            pieces.push(Piece {
                from: Source::Memory(a),
                to: c,
            });
            (source, target) = (b, d);
        }
        copy_all(pieces, threads()).unwrap();
        assert!(to == from);
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_and_not_old_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        std::fs::write(&path, b"four").unwrap();
        let mut to = [0; 5];
        let piece = Piece {
            from: Source::File {
                path: &path,
                offset: 0,
            },
            to: &mut to,
        };
        let error = copy_all(vec![piece], 1).unwrap_err();
        assert_eq!(error.kind(), runtree_core::ErrorKind::Conflict);
    }
}
