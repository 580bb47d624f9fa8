//! Long byte strings in order, with bounded memory: what export, downloads and comparisons read.

use runtree_core::Result;
use runtree_core::manifest::Extent;

use super::{LoadedManifest, ReadJob};
use crate::engine::Engine;

/// Most bytes that a stream holds at a time.
pub(crate) const WINDOW_BYTES: u64 = 32 << 20;

/// The part of `extents` that holds `bytes` bytes from byte `offset` on; what is beyond the end is left out.
pub(crate) fn slice(extents: &[Extent], offset: u64, bytes: u64) -> Vec<Extent> {
    let end = offset.saturating_add(bytes);
    let mut at = 0_u64;
    let mut found = Vec::new();
    for extent in extents {
        let (start, stop) = (at, at.saturating_add(extent.bytes));
        at = stop;
        let (from, to) = (offset.max(start), end.min(stop));
        if from < to {
            found.push(Extent {
                chunk: extent.chunk,
                offset: extent.offset + (from - start),
                bytes: to - from,
            });
        }
    }
    found
}

/// A piece of a chunk of one of the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartExtent {
    /// Index of the part.
    pub(crate) part: usize,
    /// What of it.
    pub(crate) extent: Extent,
}

/// Extents of one part.
pub(crate) fn of_part(part: usize, extents: &[Extent]) -> impl Iterator<Item = PartExtent> {
    extents
        .iter()
        .map(move |&extent| PartExtent { part, extent })
}

/// Bytes in order, cut into windows of at most `most` bytes: where each begins among all bytes, and what is in it.
pub(crate) fn windows(pieces: &[PartExtent], most: u64) -> Vec<(u64, Vec<PartExtent>)> {
    let mut found = Vec::new();
    let (mut start, mut held) = (0, 0);
    let mut window: Vec<PartExtent> = Vec::new();
    for piece in pieces {
        let PartExtent { part, mut extent } = *piece;
        while extent.bytes > 0 {
            let bytes = extent.bytes.min(most - held);
            window.push(PartExtent {
                part,
                extent: Extent { bytes, ..extent },
            });
            extent.offset += bytes;
            extent.bytes -= bytes;
            held += bytes;
            if held == most {
                found.push((start, std::mem::take(&mut window)));
                start += held;
                held = 0;
            }
        }
    }
    if held > 0 {
        found.push((start, window));
    }
    found
}

impl Engine {
    /// Hands the bytes of `pieces` to `write`, in order, verified, a window at a time.
    ///
    /// # Errors
    /// What reading or `write` returned.
    pub(crate) fn stream(
        &self,
        manifest: &LoadedManifest,
        pieces: &[PartExtent],
        what: &str,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = Vec::new();
        for (_, window) in windows(pieces, WINDOW_BYTES) {
            self.read_window(manifest, &window, what, 0, &mut buffer)?;
            write(&buffer)?;
        }
        Ok(())
    }

    /// Reads the bytes of one window, verified, on up to `threads` threads (0: as many as there are processors).
    ///
    /// # Errors
    /// As [`Engine::read_tensors`].
    pub(crate) fn read_window(
        &self,
        manifest: &LoadedManifest,
        window: &[PartExtent],
        what: &str,
        threads: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let bytes: u64 = window.iter().map(|piece| piece.extent.bytes).sum();
        buffer.resize(bytes as usize, 0);
        let groups: Vec<(usize, Vec<Extent>)> = window
            .chunk_by(|a, b| a.part == b.part)
            .map(|group| {
                (
                    group[0].part,
                    group.iter().map(|piece| piece.extent).collect(),
                )
            })
            .collect();
        let mut rest = buffer.as_mut_slice();
        let mut jobs = Vec::with_capacity(groups.len());
        for (part, extents) in &groups {
            let bytes: u64 = extents.iter().map(|extent| extent.bytes).sum();
            let (into, behind) = std::mem::take(&mut rest).split_at_mut(bytes as usize);
            rest = behind;
            jobs.push(ReadJob {
                part: *part,
                extents,
                what,
                into,
            });
        }
        self.read_tensors(manifest, jobs, threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_extents_is_the_slice_of_their_bytes() {
        let extents = [
            Extent {
                chunk: 0,
                offset: 10,
                bytes: 5,
            },
            Extent {
                chunk: 3,
                offset: 0,
                bytes: 7,
            },
        ];
        assert_eq!(slice(&extents, 0, 12), extents);
        assert_eq!(
            slice(&extents, 4, 3),
            [
                Extent {
                    chunk: 0,
                    offset: 14,
                    bytes: 1
                },
                Extent {
                    chunk: 3,
                    offset: 0,
                    bytes: 2
                }
            ]
        );
        assert_eq!(
            slice(&extents, 11, 9),
            [Extent {
                chunk: 3,
                offset: 6,
                bytes: 1
            }]
        );
        assert!(slice(&extents, 12, 9).is_empty());
    }
}
